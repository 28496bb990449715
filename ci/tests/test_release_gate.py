import hashlib
import io
import json
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pytest
import yaml
from coffea_shoppe_contract.resources import USER_LABEL
from shoppe_ci import counters
from shoppe_ci.counters import Reading
from shoppe_ci.errors import ShoppeError
from shoppe_ci.gate import badge, client, hops, notebook, record, report, results
from shoppe_ci.gate import run as gates
from shoppe_ci.gate.hops import ABSENT, FAILED, HOPS, NOT_REACHED, PROVED, SEEN, Proof
from shoppe_ci.gate.record import Image, Record, Section

REQUIRED = {"one": 1.0, "files": 9.0, "samples": 9.0, "runs": 3.0, "inferences": 4.0}


def reading(metric: str, *values: float, **labels: str) -> Reading:
    """Return what pods count: each a value of one series."""
    series = (metric, frozenset(labels.items()))
    return {f"pod-{number}": {series: value} for number, value in enumerate(values)}


def counted(hop: hops.Hop, amount: float) -> Reading:
    """Return a reading in which all counters of a hop have the same value."""
    return {"pod": {(c.metric, frozenset(c.labels.items())): amount for c in hop.counters}}


def test_prometheus_text_is_read_with_labels() -> None:
    text = (
        "# HELP files Files.\n# TYPE files counter\n"
        'files_total{status="complete",kind="a"} 3\nfiles_total{status="failed"} 1\n'
    )
    values = {"pod": counters.parse(text)}
    assert counters.total(values, "files_total") == 4
    assert counters.total(values, "files_total", {"status": "complete"}) == 3
    assert counters.total(values, "files_total", {"status": "absent"}) == 0


@pytest.mark.parametrize(
    ("before", "after", "grown"),
    [
        ([5], [9], 4),
        ([5], [5], 0),
        ([5], [2], 2),  # a container was restarted
        ([5], [9, 3], 7),  # a second pod
        ([5, 4], [9], 4),  # a pod is gone
        ([], [6], 6),
    ],
)
def test_increases_survive_restarts(before: list[float], after: list[float], grown: float) -> None:
    earlier, later = reading("n_total", *before), reading("n_total", *after)
    assert counters.increase(earlier, later, "n_total", {}) == grown


class PodsOfServiceX:
    """A cluster whose two pods of ServiceX report the totals of one database."""

    url = "http://127.0.0.1:1"

    def __init__(self, *names: str) -> None:
        self.names, self.total = names, 7

    def get(self, *_: str) -> dict[str, Any]:
        state = {"containerStatuses": [{"ready": True}]}
        return {
            "items": [
                {"metadata": {"namespace": "shoppe", "name": name}, "status": state}
                for name in self.names
            ]
        }

    def kubectl(self, *_: str, **__: object) -> str:
        return f"n_total {self.total}\n"


@pytest.mark.parametrize(("shared", "grown"), [(True, 2), (False, 9 + 9)])
def test_totals_that_pods_share_count_once(shared: bool, grown: float) -> None:
    endpoint = counters.Endpoint("servicex", 5000, shared=shared)
    before = counters.read(PodsOfServiceX("old"), endpoint)  # type: ignore[arg-type]
    cluster = PodsOfServiceX("new-1", "new-2")
    cluster.total = 9
    after = counters.read(cluster, endpoint)  # type: ignore[arg-type]
    assert counters.increase(before, after, "n_total", {}) == grown


def test_a_component_without_a_ready_pod_is_named() -> None:
    with pytest.raises(ShoppeError, match="no pod of servicex is ready"):
        counters.read(PodsOfServiceX(), counters.Endpoint("servicex", 5000))  # type: ignore[arg-type]


@pytest.mark.parametrize("hop", HOPS, ids=[hop.name for hop in HOPS])
def test_a_hop_is_proved_by_enough(hop: hops.Hop) -> None:
    enough = max(REQUIRED[counter.least] for counter in hop.counters)
    proof = hops.prove(hop, counted(hop, 7), counted(hop, 7 + enough), REQUIRED, finished=True)
    assert (proof.state, proof.reason) == (PROVED, "")
    least = min(REQUIRED[counter.least] for counter in hop.counters)
    proof = hops.prove(hop, counted(hop, 7), counted(hop, 6 + least), REQUIRED, finished=True)
    assert proof.state == FAILED
    assert f"{least - 1:g} of at least {least:g}" in proof.reason
    assert hops.broken([proof], finished=True) is proof


