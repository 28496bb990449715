"""Runs of the analysis in MLflow: inputs, results, time and resources.

MLflow's own environment variables (MLFLOW_TRACKING_URI, MLFLOW_TRACKING_AUTH) select server
and login; without a server nothing is logged.
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
from coffea_shoppe_contract.names import CODE_TAG

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
DIGEST_LENGTH = 36
"""MLflow's longest digest of a dataset."""


def available() -> bool:
    """Return whether the environment names an MLflow."""
    return bool(os.environ.get("MLFLOW_TRACKING_URI"))


def model_name(trained_on: str) -> str:
    """Return the name under which a model is registered."""
    return f"agc-ttbar-{trained_on}"


def digest(files: Iterable[File]) -> str:
    """Return a digest of a list of files: of samples and paths, not of contents."""
    lines = sorted(f"{file.sample.name} {file.path}" for file in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def code() -> str:
    """Return a digest of this package's source."""
    digest_of_source = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest_of_source.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest_of_source.hexdigest()


def _log_input(files: Sequence[File]) -> None:
    """Log the files' samples as a dataset of the current run, with their digest."""
    import mlflow
    from mlflow.data.code_dataset_source import CodeDatasetSource
    from mlflow.data.meta_dataset import MetaDataset

    names = ",".join(sorted({file.sample.name for file in files}))
    source = CodeDatasetSource(tags={})
    dataset = MetaDataset(source, name=names[:500], digest=digest(files)[:DIGEST_LENGTH])
    mlflow.log_input(dataset, context="training")


@contextmanager
def _logging(experiment: str, name: str) -> Iterator[Any]:
    """Start a run and yield its id; MLflow's errors become an `InputError`."""
    import mlflow
    import requests

    try:
        mlflow.set_experiment(experiment)
        tags = {"agc.step": name, "agc.version": version("coffea-shoppe-agc"), CODE_TAG: code()}
        with mlflow.start_run(run_name=name, tags=tags) as run:
            yield run.info.run_id
    except (mlflow.MlflowException, requests.RequestException) as error:
        where = os.environ.get("MLFLOW_TRACKING_URI", "")
        raise InputError(f"MLflow at {where} refused to log the {name}: {error}") from error


def log_run(
    report: Report,
    files: Sequence[File],
    artifacts: Iterable[Path],
    *,
    experiment: str = EXPERIMENT,
    **params: Any,
) -> str:
    """Log a run over events: its settings, yields, cost, and files; return MLflow's run id.

    The id is '' where the environment names no MLflow.  Raises `InputError` where MLflow
    refuses.
    """
    if not available():
        return ""
    import mlflow

    with _logging(experiment, "selection") as run:
        parameters = {
            "workers": report.workers,
            "chunk_size": report.chunk_size,
            "files": len(files),
        }
        mlflow.log_params({**parameters, **params})
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
    """Log a fit: the normalisation of ttbar, all parameters, and files; see `log_run`."""
    if not available():
        return ""
    import mlflow

    with _logging(experiment, "fit") as run:
        mlflow.log_params(params)
        (value, error), (down, up) = fitted.norm, fitted.interval
        metrics = {"ttbar_norm": value, "ttbar_norm_error": error}
        metrics |= {"ttbar_norm_down": down, "ttbar_norm_up": up}
        results = fitted.results
        for label, best, width in zip(
            results.labels, results.bestfit, results.uncertainty, strict=True
        ):
            clean = "".join(c if c.isalnum() or c in "_-. /" else "_" for c in label)
            metrics |= {f"fit/{clean}": float(best), f"fit/{clean}_error": float(width)}
        mlflow.log_metrics(metrics)
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
    """Log a training, with each trial in a nested run, and register both models.

    Returns parity → version of the registered model; {} where the environment names no MLflow.
    """
    if not available():
        return {}
    import mlflow

    artifacts = list(artifacts)
    versions = {}
    with _logging(experiment, "training"):
        mlflow.log_params({"files": len(files), **params})
        mlflow.set_tag("agc.input", digest(files))
        _log_input(files)
        _files(artifacts)
        for parity, result in trained.items():
            quality = {f"best/{key}": value for key, value in asdict(result.best.quality).items()}
            mlflow.log_metrics({f"{parity}/{key}": value for key, value in quality.items()})
            for number, trial in enumerate(result.trials):
                with mlflow.start_run(run_name=f"{parity} {number}", nested=True):
                    mlflow.log_params({"parity": parity, **asdict(trial.settings)})
                    mlflow.log_metrics(asdict(trial.quality))
            (model_path,) = [path for path in artifacts if path.name == model_file(parity)]
            sha256 = hashlib.sha256(model_path.read_bytes()).hexdigest()
            metadata = {"sha256": sha256, "trained_on": parity}
            versions[parity] = register(result.model, model_name(parity), metadata=metadata)
    return versions


def register(booster: "xgboost.Booster", name: str, *, metadata: dict[str, Any]) -> str:
    """Log a model of the assignment's features in the current run, and register it.

    Returns the version of the registered model.
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
        # Given here, as MLflow would otherwise load the model in another process to find out.
        pip_requirements=[f"xgboost-cpu=={xgboost.__version__}"],
        metadata={"features": [f.name for f in FEATURES], **metadata},
    )
    return str(logged.registered_model_version)


def _files(artifacts: Iterable[Path]) -> None:
    import mlflow

    for path in artifacts:
        mlflow.log_artifact(str(path), "figures" if path.suffix == ".png" else None)
