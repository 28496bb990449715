"""Upstream's own processor, from a checkout of `iris-hep/analysis-grand-challenge`.

The checkout is named by who measures; it is not a part of this project.
"""

import ast
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from coffea import processor
from coffea.nanoevents import NanoAODSchema

from agc.run import CHUNK_SIZE
from agc.samples import CROSS_SECTIONS, TREE, File, InputError

SCRIPT = "ttbar_analysis_pipeline.py"
FOLDER = Path("analyses", "cms-open-data-ttbar")


class _Classifier:
    """An XGBoost model with the method of scikit-learn's interface that upstream calls."""

    def __init__(self, path: Path) -> None:
        self.booster = xgboost.Booster(model_file=str(path))

    def predict_proba(self, rows: Any) -> Any:
        """Return the probabilities of both classes."""
        score = self.booster.inplace_predict(np.asarray(rows))
        return np.column_stack([1 - score, score])


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Run with a folder as working directory, and its modules importable."""
    before = Path.cwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        os.chdir(before)


def _definitions(script: Path) -> dict[str, Any]:
    """Return the imports and processors of a script, without running the rest of it."""
    parsed = ast.parse(script.read_text(encoding="utf-8"))
    definitions = (ast.Import, ast.ImportFrom, ast.ClassDef)
    parsed.body = [node for node in parsed.body if isinstance(node, definitions)]
    names: dict[str, Any] = {}
    exec(compile(parsed, str(script), "exec"), names)  # noqa: S102
    return names


def task(checkout: Path, file: File, *, models: bool) -> Callable[[], Any]:
    """Return a function that runs upstream's processor over a file, in this thread.

    With `models` jets are assigned by the models of the checkout.  Raises `InputError` where
    the folder is no checkout.
    """
    folder = (checkout / FOLDER if (checkout / FOLDER).is_dir() else checkout).resolve()
    if not (folder / SCRIPT).is_file():
        problem = f"{checkout}: has no {FOLDER / SCRIPT}"
        raise InputError(f"{problem}; clone https://github.com/iris-hep/analysis-grand-challenge")
    with _inside(folder):
        names = _definitions(folder / SCRIPT)
        instance = names["TtbarAnalysis"](models, False)
        if models:
            ml = names["utils"].ml
            ml.model_even = _Classifier(folder / "models" / "model_even.json")
            ml.model_odd = _Classifier(folder / "models" / "model_odd.json")
    metadata = {
        "process": file.sample.process,
        "variation": file.sample.variation,
        "xsec": CROSS_SECTIONS[file.sample.process],
        "nevts": 1,
    }
    inputs = {file.sample.name: {"files": {file.path: TREE}, "metadata": metadata}}

    def run() -> Any:
        runner = processor.Runner(
            executor=processor.IterativeExecutor(status=False),
            schema=NanoAODSchema,
            chunksize=CHUNK_SIZE,
            metadata_cache={},
        )
        with _inside(folder):
            return runner(inputs, processor_instance=instance, treename=TREE)

    return run