def test_hops_have_an_order_and_names_of_their_own() -> None:
    assert sorted(hop.order for hop in HOPS) == list(range(1, len(HOPS) + 1))
    assert len({hop.name for hop in HOPS}) == len(HOPS)


def proofs(**readings: Reading | str) -> list[Proof]:
    """Return the proofs of a run that stopped; hops that are not named are proved."""
    return [
        hops.prove(
            hop,
            counted(hop, 0),
            readings.get(hop.name, counted(hop, 20)),
            REQUIRED,
            finished=False,
        )
        for hop in HOPS
    ]


ZERO: dict[str, Reading] = {hop.name: counted(hop, 0) for hop in HOPS}


def test_the_first_hop_that_was_not_crossed_is_named() -> None:
    later = {name: ZERO[name] for name in ("mlflow", "triton", "servicex", "objectstore")}
    states = proofs(**later)
    broken = hops.broken(states, finished=False)
    assert broken is not None
    assert (broken.title, broken.state) == ("MLflow", FAILED)
    assert {p.name for p in states if p.state == NOT_REACHED} == set(later) - {"mlflow"}


def test_a_service_without_pods_is_named_before_those_that_wait_for_it() -> None:
    later: dict[str, Reading | str] = {name: ZERO[name] for name in ("mlflow", "triton")}
    broken = hops.broken(
        proofs(**later, objectstore="no pod of objectstore is ready"), finished=False
    )
    assert broken is not None
    assert broken.title == "object store"
    assert "no pod of objectstore is ready" in broken.reason


def test_an_origin_that_does_not_respond_is_the_reason() -> None:
    (hop,) = (hop for hop in HOPS if hop.name == "xcache")
    down = {"pod": {**ZERO["xcache"]["pod"], ("xcache_origin_up", frozenset({("origin", "a")})): 0}}
    up = {"pod": {**ZERO["xcache"]["pod"], ("xcache_origin_up", frozenset({("origin", "a")})): 1}}
    proof = hops.prove(hop, ZERO["xcache"], down, REQUIRED, finished=False)
    assert proof.suspect
    assert "an origin does not respond" in proof.reason
    assert not hops.prove(hop, ZERO["xcache"], up, REQUIRED, finished=False).suspect


@pytest.mark.parametrize(("finished", "title"), [(False, "Triton"), (True, "XCache")])
def test_services_that_a_stopped_run_has_used_are_not_to_blame(finished: bool, title: str) -> None:
    """The training has read one file of nine, and logged one run of three."""
    part = {
        name: counted(hop, 1) for name, hop in by_name().items() if name in ("xcache", "mlflow")
    }
    later = {name: ZERO[name] for name in ("triton", "servicex", "objectstore")}
    states = proofs(**part, **later)
    broken = hops.broken(states, finished=finished)
    assert broken is not None
    assert broken.title == title


def by_name() -> dict[str, hops.Hop]:
    return {hop.name: hop for hop in HOPS}


@pytest.mark.parametrize(
    ("action", "suspect"), [("PutObject", True), ("GetObject", False), ("ListObjectsV2", False)]
)
def test_a_store_is_suspect_if_it_refuses_to_store(action: str, suspect: bool) -> None:
    (hop,) = (hop for hop in HOPS if hop.name == "objectstore")
    refused = reading("objectstore_requests_total", 3, action=action, status="403")
    proof = hops.prove(hop, {}, refused, REQUIRED, finished=False)
    assert proof.suspect is suspect
    states = [proof if entry.name == proof.name else entry for entry in proofs(xcache={})]
    broken = hops.broken(states, finished=False)
    assert broken is not None
    assert broken.title == ("object store" if suspect else "XCache")


@pytest.mark.parametrize(("finished", "state"), [(False, FAILED), (True, PROVED)])
def test_a_store_that_refuses_some_is_suspect_in_a_run_that_stopped(
    finished: bool, state: str
) -> None:
    """MLflow stores all that the run requires, and ServiceX's keys are wrong."""
    hop = by_name()["objectstore"]
    (counter,) = hop.counters
    refused = (
        "objectstore_requests_total",
        frozenset({("action", "PutObject"), ("status", "403")}),
    )
    after = {"pod": {(counter.metric, frozenset(counter.labels.items())): 19.0, refused: 9.0}}
    proof = hops.prove(hop, ZERO["objectstore"], after, REQUIRED, finished=finished)
    assert proof.state == state
    if not finished:
        assert proof.reason == "it refused to store objects (403)"


