"""The analysis reads the right column of the served scores."""

from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
from agc.assignment import FEATURES
from agc.inference import ServedModels

ROWS = np.zeros((5, len(FEATURES)), np.float32)
SCORES = np.linspace(0, 1, len(ROWS), dtype=np.float32)


@pytest.mark.parametrize(
    "output",
    [np.stack([1 - SCORES, SCORES], axis=1), SCORES[:, None]],
    ids=["probabilities", "one column"],
)
def test_a_score_is_the_probability_to_be_right(
    monkeypatch: pytest.MonkeyPatch, output: Any
) -> None:
    class Client:
        def __init__(self, address: str) -> None: ...

        def __enter__(self) -> "Client":
            return self

        def __exit__(self, *_: object) -> None: ...

        def infer(self, name: str, tensors: list[Any], **options: Any) -> Any:
            return self

        def as_numpy(self, name: str) -> Any:
            return output

    monkeypatch.setattr(tritonclient.grpc, "InferenceServerClient", Client)
    scorer = ServedModels({"odd": "ann.agc-odd"}, lambda: ("triton:8001", {}))
    np.testing.assert_array_equal(scorer("odd", ROWS), SCORES)
