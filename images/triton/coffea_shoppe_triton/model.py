"""An XGBoost model in Triton's Python backend, with the tensors of the FIL backend.

The folder of a model's version contains `model.ubj` or `model.json`, as XGBoost writes them,
and a `model.py` that imports this module.  Classifiers return `predict_proba` of
scikit-learn's interface, all others `predict`; the model's configuration contains the method and
the number of boosting rounds.
Source: Triton's Python backend (`triton_python_backend_utils`, which it provides).
"""

import json
from pathlib import Path
from typing import Any

import triton_python_backend_utils as backend
import xgboost

INPUT, OUTPUT = "input__0", "output__0"
MODEL_FILES = ("model.ubj", "model.json")
METHOD, ROUNDS = "xgboost.method", "xgboost.rounds"
"""Names of parameters in the model's configuration."""


class TritonPythonModel:
    """Scores rows of features: FP32 [rows, features] in, FP32 [rows, outputs] out."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model.  Raises `ValueError` where its number of features is not configured."""
        folder = Path(args["model_repository"]) / args["model_version"]
        (path,) = (folder / name for name in MODEL_FILES if (folder / name).exists())
        # One thread: more would spin on the cores that other models share.
        self.booster = xgboost.Booster({"nthread": 1}, model_file=str(path))
        config = json.loads(args["model_config"])
        (features,) = (int(n) for n in config["input"][0]["dims"])
        if self.booster.num_features() != features:
            expected = self.booster.num_features()
            raise ValueError(
                f"the model takes {expected} features, its configuration says {features}"
            )
        (self.outputs,) = (int(n) for n in config["output"][0]["dims"])
        parameters = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}
        # Without the parameter, an earlier release has served it, and it keeps its one column.
        self.probabilities = parameters.get(METHOD) == "predict_proba"
        self.rounds = int(parameters.get(ROUNDS, "0"))
        learner = json.loads(self.booster.save_config())["learner"]
        self.linear = learner["gradient_booster"]["name"] == "gblinear"
        self.softmax = learner["objective"]["name"] == "multi:softmax" and self.probabilities

    def execute(self, requests: list[Any]) -> list[Any]:
        """Score the rows of several requests together.

        Raises `ValueError` where the shape of the scores is not the configured one.
        """
        import numpy as np

        rows = [backend.get_input_tensor_by_name(r, INPUT).as_numpy() for r in requests]
        scores = self._scores(np.concatenate(rows))
        # Otherwise a request would get the rows of another request.
        if scores.shape != (sum(map(len, rows)), self.outputs):
            raise ValueError(f"the model returns {scores.shape[1]} columns: serve it again")
        ends = np.cumsum([len(part) for part in rows])[:-1]
        return [
            backend.InferenceResponse([backend.Tensor(OUTPUT, part.astype(np.float32))])
            for part in np.split(scores, ends)
        ]

    def _scores(self, rows: Any) -> Any:
        """Return the scores of rows: (rows, outputs)."""
        import numpy as np

        scores = self._predict(rows)
        if self.softmax:
            scores = np.exp(scores - scores.max(axis=1, keepdims=True))
            return scores / scores.sum(axis=1, keepdims=True)
        if self.probabilities and scores.shape[1] == 1:
            return np.hstack([1 - scores, scores])
        return scores

    def _predict(self, rows: Any) -> Any:
        limits = {"iteration_range": (0, self.rounds), "strict_shape": True}
        if self.linear:
            matrix = xgboost.DMatrix(rows, nthread=1)
            return self.booster.predict(
                matrix, output_margin=self.softmax, validate_features=False, **limits
            )
        kind = "margin" if self.softmax else "value"
        return self.booster.inplace_predict(rows, predict_type=kind, **limits)