def test_nothing_is_broken_where_all_hops_are_proved() -> None:
    assert hops.broken(proofs(), finished=True) is None


def packaged(folder: Path, *tags: str, mtime: int = 0) -> Path:
    """Write a packaged chart whose values name images by these tags."""
    path = folder / "coffea-shoppe-0.1.0.tgz"
    images = {tag: {"image": {"name": "r/hub", "tag": tag}} for tag in tags}
    # Images of others are not the release's.
    images["pause"] = {"image": {"name": "registry.k8s.io/pause", "tag": "3.10"}}
    values = yaml.safe_dump(images)
    with tarfile.open(path, "w:gz") as archive:
        for name, text in (
            ("coffea-shoppe/Chart.yaml", "name: coffea-shoppe"),
            ("coffea-shoppe/charts/jupyterhub/values.yaml", values),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(text), mtime
            archive.addfile(member, io.BytesIO(text.encode()))
    return path


@pytest.fixture
def passed(tmp_path: Path) -> tuple[Record, Path]:
    """A record of a gate that passed, in its folder."""
    package = packaged(tmp_path, "1a")
    (tmp_path / record.MANIFESTS).mkdir()
    manifest = tmp_path / record.MANIFESTS / "hub.json"
    manifest.write_text('{"config": {}}')
    (tmp_path / "results" / "plots").mkdir(parents=True)
    (tmp_path / "results" / "histograms.root").write_bytes(b"histograms")
    (tmp_path / "results" / "plots" / "4j2b.png").write_bytes(b"image")
    outcome = Record(
        version="0.1.0",
        commit="c0ffee",
        grade=record.SERVER,
        facility="http://127.0.0.1:1",
        started="2026-11-27T00:00:00+00:00",
        seconds=100.0,
        chart=package.name,
        chart_digest=record.chart_digest(package),
        programs={"Kubernetes": "v1"},
        images={
            "hub": Image("r/hub:1a", f"sha256:{hashlib.sha256(manifest.read_bytes()).hexdigest()}")
        },
        hops=proofs(),
        differences=[],
        files=report.results(tmp_path),
        results={"events": 3, "fit in the facility": (1.0, 0.1)},
    )
    record.write(outcome, tmp_path)
    return outcome, tmp_path


def test_a_record_is_read_as_it_was_written(passed: tuple[Record, Path]) -> None:
    outcome, folder = passed
    again = record.verified(folder)
    assert again.passed
    assert again.hops == outcome.hops
    assert again.images == outcome.images
    assert set(again.files) == {"results/histograms.root", "results/plots/4j2b.png"}


def test_a_chart_is_the_same_whenever_it_was_packaged(tmp_path: Path) -> None:
    first = record.chart_digest(packaged(tmp_path, "1a"))
    assert record.chart_digest(packaged(tmp_path, "1a", mtime=99)) == first
    assert record.chart_digest(packaged(tmp_path, "2b")) != first


def one_bin_off(folder: Path) -> None:
    (folder / "results" / "histograms.root").write_bytes(b"hjstograms")


def no_histograms(folder: Path) -> None:
    (folder / "results" / "histograms.root").unlink()


def another_chart(folder: Path) -> None:
    packaged(folder, "2b")


def another_image(folder: Path) -> None:
    (folder / record.MANIFESTS / "hub.json").write_text("{}")


def a_further_image(folder: Path) -> None:
    """As if a record had left out an image of the chart, with the right digest of the chart."""
    packaged(folder, "1a", "2b")
    rewritten(folder, chart_digest=record.chart_digest(folder / "coffea-shoppe-0.1.0.tgz"))


def rewritten(folder: Path, **changes: object) -> None:
    path = folder / record.FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def passed_by_hand(folder: Path) -> None:
    content = json.loads((folder / record.FILE).read_text())
    content["hops"][0]["state"] = FAILED
    (folder / record.FILE).write_text(json.dumps(content))


def of_a_client(folder: Path) -> None:
    content = json.loads((folder / record.FILE).read_text())
    hops_seen = [{**hop, "state": SEEN} for hop in content["hops"]]
    rewritten(folder, grade=record.CLIENT, hops=hops_seen)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (one_bin_off, "results/histograms.root: its content is not the recorded one"),
        (no_histograms, "results/histograms.root: its content is not the recorded one"),
        (another_chart, "tgz: its content is not the recorded one"),
        (another_image, "manifests/hub.json: its digest is not the recorded one"),
        (a_further_image, "names r/hub:2b, which the gate did not record"),
        (passed_by_hand, "says that it passed: True; its hops say False"),
        (lambda folder: rewritten(folder, format=2), "has format 2, not 1"),
        (lambda folder: rewritten(folder, hops=None), "is no record of a gate: TypeError"),
        (lambda folder: (folder / record.FILE).unlink(), "is no record of a gate"),
        (of_a_client, "a badge needs the services' counters"),
    ],
)
def test_no_badge_is_made_of_a_record_that_does_not_match(
    passed: tuple[Record, Path], change: Callable[[Path], object], reason: str
) -> None:
    _, folder = passed
    change(folder)
    with pytest.raises(ShoppeError) as error:
        badge.write(folder)
    assert reason in error.value.problem
    assert not (folder / badge.SVG).exists()


