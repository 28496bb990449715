"""The AGC in a user's pod, on Dask workers, through XCache: the main story."""

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from agc import histograms
from agc.assignment import FEATURES
from agc.inference import LocalModels
from agc.run import run
from agc.samples import File, Sample, sample
from agc.synth import write
from lib.fixtures import passing_user, run_code
from shoppe_ci import analysis, origin
from shoppe_ci.analysis import Outcome
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User

Samples = list[tuple[Path, str, str, int]]
LABELLED = 30_000


def in_process(files: list[File], weights: str) -> histograms.Histograms:
    return run(files, weights=weights, progress=False).histograms


def same(
    folder: Path,
    expected: histograms.Histograms,
    *,
    rtol: float,
    file: str = "histograms.root",
) -> None:
    """Compare what the cluster wrote with what this process makes of the same files."""
    found = histograms.load(folder / file)
    pseudodata = {key for key in found if key.endswith("pseudodata")}
    assert set(found) - pseudodata == set(expected)
    for key, histogram in expected.items():
        for kind in ("values", "variances"):
            ours, theirs = (getattr(h, kind)(flow=True) for h in (found[key], histogram))
            np.testing.assert_allclose(ours, theirs, rtol=rtol, err_msg=f"{key} {kind}")


def on_the_facility(cluster: Cluster, inputs: Any, folder: Path, **options: Any) -> Outcome:
    options = {"source": "direct", **options}
    return analysis.run_agc(cluster, name="physicist", inputs=inputs, results=folder, **options)


@pytest.fixture(scope="module")
def synthetic_inputs(data_origin: Cluster, samples: Samples) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    # A path of this run's own: a cluster that was kept has cached those of the last.
    below = uuid.uuid4().hex[:8]
    for path, process, variation, events in samples:
        entry = {"path": origin.publish(data_origin, path, below=below), "nevts": events}
        inputs.setdefault(process, {})[variation] = {"files": [entry]}
    return inputs


@pytest.fixture(scope="module")
def physicist(facility: Cluster) -> Iterator[User]:
    yield from passing_user(facility, "reads.anew")


