"""Models of Triton, through its reverse proxy (the KServe protocol over HTTP, and extensions)."""

import json
from collections.abc import Mapping

import requests

from coffea_shoppe_operator.adapters.triton import TritonSettings
from coffea_shoppe_operator.boosters import Inspected
from coffea_shoppe_operator.errors import ModelError, StorageError, translate_errors
from coffea_shoppe_operator.models import Queue

TIMEOUT_S = 20
LOAD_S = 120
"""Time limit of loading a model."""
HEADER_LENGTH = "Inference-Header-Content-Length"
"""Header with the length of a body's JSON part, in bytes; binary tensors follow it."""

_translated = translate_errors("Triton", requests.RequestException)


class Triton:
    """The facility's Triton; each `token` is the operator's own."""

    def __init__(self, settings: TritonSettings) -> None:
        self.url = f"{settings.endpoint.rstrip('/')}/v2"

    def _send(
        self,
        method: str,
        path: str,
        token: str,
        *,
        timeout: float = TIMEOUT_S,
        body: object = None,
        raw_body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> requests.Response:
        response = requests.request(
            method,
            f"{self.url}/{path}",
            headers={"Authorization": f"Bearer {token}", **(headers or {})},
            json=body,
            data=raw_body,
            timeout=timeout,
        )
        if response.status_code in (401, 403) or response.status_code >= 500:
            raise StorageError(f"Triton: {path}: {response.status_code} {response.text[:200]}")
        return response

    @_translated
    def ready(self, model: str, version: str, token: str) -> bool:
        """Return whether a version of a model is served."""
        return self._send("GET", f"models/{model}/versions/{version}/ready", token).ok

    @_translated
    def load(self, model: str, token: str) -> None:
        """Load a model from the repository; raises `ModelError` where that fails."""
        path = f"repository/models/{model}/load"
        response = self._send("POST", path, token, timeout=LOAD_S, body={})
        if not response.ok:
            raise ModelError("LoadFailed", f"Triton: {_error_text(response)}")

    @_translated
    def probe(self, model: str, version: str, inspected: Inspected, token: str) -> None:
        """Score the probe; raises `ModelError` where Triton's output differs from the model's.

        Tensors are binary (an extension of KServe): JSON cannot represent NaN.
        """
        tensor = {
            "name": "input__0",
            "shape": [inspected.rows, inspected.features],
            "datatype": "FP32",
            "parameters": {"binary_data_size": len(inspected.probe)},
        }
        scores = {"name": "output__0", "parameters": {"binary_data": True}}
        header = json.dumps({"inputs": [tensor], "outputs": [scores]}).encode()
        path = f"models/{model}/versions/{version}/infer"
        length = {HEADER_LENGTH: str(len(header))}
        body = header + inspected.probe
        response = self._send("POST", path, token, raw_body=body, headers=length)
        if not response.ok:
            raise ModelError("ProbeFailed", f"Triton: {_error_text(response)}")
        start = int(response.headers.get(HEADER_LENGTH, len(response.content)))
        (output,) = json.loads(response.content[:start])["outputs"]
        if difference := inspected.differs(output["shape"], response.content[start:]):
            raise ModelError(
                "DifferentScores", f"Triton does not score as the model does: {difference}"
            )

    @_translated
    def queue(self, token: str) -> Queue:
        """Return the queueing so far, of all models of all replicas."""
        response = self._send("GET", "models/stats", token)
        if not response.ok:
            raise StorageError(f"Triton: models/stats: {_error_text(response)}")
        models = response.json()["model_stats"]
        queues = [model["inference_stats"]["queue"] for model in models]
        # Triton omits zeros.
        count = sum(int(queue.get("count", 0)) for queue in queues)
        return Queue(count, sum(int(queue.get("ns", 0)) for queue in queues) * 1e-9)

    @_translated
    def unload(self, model: str, token: str) -> None:
        """Unload a model; one that is not loaded is not an error."""
        self._send("POST", f"repository/models/{model}/unload", token, body={})


def _error_text(response: requests.Response) -> str:
    try:
        return str(response.json()["error"])[:500]
    except (ValueError, KeyError, TypeError):
        return f"{response.status_code} {response.text[:200]}"