def test_the_badge_says_what_was_crossed(passed: tuple[Record, Path]) -> None:
    _, folder = passed
    svg, endpoint = badge.write(folder)
    image = ElementTree.fromstring(svg.read_text())  # noqa: S314  (ours)
    title = image.find("{http://www.w3.org/2000/svg}title")
    assert title is not None
    assert title.text == "coffea-shoppe 0.1.0: AGC crosses 7 of 7 services"
    assert image.get("role") == "img"
    assert badge.GREEN in svg.read_text()
    assert json.loads(endpoint.read_text()) == {
        "schemaVersion": 1,
        "label": "coffea-shoppe 0.1.0",
        "message": "AGC crosses 7 of 7 services",
        "color": badge.GREEN,
    }


def failed(outcome: Record, folder: Path) -> Record:
    """Make the record one of a run that MLflow stopped."""
    outcome.hops = proofs(mlflow="no pod of mlflow is ready", triton=ZERO["triton"])
    outcome.problem = "cell 5 raised <InputError>: MLflow refused"
    broken = hops.broken(outcome.hops, finished=False)
    outcome.broken = broken.title if broken else ""
    record.write(outcome, folder)
    return outcome


def test_the_badge_of_a_broken_service_is_red_and_names_it(passed: tuple[Record, Path]) -> None:
    failed(*passed)
    svg, endpoint = badge.write(passed[1])
    assert badge.RED in svg.read_text()
    assert json.loads(endpoint.read_text())["message"] == "broken: MLflow"


def test_the_report_has_everything_inside(passed: tuple[Record, Path]) -> None:
    outcome, folder = passed
    page = report.page(outcome, folder)
    for text in ("data:image/png;base64,", "sha256:", "1.000000 ± 0.100000", "transform requests"):
        assert text in page
    assert "http" not in page.replace(outcome.facility, "")


def test_the_report_shows_logs_of_what_failed(passed: tuple[Record, Path]) -> None:
    outcome, folder = passed
    failed(outcome, folder)
    (folder / report.LOGS).mkdir()
    (folder / report.LOGS / "shoppe-mlflow-1.log").write_text("first\n" * 100 + "<last> line\n")
    (folder / report.LOGS / "shoppe-hub-1.log").write_text("hub line\n")
    page = report.page(outcome, folder)
    assert "&lt;last&gt; line" in page
    assert "&lt;InputError&gt;" in page
    assert "hub line" not in page
    assert page.count("first") == report.LOG_LINES - 1


def test_each_hop_is_a_test_case_of_junit(passed: tuple[Record, Path]) -> None:
    outcome, folder = passed
    suite = ElementTree.fromstring(report.junit(outcome))  # noqa: S314  (ours)
    assert (suite.get("tests"), suite.get("failures")) == (str(len(HOPS) + 2), "0")
    suite = ElementTree.fromstring(report.junit(failed(outcome, folder)))  # noqa: S314  (ours)
    problems = {case.get("name"): case.find("failure") for case in suite}
    assert [name for name, problem in problems.items() if problem is not None] == [
        "triton",
        "mlflow",
        "run",
    ]


class RunningPods:
    """A cluster in which these pods run images: name, user, image."""

    def __init__(self, *pods: tuple[str, str, str]) -> None:
        self.pods = pods

    def get(self, *_: str) -> dict[str, Any]:
        return {
            "items": [
                {
                    "metadata": {"name": name, "labels": {USER_LABEL: user} if user else {}},
                    "status": {"containerStatuses": [{"imageID": f"r/hub@{digest}"}]},
                }
                for name, user, digest in self.pods
            ]
        }


