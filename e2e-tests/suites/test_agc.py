"""The AGC in a user's pod, on Dask workers, through XCache: the main story.

The notebook runs twice, with columns and scores the one way and the other.  What else
must give the same runs in the same user's kernel, on one Dask cluster.
"""

import json
import re
import uuid
from collections.abc import Callable, Iterator
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
from lib.caches import reads
from lib.fixtures import run_code
from shoppe_ci import analysis, origin
from shoppe_ci.analysis import Outcome
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User
from shoppe_ci.wait import eventually

Samples = list[tuple[Path, str, str, int]]
Inputs = dict[str, Any]
LABELLED = 30_000
NAME = "physicist"
AWAY = "origin-away"
"""An origin of this story's own, which it takes away."""
REPORTED_S = 90
"""From the end of a run until the cache has logged the files that its workers closed."""
SERVED = {f"{NAME}.agc-ttbar-even", f"{NAME}.agc-ttbar-odd"}
START = """
from pathlib import Path
import coffea_shoppe as shoppe
from agc import histograms, inference, report, run, samples, serving
from dask_gateway import Gateway
cluster = Gateway().new_cluster(); cluster.scale(2)
client = cluster.get_client(); client.wait_for_workers(2, timeout=180)
SCORERS = {
    "none": lambda: None,
    "local": lambda: inference.LocalModels.load(Path("agc-ttbar/results/models")),
    "served": lambda: serving.find("agc-ttbar"),
}
def analyse(folder, source, weights, assignment):
    folder = Path(folder)
    files = samples.read_fileset(folder / "fileset.json")
    if source == "direct":
        files = samples.located(files, shoppe.data_url)
    done = run.run(files, weights=weights, source=source, client=client, progress=False,
                   scorer=SCORERS[assignment]())
    histograms.save(done.histograms, folder / "histograms.root")
    if done.features:
        histograms.save(done.features, folder / "histograms_ml.root")
    report.save(done, folder / "report.json")
"""
RESULTS = "print(len(shoppe.storage().find('servicex')))"
"""How many files ServiceX has delivered into the user's bucket."""
Analyse = Callable[..., tuple[Path, dict[str, Any]]]


def in_process(files: list[File], weights: str) -> histograms.Histograms:
    return run(files, weights=weights, progress=False).histograms


