"""Columns of a second pass, joined in the events' order or refused."""

import re
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
import xgboost
from agc import friends, inference
from agc import score as scoring
from agc.assignment import FEATURES
from agc.cli import main
from agc.run import run
from agc.samples import InputError, parse_input, sample
from agc.synth import write
from click.testing import CliRunner
from coffea import processor
from coffea.nanoevents import NanoAODSchema
from shoppe_ci.paths import ROOT

PAGE = ROOT / "docs" / "how-to" / "join-a-column.md"
COUNT = 6


def records(**changes: Any) -> ak.Array:
    columns = {
        "run": np.ones(COUNT, dtype=np.uint32),
        "luminosityBlock": np.array([1, 1, 1, 2, 2, 2], dtype=np.uint32),
        "event": np.array([11, 13, 12, 2, 1, 3], dtype=np.uint64),
    }
    return ak.zip({**columns, **changes})


def friend(order: list[int]) -> ak.Array:
    return ak.with_field(records(), np.arange(COUNT) * 0.5, "score")[order]


def test_columns_in_the_same_order_are_joined() -> None:
    found = friends.join(records(pt=np.arange(COUNT)), friend([0, 1, 2, 3, 4, 5]), ["score"])
    assert found.score.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert found.pt.tolist() == list(range(COUNT))


@pytest.mark.parametrize(
    ("order", "told"),
    [
        ([0, 2, 1, 3, 4, 5], "entry 101 is run 1, luminosityBlock 1, event 12, but .* event 13"),
        ([0, 1, 2, 4, 5], "entry 103 is run 1, luminosityBlock 2, event 1, but .* event 2"),
        ([0, 1, 2, 3, 4], "the friend ends before entry 105, run 1, luminosityBlock 2, event 3"),
        ([0, 1, 2, 3, 4, 5, 5], "the friend goes on with entry 106, .* event 3"),
        ([], "the friend ends before entry 100, run 1, luminosityBlock 1, event 11"),
    ],
)
def test_another_order_or_a_missing_event_is_refused_by_name(order: list[int], told: str) -> None:
    with pytest.raises(InputError, match=told):
        friends.join(records(), friend(order), ["score"], first=100, what="the friend")


def test_columns_that_are_missing_or_there_already_are_refused() -> None:
    with pytest.raises(InputError, match="lacks other; it has run, luminosityBlock, event, score"):
        friends.join(records(), friend([0]), ["other"])
    with pytest.raises(InputError, match="have score already"):
        friends.join(records(score=np.zeros(COUNT)), friend([0, 1, 2, 3, 4, 5]), ["score"])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A NanoAOD file, models, and the scores of the file's events."""
    folder = tmp_path_factory.mktemp("friends")
    events, scores = folder / "ttbar.root", folder / "scores.root"
    write(events, sample("ttbar"), events=6_000)
    rng = np.random.default_rng(1)
    rows = xgboost.DMatrix(rng.uniform(0, 100, (500, len(FEATURES))), rng.integers(0, 2, 500))
    model = xgboost.train({"objective": "binary:logistic"}, rows, 5)
    for parity in inference.PARITIES:
        model.save_model(folder / inference.model_file(parity))
    done = CliRunner().invoke(
        main, ["score", str(events), "--models", str(folder), "--output", str(scores)]
    )
    assert done.exit_code == 0, done.output
    return events, folder, scores


def run_example(events: Path, scores: Path, chunk_size: int) -> dict[str, Any]:
    """Run the processor of the documentation's page."""
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names: dict[str, Any] = {"__name__": "example"}
    exec(source, names)  # noqa: S102
    runner = processor.Runner(
        executor=processor.IterativeExecutor(status=False, compression=None),
        schema=NanoAODSchema,
        chunksize=chunk_size,
        metadata_cache={},
    )
    chosen = {"ttbar": {"files": {str(events): "Events"}}}
    found: dict[str, Any] = runner(
        chosen, processor_instance=names["BestScores"](str(scores)), treename="Events"
    )
    return found


@pytest.mark.parametrize("chunk_size", [999, 100_000])
def test_the_documentation_s_example_joins_scores(
    files: tuple[Path, Path, Path], chunk_size: int
) -> None:
    events, models, scores = files
    found = run_example(events, scores, chunk_size)
    assigned = run(
        [parse_input(f"{events}=ttbar")],
        weights="unit",
        scorer=inference.LocalModels.load(models),
        progress=False,
    )
    expected = assigned.histograms["4j2b_ttbar"].sum(flow=True).value
    assert found["scores"].sum(flow=True) == expected > 50
    with uproot.open(scores) as file:
        stored = file["Events"]["bdt_score"].array(library="np")
    assert np.sum(~np.isnan(stored)) == expected
    np.testing.assert_array_equal(
        found["scores"].values(), np.histogram(stored[~np.isnan(stored)], 20, (0, 1))[0]
    )


def test_the_scores_of_another_file_are_refused(
    files: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.root"
    write(other, sample("ttbar"), events=3_000)
    scores = tmp_path / "scores.root"
    for _ in scoring.write(str(other), scores, inference.LocalModels.load(files[1])):
        pass
    with pytest.raises(Exception, match="ends before entry 3000"):
        run_example(files[0], scores, 100_000)