def test_pods_of_another_image_are_named_except_other_users(passed: tuple[Record, Path]) -> None:
    outcome, folder = passed
    (folder / record.MANIFESTS / "hub.json").write_text('{"config": {"digest": "sha256:c0"}}')
    digest = outcome.images["hub"].digest
    pods = RunningPods(
        ("hub", "", digest),
        ("proxy", "", "sha256:c0"),
        ("old-hub", "", "sha256:old"),
        ("jupyter-gate", "gate", "sha256:old"),
        ("jupyter-ann", "ann", "sha256:old"),
    )
    problems = gates.foreign_images(pods, outcome.images, folder)  # type: ignore[arg-type]
    assert [problem.split()[1] for problem in problems] == ["old-hub", "jupyter-gate"]


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ShoppeError, match="is not empty, and not the result of a gate"):
        report.clear(tmp_path)
    assert (tmp_path / "thesis.tex").exists()


def test_the_folder_of_an_earlier_gate_is_emptied(passed: tuple[Record, Path]) -> None:
    report.clear(passed[1])
    assert not list(passed[1].iterdir())


def test_times_are_summed_by_the_heading_above_the_cells(tmp_path: Path) -> None:
    def cell(start: str, end: str) -> nbformat.NotebookNode:
        code = nbformat.v4.new_code_cell("work()")
        code.metadata["execution"] = {
            "iopub.status.busy": f"2026-11-27T00:00:{start}Z",
            "iopub.status.idle": f"2026-11-27T00:00:{end}Z",
        }
        return code

    executed = nbformat.v4.new_notebook()
    executed.cells = [
        cell("00.0", "01.5"),
        nbformat.v4.new_markdown_cell("## Fit\n\nThe fit."),
        cell("02.0", "04.0"),
        nbformat.v4.new_code_cell("never_run()"),
        cell("05.0", "05.5"),
    ]
    nbformat.write(executed, tmp_path / "executed.ipynb")
    assert notebook.sections(tmp_path / "executed.ipynb") == [
        Section("Imports", 1.5),
        Section("Fit", 2.5),
    ]


FILES = [f"root://host//{number}.root" for number in range(9)]
EVERYTHING = list(client.CONNECTIONS.values())


@pytest.mark.parametrize(
    ("connections", "settings"),
    [
        (EVERYTHING, ("servicex", "served")),
        (["xcache", "dask-gateway", "s3"], ("direct", "local")),
        (["servicex", "triton", "dask-gateway"], ("servicex", "local")),  # no registry of models
    ],
)
def test_a_client_uses_the_services_that_a_facility_has(
    connections: list[str], settings: tuple[str, str]
) -> None:
    assert client.settings_for(connections) == settings


def user_evidence(**changes: Any) -> dict[str, hops.Evidence]:
    outcome = {"served": {"even": {"rows": 7}, "odd": {"rows": 5}}, "candidates": 12}
    outcome |= {"delivered": 9, "num_workers": 2, "source": "servicex", **changes}
    return client.evidence({"cached": 9}, {"runs": 7, "objects": 9}, outcome, FILES)


def test_a_client_sees_the_services_that_it_used() -> None:
    states = {proof.name: proof.state for proof in client.prove(EVERYTHING, user_evidence())}
    assert states == {hop.name: SEEN for hop in HOPS}


@pytest.mark.parametrize(
    ("changes", "hop", "reason"),
    [
        ({"delivered": 8}, "servicex", "files delivered: 8 of at least 9"),
        ({"candidates": 13}, "triton", "rows scored: 12 of at least 13"),
        ({"num_workers": 0}, "dask", "workers: 0 of at least 1"),
    ],
)
def test_a_client_names_what_it_did_not_get(changes: dict[str, int], hop: str, reason: str) -> None:
    (failed,) = (p for p in client.prove(EVERYTHING, user_evidence(**changes)) if p.state == FAILED)
    assert (failed.name, failed.reason) == (hop, reason)


@pytest.mark.parametrize(
    ("seen", "problem", "differences", "due_to"),
    [
        ({"hub": client.STARTED}, "cell 5 raised", [], "run"),
        ({}, "no server", [], "run"),
        (None, "", [], ""),
        (None, "", ["one bin"], "results"),
    ],
)
def test_a_client_blames_no_service_for_a_run_that_stopped(
    seen: dict[str, hops.Evidence] | None, problem: str, differences: list[str], due_to: str
) -> None:
    proofs_seen = client.prove(EVERYTHING, user_evidence() if seen is None else seen)
    assert client.broken(proofs_seen, problem, differences) == due_to


