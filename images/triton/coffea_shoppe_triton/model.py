"""An XGBoost model in Triton's Python backend, with the tensors of the FIL backend.

The folder of a model's version holds `model.ubj` or `model.json`, as XGBoost writes them,
and a `model.py` that imports this.
Source: Triton's Python backend (`triton_python_backend_utils`, which it provides).
"""

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as backend
import xgboost

INPUT, OUTPUT = "input__0", "output__0"
MODEL_FILES = ("model.ubj", "model.json")


class TritonPythonModel:
    """Scores rows of features: FP32 [rows, features] in, FP32 [rows, 1] out."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model; raises where it is none, or takes other features."""
        folder = Path(args["model_repository"]) / args["model_version"]
        (path,) = (folder / name for name in MODEL_FILES if (folder / name).exists())
        # One thread: more would spin on the cores that other models share.
        self.booster = xgboost.Booster({"nthread": 1}, model_file=str(path))
        config = json.loads(args["model_config"])
        (features,) = (int(n) for n in config["input"][0]["dims"])
        if self.booster.num_features() != features:
            raise ValueError(f"the model takes {self.booster.num_features()} features")

    def execute(self, requests: list[Any]) -> list[Any]:
        """Score the rows of several requests at once."""
        import numpy as np

        rows = [backend.get_input_tensor_by_name(r, INPUT).as_numpy() for r in requests]
        scores = self.booster.inplace_predict(np.concatenate(rows)).reshape(-1, 1)
        ends = np.cumsum([len(one) for one in rows])[:-1]
        return [
            backend.InferenceResponse([backend.Tensor(OUTPUT, part.astype(np.float32))])
            for part in np.split(scores, ends)
        ]
