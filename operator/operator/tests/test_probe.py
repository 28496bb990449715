"""The probe that the operator sends to Triton, and the check of its scores."""

import base64
import json
import re
from array import array
from typing import Any

import pytest
import requests
from coffea_shoppe_operator.adapters.triton import TritonSettings
from coffea_shoppe_operator.boosters import Inspected
from coffea_shoppe_operator.clients.triton import HEADER_LENGTH, Triton
from coffea_shoppe_operator.errors import ModelError

NAN = float("nan")
ROWS, OWN = [0.5, NAN, 1.5, 2.5], [0.25, 0.75, 0.5, 0.5]


def encoded(values: list[float]) -> str:
    return base64.b64encode(array("f", values).tobytes()).decode()


INSPECTED = Inspected.model_validate(
    {
        "method": "predict_proba",
        "objective": "binary:logistic",
        "outputs": 2,
        "rounds": 3,
        "features": 2,
        "names": [],
        "rows": 2,
        "probe": encoded(ROWS),
        "scores": encoded(OWN),
        "cut": "",
    }
)


def probe(monkeypatch: pytest.MonkeyPatch, shape: list[int], scores: list[float]) -> Any:
    """Send the probe to a Triton that returns `scores`; return its request."""
    asked: dict[str, Any] = {}

    def request(method: str, url: str, **options: Any) -> requests.Response:
        asked.update(options, url=url)
        head = json.dumps({"outputs": [{"name": "output__0", "shape": shape}]}).encode()
        response = requests.Response()
        response.status_code = 200
        response.headers[HEADER_LENGTH] = str(len(head))
        response._content = head + array("f", scores).tobytes()
        return response

    monkeypatch.setattr(requests, "request", request)
    triton = Triton(TritonSettings(endpoint="http://triton:8000", bucket="models"))
    triton.probe("ann.bdt", "3", INSPECTED, "token")
    return asked


def test_the_probe_is_binary_so_that_missing_values_arrive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = probe(monkeypatch, [2, 2], OWN)
    assert asked["url"] == "http://triton:8000/v2/models/ann.bdt/versions/3/infer"
    length = int(asked["headers"][HEADER_LENGTH])
    (tensor,) = json.loads(asked["data"][:length])["inputs"]
    assert tensor["shape"] == [2, 2]
    assert asked["data"][length:] == array("f", ROWS).tobytes()


@pytest.mark.parametrize(
    ("shape", "scores", "message"),
    [
        ([4, 1], OWN, "the shape is [4, 1] instead of [2, 2]"),
        ([2, 2], [0.25, 0.75, 0.4, 0.6], "row 1 of the probe"),
        ([2, 2], [0.5, 0.5, 0.25, 0.75], "row 0 of the probe"),
        ([2, 2], [0.25, 0.75, NAN, 0.5], "scores nan"),
        ([2, 2], OWN[:2], "2 scores instead of 4"),
        ([2, 2], [0.250002, 0.75, 0.5, 0.5], "row 0"),
    ],
)
def test_scores_that_differ_from_the_model_s_fail(
    monkeypatch: pytest.MonkeyPatch, shape: list[int], scores: list[float], message: str
) -> None:
    with pytest.raises(ModelError, match=re.escape(message)) as refused:
        probe(monkeypatch, shape, scores)
    assert refused.value.reason == "DifferentScores"


def test_rounding_is_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    probe(monkeypatch, [2, 2], [0.2500005, 0.7499995, 0.5, 0.5])