def assert_same_histograms(
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


def on_the_facility(cluster: Cluster, inputs: Inputs, folder: Path, **options: Any) -> Outcome:
    options = {"source": "direct", **options}
    return analysis.run_agc(cluster, name=NAME, inputs=inputs, results=folder, **options)


def fileset(
    cluster: Cluster, samples: Samples, *, run_folder: str, address: str = origin.ADDRESS
) -> Inputs:
    """Return the notebook's list of inputs, the files put on the origin.

    `run_folder` is unique to this run: a kept cluster has cached the files of earlier runs.
    """
    inputs: Inputs = {}
    for path, process, variation, events in samples:
        url = origin.publish(cluster, path, below=run_folder).replace(origin.ADDRESS, address)
        entry = {"path": url, "nevts": events}
        inputs.setdefault(process, {})[variation] = {"files": [entry]}
    return inputs


def as_files(samples: Samples) -> list[File]:
    return [File(Sample(process, v), str(path), count) for path, process, v, count in samples]


def total(samples: Samples) -> int:
    return sum(count for *_, count in samples)


@pytest.fixture(scope="module")
def all_nine(samples: Samples, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    """All nine samples, with enough nominal ttbar to train on."""
    path = tmp_path_factory.mktemp("labelled") / "ttbar.root"
    write(path, sample("ttbar"), events=LABELLED)
    others = [entry for entry in samples if entry[1:3] != ("ttbar", "nominal")]
    return [(path, "ttbar", "nominal", LABELLED), *others]


@pytest.fixture(scope="module")
def run_folder() -> str:
    return uuid.uuid4().hex[:8]


@pytest.fixture(scope="module")
def inputs(data_origin: Cluster, all_nine: Samples, run_folder: str) -> Inputs:
    return fileset(data_origin, all_nine, run_folder=run_folder)


@pytest.fixture(scope="module")
def labelled(all_nine: Samples, inputs: Inputs) -> tuple[Path, str]:
    """The nominal ttbar: here, and at the origin."""
    return all_nine[0][0], inputs["ttbar"]["nominal"]["files"][0]["path"]


def assert_assigned(folder: Path, outcome: dict[str, Any], files: list[File], weights: str) -> None:
    """Compare regions and assigned jets with what this process makes with the same models."""
    models = LocalModels.load(folder / "models")
    expected = run(files, weights=weights, scorer=models, progress=False)
    rtol = 0 if weights == "unit" else 1e-10
    assert_same_histograms(folder, expected.histograms, rtol=rtol)
    assert_same_histograms(folder, expected.features, rtol=rtol, file="histograms_ml.root")
    assert len(expected.features) >= len(FEATURES)
    assert outcome["candidates"] == expected.candidates > 0


def assert_served(outcome: dict[str, Any]) -> None:
    """Triton has counted each row that was scored, for the user's own models."""
    uses = outcome["served"].values()
    assert {use["model"] for use in uses} == SERVED
    assert sum(use["rows"] for use in uses) == outcome["candidates"]
    assert all(use["requests"] > 0 for use in uses)


def test_all_nine_samples_give_what_this_process_gives(
    data_origin: Cluster, inputs: Inputs, all_nine: Samples, tmp_path: Path
) -> None:
    outcome = on_the_facility(data_origin, inputs, tmp_path, assignment="local")
    assert outcome.report["num_workers"] >= 2
    assert sum(outcome.report["events"].values()) == total(all_nine)
    assert_assigned(tmp_path, outcome.report, as_files(all_nine), "xsec")
    assert not outcome.report["served"]
    assert outcome.from_origin > 0
    assert outcome.sent > 0
    assert sorted(path.name for path in (tmp_path / "plots").iterdir()) == ["4j1b.png", "4j2b.png"]
    executed = json.loads((tmp_path / "agc-ttbar.ipynb").read_text())
    assert not [o for c in executed["cells"] for o in c.get("outputs", []) if "evalue" in o]


@pytest.fixture(scope="module")
def served(
    data_origin: Cluster, inputs: Inputs, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Outcome]:
    """The notebook's run with columns by ServiceX and scores by Triton, and its folder."""
    folder = tmp_path_factory.mktemp("served")
    options = {"source": "servicex", "assignment": "served", "weights": "unit", "settle": False}
    return folder, on_the_facility(data_origin, inputs, folder, **options)


def test_columns_by_servicex_and_scores_by_triton_give_the_same_bin_for_bin(
    served: tuple[Path, Outcome], all_nine: Samples
) -> None:
    folder, outcome = served
    assert outcome.report["delivered"] == len(all_nine)
    assert sum(outcome.report["events"].values()) == total(all_nine)
    assert_assigned(folder, outcome.report, as_files(all_nine), "unit")
    assert_served(outcome.report)


@pytest.fixture(scope="module")
def analyse(
    data_origin: Cluster,
    served: tuple[Path, Outcome],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Analyse]:
    """Run the analysis once more in the user's kernel; the models are those that are served."""
    models, _ = served
    user, _ = analysis.log_in(data_origin, NAME)
    run_code(user, START)

    def again(
        inputs: Inputs, *, source: str, weights: str = "unit", assignment: str = "none"
    ) -> tuple[Path, dict[str, Any]]:
        folder = tmp_path_factory.mktemp("again")
        remote = folder.name
        (folder / "fileset.json").write_text(json.dumps(inputs))
        user.upload(folder / "fileset.json", f"{remote}/fileset.json")
        run_code(user, f"analyse({remote!r}, {source!r}, {weights!r}, {assignment!r})")
        user.download(remote, folder)
        if assignment != "none":
            (folder / "models").symlink_to(models / "models")
        return folder, json.loads((folder / "report.json").read_text())

    yield again
    run_code(user, "client.close(); cluster.shutdown()")


@pytest.mark.parametrize(
    ("source", "assignment", "weights"),
    [("direct", "local", "unit"), ("servicex", "served", "xsec")],
)
def test_jets_are_assigned_the_same_wherever_columns_and_scores_come_from(
    analyse: Analyse, labelled: tuple[Path, str], source: str, assignment: str, weights: str
) -> None:
    path, url = labelled
    inputs = {"ttbar": {"nominal": {"files": [{"path": url, "nevts": LABELLED}]}}}
    folder, outcome = analyse(inputs, source=source, assignment=assignment, weights=weights)
    assert_assigned(folder, outcome, [File(Sample("ttbar"), str(path), LABELLED)], weights)
    if assignment == "served":
        assert_served(outcome)
    else:
        assert not outcome["served"]


def test_columns_that_are_kept_are_not_delivered_again(
    data_origin: Cluster, analyse: Analyse, inputs: Inputs, all_nine: Samples
) -> None:
    user, _ = analysis.log_in(data_origin, NAME)
    first, outcome = analyse(inputs, source="servicex", weights="xsec")
    assert outcome["delivered"] == len(all_nine)
    assert_same_histograms(first, in_process(as_files(all_nine), "xsec"), rtol=1e-10)
    results = run_code(user, RESULTS)
    assert int(results) >= 2 * len(all_nine), "those of the notebook, and the first ones here"
    again, outcome = analyse(inputs, source="servicex", weights="unit")
    assert outcome["delivered"] == len(all_nine)
    assert_same_histograms(again, in_process(as_files(all_nine), "unit"), rtol=0)
    assert run_code(user, RESULTS) == results


@pytest.fixture
def own_origin(data_origin: Cluster) -> Iterator[str]:
    """The address of an origin that no other story reads from; it goes afterwards."""
    origin.install(data_origin, name=AWAY)
    yield origin.address(AWAY)
    origin.scale(data_origin, 0, name=AWAY)


def test_the_second_run_needs_no_origin(
    data_origin: Cluster, analyse: Analyse, samples: Samples, own_origin: str
) -> None:
    run_folder = uuid.uuid4().hex[:8]
    inputs = fileset(data_origin, samples, run_folder=run_folder, address=own_origin)
    analyse(inputs, source="direct")
    before = eventually(
        lambda: seen if (seen := reads(data_origin, run_folder)).files >= len(samples) else None,
        "the cache reports all files",
        timeout=REPORTED_S,
        every=2,
    )
    assert before.fetched > 0
    origin.scale(data_origin, 0, name=AWAY)
    folder, _ = analyse(inputs, source="direct")
    assert_same_histograms(folder, in_process(as_files(samples), "unit"), rtol=0)
    after = eventually(
        lambda: seen if (seen := reads(data_origin, run_folder)).files > before.files else None,
        "the cache reports the second run",
        timeout=REPORTED_S,
        every=2,
    )
    assert after.fetched == before.fetched


@pytest.mark.reference
@pytest.mark.parametrize("source", ["direct", "servicex"])
def test_the_real_sample_gives_the_known_counts(
    data_origin: Cluster, analyse: Analyse, reference_data: Path, source: str
) -> None:
    path = reference_data / "NanoAODv5_sample.root"
    entry = {"path": origin.publish(data_origin, path)}
    folder, outcome = analyse({"ttbar": {"nominal": {"files": [entry]}}}, source=source)
    assert outcome["yields"] == {"4j1b_ttbar": 35, "4j2b_ttbar": 73}
    assert outcome["num_workers"] >= 2
    assert_same_histograms(folder, in_process([File(Sample("ttbar"), str(path))], "unit"), rtol=0)


def test_a_file_that_is_not_there_is_named(data_origin: Cluster, tmp_path: Path) -> None:
    missing = f"{origin.ADDRESS}//absent/file.root"
    inputs = {"ttbar": {"nominal": {"files": [{"path": missing}]}}}
    with pytest.raises(ShoppeError, match=r"InputError.*absent/file\.root"):
        on_the_facility(data_origin, inputs, tmp_path, workers=1)
    assert (tmp_path / "agc-ttbar.ipynb").exists()


@pytest.mark.part("faults")
def test_knobs_of_reading_hold_in_the_facility(
    data_origin: Cluster, labelled: tuple[Path, str], ann: User
) -> None:
    path, url = labelled

    def agc(*options: str) -> str:
        words = ["agc", "run", "--executor", "dask", "--input", f"{url}=ttbar", *options]
        code = (
            "import subprocess\n"
            f"done = subprocess.run({words}, capture_output=True, text=True)\n"
            "print(done.stdout[-500:], done.stderr[-2000:])"
        )
        return run_code(ann, code)

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
