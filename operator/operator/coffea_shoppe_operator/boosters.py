"""Inspection of users' models, in a process without keys or tokens (see `inspection`)."""

import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import threading
from array import array
from typing import Literal

from pydantic import Base64Bytes, BaseModel, ConfigDict

from coffea_shoppe_operator.errors import ModelError

TIMEOUT_S = 120
INSPECTION_LOCK = threading.Lock()
"""One inspection at a time: two would need more memory than the pod has."""
CACHE_SIZE = 1000
"""Number of refused files that are cached."""
MAX_OUTPUT_BYTES = 32 * 2**20
"""Limit of the process' output, in addition to a truncated model."""
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PATH": ""}


class Inspected(BaseModel):
    """Properties of a model, and its own scores of probe rows."""

    model_config = ConfigDict(extra="forbid")

    method: Literal["predict", "predict_proba"]
    """Method of scikit-learn that the scores are of."""
    objective: str
    outputs: int
    """Number of columns of the scores: classes, labels, targets, or one."""
    rounds: int
    """Number of boosting rounds that the prediction uses; 0: all."""
    features: int
    """Number of columns of the input."""
    names: list[str]
    """Names of the features in column order; empty if the model has none."""
    rows: int
    """Number of rows of the probe."""
    probe: Base64Bytes
    """(rows, features) of float32."""
    scores: Base64Bytes
    """The model's own scores: (rows, outputs) of float32."""
    cut: Base64Bytes
    """The model, truncated to the rounds that it uses; empty where it uses all."""

    def differs(self, shape: list[int], scores: bytes) -> str:
        """Return where a server's scores of the probe differ from the model's own, or ''.

        Tolerances: 1e-6 for probabilities, 1e-5 relative for other scores.
        """
        if shape != [self.rows, self.outputs]:
            return f"the shape is {shape} instead of {[self.rows, self.outputs]}"
        expected, served = array("f", self.scores), array("f", scores)
        if len(expected) != len(served):
            return f"there are {len(served)} scores instead of {len(expected)}"
        for number, (model_score, served_score) in enumerate(zip(expected, served, strict=True)):
            both_nan = model_score != model_score and served_score != served_score
            if model_score == served_score or both_nan:
                continue
            relative = 1e-5 * max(abs(model_score), 1e-5)
            tolerance = 1e-6 if self.method == "predict_proba" else relative
            # A comparison with NaN is false, so NaN instead of a number differs.
            if not abs(model_score - served_score) <= tolerance:
                row = number // self.outputs
                return (
                    f"row {row} of the probe scores {served_score:.9g} instead of {model_score:.9g}"
                )
        return ""


class _SlowError(ModelError):
    """The inspection timed out; it is not cached, because the node may have been busy."""


_refused: dict[str, ModelError] = {}
"""Errors by digest of the file: each ServedModel is reconciled twice a minute."""


def inspect(model: bytes, file: str, *, cut: bool, require_landlock: bool = True) -> Inspected:
    """Return the properties of a model; `file` is model.ubj or model.json.

    With `require_landlock`, no model is read in a process that cannot be confined.
    Raises `ModelError` where the file is not a model, or cannot be served.  A refused file
    is not inspected again.
    """
    digest = hashlib.sha256(model).hexdigest()
    if refusal := _refused.get(digest):
        raise ModelError(refusal.reason, str(refusal))
    try:
        return _inspect(model, file, cut=cut, require_landlock=require_landlock)
    except _SlowError:
        raise
    except ModelError as error:
        if len(_refused) >= CACHE_SIZE:
            _refused.clear()
        _refused[digest] = error
        raise


def _inspect(model: bytes, file: str, *, cut: bool, require_landlock: bool) -> Inspected:
    command = [sys.executable, "-I", "-m", "coffea_shoppe_operator.inspection", file]
    command += ["--cut"] if cut else []
    command += [] if require_landlock else ["--unconfined"]
    with INSPECTION_LOCK, tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout:
        stdin.write(model)
        stdin.seek(0)
        try:
            process = subprocess.run(
                command,
                stdin=stdin,
                stdout=stdout,
                stderr=subprocess.DEVNULL,
                env=ENVIRONMENT,
                cwd="/",
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _SlowError(
                "NoModel", f"XGBoost did not read the model within {TIMEOUT_S} s"
            ) from error
        stdout.seek(0)
        output = stdout.read(MAX_OUTPUT_BYTES + 2 * len(model))
    if process.returncode:
        code = process.returncode
        end = signal.Signals(-code).name if code < 0 else f"code {code}"
        raise ModelError(
            "NoModel",
            f"XGBoost crashed while reading the model ({end}): it is damaged; log it again",
        )
    try:
        report = json.loads(output)
        if "refused" in report:
            raise ModelError(str(report["reason"])[:40], str(report["refused"])[:1000])
        return Inspected.model_validate(report)
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            "NoModel", "the inspection failed: the model is damaged; log it again"
        ) from error