@pytest.fixture(scope="module")
def labelled(data_origin: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Enough nominal ttbar to train on: here, and at the origin."""
    path = tmp_path_factory.mktemp("labelled") / "ttbar.root"
    write(path, sample("ttbar"), events=LABELLED)
    return path, origin.publish(data_origin, path)


def test_all_nine_samples_give_what_this_process_gives(
    data_origin: Cluster, synthetic_inputs: Any, samples: Samples, tmp_path: Path
) -> None:
    outcome = on_the_facility(data_origin, synthetic_inputs, tmp_path)
    assert outcome.report["num_workers"] >= 2
    assert sum(outcome.report["events"].values()) == sum(count for *_, count in samples)
    files = [File(Sample(p, v), str(path), count) for path, p, v, count in samples]
    same(tmp_path, in_process(files, "xsec"), rtol=1e-10)
    assert outcome.from_origin > 0
    assert outcome.sent > 0
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["4j1b.png", "4j2b.png"]
    executed = json.loads((tmp_path / "agc-ttbar.ipynb").read_text())
    assert not [o for c in executed["cells"] for o in c.get("outputs", []) if "evalue" in o]


def test_columns_by_servicex_give_the_same_bin_for_bin(
    data_origin: Cluster, synthetic_inputs: Any, samples: Samples, tmp_path: Path
) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    outcome = on_the_facility(data_origin, synthetic_inputs, first, source="servicex")
    assert outcome.report["delivered"] == len(samples)
    assert sum(outcome.report["events"].values()) == sum(count for *_, count in samples)
    files = [File(Sample(p, v), str(path), count) for path, p, v, count in samples]
    same(first, in_process(files, "xsec"), rtol=1e-10)
    unit = {"source": "servicex", "weights": "unit"}
    outcome = on_the_facility(data_origin, synthetic_inputs, again, **unit)
    assert outcome.sent < 1e5, "the results are kept: nothing is read again"
    same(again, in_process(files, "unit"), rtol=0)


@pytest.mark.parametrize(
    ("source", "assignment", "weights"),
    [("direct", "local", "unit"), ("servicex", "served", "xsec")],
)
def test_jets_are_assigned_the_same_wherever_columns_and_scores_come_from(
    data_origin: Cluster,
    labelled: tuple[Path, str],
    tmp_path: Path,
    source: str,
    assignment: str,
    weights: str,
) -> None:
    path, url = labelled
    inputs = {"ttbar": {"nominal": {"files": [{"path": url, "nevts": LABELLED}]}}}
    options = {"source": source, "assignment": assignment, "weights": weights}
    outcome = on_the_facility(data_origin, inputs, tmp_path, **options)
    models = LocalModels.load(tmp_path / "models")
    files = [File(Sample("ttbar"), str(path), LABELLED)]
    expected = run(files, weights=weights, scorer=models, progress=False)
    rtol = 0 if weights == "unit" else 1e-10
    same(tmp_path, expected.histograms, rtol=rtol)
    same(tmp_path, expected.features, rtol=rtol, file="histograms_ml.root")
    assert len(expected.features) >= len(FEATURES)
    assert outcome.report["candidates"] == expected.candidates > 0
    served = outcome.report["served"].values()
    assert sum(use["rows"] for use in served) == (expected.candidates if served else 0)
    assert {use["model"] for use in served} == (
        {"physicist.agc-ttbar-even", "physicist.agc-ttbar-odd"} if served else set()
    )
    assert bool(served) == (assignment == "served")
    assert all(use["requests"] > 0 for use in served)


@pytest.mark.long
def test_knobs_of_reading_hold_in_the_facility(
    data_origin: Cluster, labelled: tuple[Path, str], physicist: User
) -> None:
    path, url = labelled

    def agc(*options: str) -> str:
        words = ["agc", "run", "--executor", "dask", "--input", f"{url}=ttbar", *options]
        code = (
            "import subprocess\n"
            f"done = subprocess.run({words}, capture_output=True, text=True)\n"
            "print(done.stdout[-500:], done.stderr[-2000:])"
        )
        return run_code(physicist, code)

    told = agc("--read-only", "50")
    half = re.search(r"(\d+) events, ([\d.]+) MB in .* on 2 worker", told)
    assert half, told
    with uproot.open(path) as file:
        whole = sum(file["Events"][name].compressed_bytes for name in file["Events"].iterkeys())
    assert int(half[1]) == LABELLED
    assert 0.5 <= float(half[2]) * 1e6 / whole < 0.75
    columns = ("--from", "servicex", "--output", "columns.root")
    told = agc(*columns)
    assert f"{LABELLED} events" in told
    before = analysis.cache_use(data_origin)
    assert "ServiceX delivered 1 file" in agc(*columns)
    kept = analysis.settled_cache_use(data_origin, before, needed=False)
    before = analysis.cache_use(data_origin)
    assert "ServiceX delivered 1 file" in agc(*columns, "--no-servicex-cache")
    anew = analysis.settled_cache_use(data_origin, before)
    assert kept.files == 0
    assert anew.files >= 1


def test_the_second_run_needs_no_origin(
    data_origin: Cluster, synthetic_inputs: Any, samples: Samples, tmp_path: Path
) -> None:
    origin.scale(data_origin, 0)
    try:
        outcome = on_the_facility(data_origin, synthetic_inputs, tmp_path, weights="unit")
    finally:
        origin.scale(data_origin, 1)
    assert outcome.from_origin == 0
    assert outcome.sent > 0
    files = [File(Sample(p, v), str(path), count) for path, p, v, count in samples]
    same(tmp_path, in_process(files, "unit"), rtol=0)


@pytest.mark.reference
@pytest.mark.parametrize("source", ["direct", "servicex"])
def test_the_real_sample_gives_the_known_counts(
    data_origin: Cluster, reference_data: Path, tmp_path: Path, source: str
) -> None:
    path = reference_data / "NanoAODv5_sample.root"
    entry = {"path": origin.publish(data_origin, path)}
    inputs = {"ttbar": {"nominal": {"files": [entry]}}}
    outcome = on_the_facility(data_origin, inputs, tmp_path, weights="unit", source=source)
    assert outcome.report["yields"] == {"4j1b_ttbar": 35, "4j2b_ttbar": 73}
    assert outcome.report["num_workers"] >= 2
    same(tmp_path, in_process([File(Sample("ttbar"), str(path))], "unit"), rtol=0)


def test_a_file_that_is_not_there_is_named(data_origin: Cluster, tmp_path: Path) -> None:
    from shoppe_ci.errors import ShoppeError

    missing = f"{origin.ADDRESS}//absent/file.root"
    inputs = {"ttbar": {"nominal": {"files": [{"path": missing}]}}}
    with pytest.raises(ShoppeError, match=r"InputError.*absent/file\.root"):
        on_the_facility(data_origin, inputs, tmp_path)
    assert (tmp_path / "agc-ttbar.ipynb").exists()
