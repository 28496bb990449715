"""Runs of the analysis in MLflow: what went in, what came out, and what it cost.

Which MLflow, and as whom, is told by MLflow's own environment (MLFLOW_TRACKING_URI,
MLFLOW_TRACKING_AUTH); where it names none, nothing is logged.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from agc import report as run_report
from agc.assignment import FEATURES
from agc.histograms import counts
from agc.inference import model_file
from agc.run import Report
from agc.samples import File, InputError

if TYPE_CHECKING:
    import xgboost

    from agc.statistics import Fit
    from agc.training import Trained

EXPERIMENT = "agc-ttbar"
CODE_TAG = "code.sha256"
"""Of a run: the digest of this package's source.  The facility's operator knows it."""
DIGEST_LENGTH = 36
"""MLflow's longest digest of a dataset."""


def available() -> bool:
    """Return whether the environment names an MLflow."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def model_name(trained_on: str) -> str:
    """Return the name under which a model is registered."""
    return f"agc-ttbar-{trained_on}"


def digest(files: Iterable[File]) -> str:
    """Return a digest of a list of files: of their samples and paths, not of their bytes."""
    lines = sorted(f"{file.sample.name} {file.path}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def code() -> str:
    """Return a digest of this package's own source."""
    found = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        found.update(path.name.encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def _log_input(files: Sequence[File]) -> None:
    """Name the files' samples as a dataset of the present run, with their digest."""
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    names = ",".join(sorted({file.sample.name for file in files}))
    source = CodeDatasetSource(tags={})
    held = MetaDataset(source, name=names[:500], digest=digest(files)[:DIGEST_LENGTH])
    mlflow.log_input(held, context="training")


@contextmanager
def _logging(experiment: str, name: str) -> Iterator[Any]:
    """Start a run and yield its id; MLflow's errors become an `InputError`."""
    import mlflow
    import requests

    try:
        mlflow.set_experiment(experiment)
        tags = {"agc.step": name, "agc.version": version("coffea-shoppe"), CODE_TAG: code()}
        with mlflow.start_run(run_name=name, tags=tags) as run:
            yield run.info.run_id
    except (mlflow.MlflowException, requests.RequestException) as error:
        where = os.environ.get("MLFLOW_TRACKING_URI", "")
        raise InputError(f"MLflow at {where} did not take the {name}: {error}") from error


def log_run(
    report: Report,
    files: Sequence[File],
    artifacts: Iterable[Path],
    *,
    experiment: str = EXPERIMENT,
    **params: Any,
) -> str:
    """Log a run over events: its settings, yields, cost, and files; return MLflow's run id.

    '' where the environment names no MLflow.  Raises `InputError` where MLflow does not
    take it.
    """
    if not available():
        return ""
    import mlflow

    with _logging(experiment, "selection") as run:
        told = {"workers": report.workers, "chunk_size": report.chunk_size, "files": len(files)}
        mlflow.log_params({**told, **params})
        mlflow.set_tag("agc.input", digest(files))
        figures = run_report.as_json(report)
        cost = {key: figures[key] for key in ("walltime", "cputime", "busy", "entries", "rate")}
        mlflow.log_metrics({**cost, "bytesread": figures["bytesread"]})
        yields = counts(report.histograms)
        mlflow.log_metrics({f"yield/{key.replace(' ', '/')}": n for key, n in yields.items()})
        _files(artifacts)
        return str(run)


def log_fit(
    fitted: "Fit",
    artifacts: Iterable[Path],
    *,
    experiment: str = EXPERIMENT,
    **params: Any,
) -> str:
    """Log a fit: the normalisation of ttbar, all parameters, and files; as `log_run`."""
    if not available():
        return ""
    import mlflow

    with _logging(experiment, "fit") as run:
        mlflow.log_params(params)
        (value, error), (down, up) = fitted.norm, fitted.interval
        told = {"ttbar_norm": value, "ttbar_norm_error": error}
        told |= {"ttbar_norm_down": down, "ttbar_norm_up": up}
        results = fitted.results
        for label, best, width in zip(
            results.labels, results.bestfit, results.uncertainty, strict=True
        ):
            clean = "".join(c if c.isalnum() or c in "_-. /" else "_" for c in label)
            told |= {f"fit/{clean}": float(best), f"fit/{clean}_error": float(width)}
        mlflow.log_metrics(told)
        _files(artifacts)
        return str(run)


def log_training(
    trained: "dict[str, Trained]",
    files: Sequence[File],
    artifacts: Iterable[Path],
    *,
    experiment: str = EXPERIMENT,
    **params: Any,
) -> dict[str, str]:
    """Log a training, each trial in a run of its own below it, and register both models.

    Return by parity the version of the registered model; {} where the environment names
    no MLflow.
    """
    if not available():
        return {}
    import mlflow

    artifacts = list(artifacts)
    found = {}
    with _logging(experiment, "training"):
        mlflow.log_params({"files": len(files), **params})
        mlflow.set_tag("agc.input", digest(files))
        _log_input(files)
        _files(artifacts)
        for parity, one in trained.items():
            told = {f"best/{key}": value for key, value in asdict(one.best.quality).items()}
            mlflow.log_metrics({f"{parity}/{key}": value for key, value in told.items()})
            for number, trial in enumerate(one.trials):
                with mlflow.start_run(run_name=f"{parity} {number}", nested=True):
                    mlflow.log_params({"parity": parity, **asdict(trial.settings)})
                    mlflow.log_metrics(asdict(trial.quality))
            (held,) = [path for path in artifacts if path.name == model_file(parity)]
            sha256 = hashlib.sha256(held.read_bytes()).hexdigest()
            metadata = {"sha256": sha256, "trained_on": parity}
            found[parity] = register(one.model, model_name(parity), metadata=metadata)
    return found


def register(booster: "xgboost.Booster", name: str, *, metadata: dict[str, Any]) -> str:
    """Log a model on the assignment's features in the present run, and register it.

    Return the version of the registered model.
    """
    import mlflow
    import xgboost
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    rows = TensorSpec(np.dtype(np.float32), (-1, len(FEATURES)), "features")
    scores = TensorSpec(np.dtype(np.float32), (-1,), "score")
    logged = mlflow.xgboost.log_model(
        booster,
        name=name,
        model_format="ubj",
        registered_model_name=name,
        signature=ModelSignature(inputs=Schema([rows]), outputs=Schema([scores])),
        # Told, for MLflow would find out by loading the model in another process.
        pip_requirements=[f"xgboost-cpu=={xgboost.__version__}"],
        metadata={"features": [f.name for f in FEATURES], **metadata},
    )
    return str(logged.registered_model_version)


def _files(artifacts: Iterable[Path]) -> None:
    import mlflow

    for path in artifacts:
        mlflow.log_artifact(str(path), "figures" if path.suffix == ".png" else None)
