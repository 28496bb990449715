"""Models as the operator has them served: inspected, configured, and run by Triton's backend.

Triton's Python backend is stood in for by the few classes that `model.py` uses of it.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from coffea_shoppe_operator import builders, inspection
from coffea_shoppe_operator.boosters import Inspected
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

Rows = NDArray[np.float32]


@dataclass
class Tensor:
    """A named tensor of a request or a response."""

    name: str
    values: Rows

    def as_numpy(self) -> Rows:
        return self.values


@dataclass
class Response:
    """The response to a request."""

    tensors: list[Tensor] = field(default_factory=list)


backend = ModuleType("triton_python_backend_utils")
backend.Tensor = Tensor  # type: ignore[attr-defined]
backend.InferenceResponse = Response  # type: ignore[attr-defined]
backend.get_input_tensor_by_name = lambda request, name: request  # type: ignore[attr-defined]
sys.modules.setdefault("triton_python_backend_utils", backend)

from coffea_shoppe_triton.model import TritonPythonModel  # noqa: E402  (it imports the above)


def configuration(text: str) -> dict[str, Any]:
    """Return a config.pbtxt as Triton hands it to a model: its own parser reads it."""
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    return {
        "input": [{"dims": [str(n) for n in config.input[0].dims]}],
        "output": [{"dims": [str(n) for n in config.output[0].dims]}],
        "parameters": {
            key: {"string_value": value.string_value} for key, value in config.parameters.items()
        },
    }


@dataclass
class ServedHere:
    """A model as Triton would run it."""

    model: TritonPythonModel
    inspected: Inspected

    def ask(self, *requests: Rows) -> list[Rows]:
        """Return the scores of several requests that arrive in one batch."""
        asked = [Tensor("input__0", np.ascontiguousarray(r, np.float32)) for r in requests]
        return [response.tensors[0].values for response in self.model.execute(asked)]


def serve(folder: Path, data: bytes, file: str = "model.ubj") -> ServedHere:
    """Serve a model's file; raises `RefusedError` where the operator would refuse it.

    The inspection is called without its process, which takes a second to start.
    """
    inspected = Inspected.model_validate(inspection.inspect(data, file, cut=False))
    model = builders.TritonModel(
        name="ann.bdt",
        version="1",
        file=file,
        features=inspected.features,
        backend="python",
        parameters={},
        method=inspected.method,
        outputs=inspected.outputs,
        rounds=inspected.rounds,
    )
    for path, content in builders.triton_files(model, data).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    config = (folder / "ann.bdt" / "config.pbtxt").read_text()
    return ServedHere(load(folder / "ann.bdt", config), inspected)


def load(folder: Path, config: str) -> TritonPythonModel:
    """Load version 1 of a model in a folder, as Triton would by its configuration."""
    found = TritonPythonModel()
    found.initialize(
        {
            "model_repository": str(folder),
            "model_version": "1",
            "model_config": json.dumps(configuration(config)),
        }
    )
    return found