def test_a_client_blames_a_service_that_gave_too_little() -> None:
    states = client.prove(EVERYTHING, user_evidence(delivered=8))
    assert client.broken(states, "", ["one bin"]) == "ServiceX"


def test_a_service_that_a_facility_lacks_is_absent() -> None:
    connections = [name for name in EVERYTHING if name not in ("triton", "mlflow")]
    states = {proof.name: proof.state for proof in client.prove(connections, user_evidence())}
    assert {name for name, state in states.items() if state == ABSENT} == {"triton", "mlflow"}


def test_a_client_s_report_says_that_it_is_no_evidence_for_a_release(
    passed: tuple[Record, Path],
) -> None:
    outcome, folder = passed
    outcome.grade, outcome.chart, outcome.images = record.CLIENT, "", {}
    outcome.hops = client.prove([*EVERYTHING[1:]], user_evidence(source="direct"))
    assert outcome.passed
    page = report.page(outcome, folder)
    assert "no badge is" in page
    assert "AGC crosses 6 of 7 services" in page
    assert 'class="seen"' in page
    assert 'class="absent"' in page


@pytest.mark.parametrize("text", ["", " \n", "two words"])
def test_a_file_without_a_token_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "token").write_text(text)
    with pytest.raises(ShoppeError, match="must contain a token and nothing else"):
        client.read_token(tmp_path / "token")


def test_a_token_s_line_end_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("abc\n")
    assert client.read_token(tmp_path / "token") == "abc"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "AttributeError"),
        ("{", "JSONDecodeError"),
        ('{"ttbar": {"nominal": {"files": [{"url": "x"}]}}}', "KeyError: 'path'"),
        ('{"ttbar": {"nominal": {"files": [{"path": "a.root"}]}}}', "cannot read a.root"),
        ('{"ttbar": {"nominal": {"files": []}}}', "has no files"),
    ],
)
def test_a_fileset_of_another_form_is_refused(tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "files.json").write_text(content)
    with pytest.raises(ShoppeError, match=re.escape(reason)):
        client.read_fileset(tmp_path / "files.json")


def test_a_fileset_is_read(tmp_path: Path) -> None:
    content = {"ttbar": {"nominal": {"files": [{"path": "root://h//a.root", "nevts": 3}]}}}
    (tmp_path / "files.json").write_text(json.dumps(content))
    assert client.read_fileset(tmp_path / "files.json") == content


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """A gate's folder whose results are the same with and without the facility."""
    for name in (results.FACILITY, results.ALONE):
        (tmp_path / name / "fit").mkdir(parents=True)
        (tmp_path / name / "report.json").write_text('{"candidates": 12}')
        write_fit(tmp_path / name, 0.97, 0.17)
    return tmp_path


def write_fit(folder: Path, value: float, error: float) -> None:
    content = {"parameters": {"ttbar_norm": {"value": value, "error": error}}}
    (folder / "fit" / "fit.json").write_text(json.dumps(content))


def test_the_same_results_have_no_difference(both: Path) -> None:
    comparison = results.compare(both)
    assert comparison.differences == []
    assert comparison.fits == ((0.97, 0.17), (0.97, 0.17))


@pytest.mark.parametrize(
    ("value", "error", "difference"),
    [
        (0.97001, 0.17, "the fit's value is 0.97001, not 0.97"),
        (0.97, 0.1701, "the fit's error is 0.1701, not 0.17"),
    ],
)
def test_another_fit_is_a_difference(
    both: Path, value: float, error: float, difference: str
) -> None:
    write_fit(both / results.FACILITY, value, error)
    assert results.compare(both).differences == [difference]


def test_a_fit_that_is_missing_is_a_difference(both: Path) -> None:
    (both / results.FACILITY / "fit" / "fit.json").unlink()
    assert results.compare(both).differences == ["there is no fit"]


def test_other_candidates_are_a_difference(both: Path) -> None:
    (both / results.FACILITY / "report.json").write_text('{"candidates": 11}')
    assert results.compare(both).differences == ["11 candidates were scored, not 12"]


def test_a_histogram_that_is_missing_is_a_difference(both: Path) -> None:
    (both / results.ALONE / "histograms.root").write_bytes(b"")
    (difference,) = results.compare(both).differences
    assert difference == "histograms.root is missing in the facility's results"
