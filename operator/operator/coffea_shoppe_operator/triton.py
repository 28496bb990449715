"""Models of Triton, through its front (the KServe protocol over HTTP, and extensions)."""

import requests

from coffea_shoppe_operator.errors import ModelError, StorageError, telling
from coffea_shoppe_operator.models import Queue, TritonSettings

TIMEOUT_S = 20
LOAD_S = 120
"""A load that takes longer has failed."""

_telling = telling("Triton", requests.RequestException)


class Triton:
    """The facility's Triton; each `token` is the operator's own."""

    def __init__(self, settings: TritonSettings) -> None:
        self.url = f"{settings.endpoint.rstrip('/')}/v2"

    def _send(
        self, method: str, path: str, token: str, *, timeout: float = TIMEOUT_S, body: object = None
    ) -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"}
        answer = requests.request(
            method, f"{self.url}/{path}", headers=headers, json=body, timeout=timeout
        )
        if answer.status_code in (401, 403) or answer.status_code >= 500:
            raise StorageError(f"Triton: {path}: {answer.status_code} {answer.text[:200]}")
        return answer

    @_telling
    def ready(self, model: str, version: str, token: str) -> bool:
        """Return whether a version of a model is served."""
        return self._send("GET", f"models/{model}/versions/{version}/ready", token).ok

    @_telling
    def load(self, model: str, token: str) -> None:
        """Load a model anew from the repository; raises `ModelError` where it cannot be."""
        path = f"repository/models/{model}/load"
        answer = self._send("POST", path, token, timeout=LOAD_S, body={})
        if not answer.ok:
            raise ModelError("LoadFailed", f"Triton: {_told(answer)}")

    @_telling
    def probe(self, model: str, version: str, features: int, token: str) -> None:
        """Score a row of zeros; raises `ModelError` where that fails."""
        row = {
            "name": "input__0",
            "shape": [1, features],
            "datatype": "FP32",
            "data": [0.0] * features,
        }
        path = f"models/{model}/versions/{version}/infer"
        answer = self._send("POST", path, token, body={"inputs": [row]})
        if not answer.ok:
            raise ModelError("ProbeFailed", f"Triton: {_told(answer)}")

    @_telling
    def queue(self, token: str) -> Queue:
        """Return how long requests have waited so far, in all models of all replicas."""
        answer = self._send("GET", "models/stats", token)
        if not answer.ok:
            raise StorageError(f"Triton: models/stats: {_told(answer)}")
        waits = [one["inference_stats"]["queue"] for one in answer.json()["model_stats"]]
        # Triton leaves out what is zero.
        count = sum(int(wait.get("count", 0)) for wait in waits)
        return Queue(count, sum(int(wait.get("ns", 0)) for wait in waits) * 1e-9)

    @_telling
    def unload(self, model: str, token: str) -> None:
        """Stop serving a model; one that is not served is no error."""
        self._send("POST", f"repository/models/{model}/unload", token, body={})


def _told(answer: requests.Response) -> str:
    try:
        return str(answer.json()["error"])[:500]
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.text[:200]}"
