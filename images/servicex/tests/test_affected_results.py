"""Which stored results earlier code may have made wrong: found by what the requests ask for."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from coffea_shoppe_servicex import affected
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.codegens.uproot_raw import UprootRaw
from coffea_shoppe_servicex.database import Request, transaction
from coffea_shoppe_servicex.faults import FAULTS, REVISION
from servicex_helpers import ANN, BOB, finish, raw, submit, take

EVENTS = "(call EventDataset 'x' 'Events')"
WHERE = "(call Where " + EVENTS + " (lambda (list e) {}))"
SELECT = "(call Select {} (lambda (list e) (attr e 'MET_pt')))"
MET = "(attr e 'MET_pt')"
STANDARD = {"use_standard_awkward_axis": True}
ALWAYS = ["changed-files", "misread-arrays"]
"""What any file may be concerned by."""
RIGHT = raw(treename="Events", filter_name=["MET_*"], cut="(nJet > 2) & (MET_pt > 30)")


def stored(backend: Backend, *, revision: int = 0, **more: Any) -> str:
    """Return a request that is complete, made by code of a revision."""
    identifier = submit(backend, **more)
    finish(backend, take(backend))
    with transaction(backend.context.engine) as session:
        session.get_one(Request, identifier).revision = revision
    return identifier


def faults(backend: Backend, *, by_files: bool = False) -> dict[str, list[str]]:
    rows = affected.affected(backend.context.engine, backend.context.codegens, by_files=by_files)
    return {row.request: row.faults for row in rows}


QUERIES = [
    ("servicex-numeric-cuts", raw(treename="t", filter_name="x", cut="nJet")),
    ("servicex-numeric-cuts", raw(treename="t", filter_name="x", cut="ejets | passT")),
    ("servicex-numeric-cuts", raw(treename="t", filter_name="x", cut="~ejets & (event > 1050)")),
    ("servicex-numeric-cuts", raw(treename="t", filter_name="x", cut="B0 mass")),
    ("servicex-numeric-cuts", SELECT.format(WHERE.format("(attr e 'ejets')"))),
    ("servicex-cut-without-value", raw(treename="t", filter_name="x", cut="max(Jet_pt) > 30")),
    (
        "servicex-cut-without-value",
        SELECT.format(WHERE.format("(> (call Max (attr e 'Jet_pt')) 30)")),
    ),
    ("expressions-over-events", raw(treename="t", expressions="x / sum(x, axis=None)")),
    ("expressions-over-events", raw(treename="t", expressions="x", aliases={"a": "x[0]"})),
    ("expressions-over-events", raw(treename="t", filter_name="x", cut="x > sort(x, axis=0)")),
    (
        "servicex-cut-without-value",
        raw(treename="t", filter_name="x", cut="m > 30", aliases={"m": "max(Jet_pt)"}),
    ),
    (
        "servicex-cut-without-value",
        raw(treename="t", filter_name="x", cut="b", aliases={"b": "a > 3", "a": "firsts(pt) + b"}),
    ),
    (
        "servicex-cut-without-value",
        raw(treename="t", filter_name="x", cut="get('m 1') > 30", aliases={"m 1": "min(Jet_pt)"}),
    ),
    ("servicex-numeric-cuts", raw(treename="t", filter_name="x", cut="a", aliases={"a": "nJet"})),
    ("servicex-numeric-cuts", raw(treename="t", filter_name="x", cut="a", aliases={"a": "a"})),
    *(
        ("expressions-over-events", raw(treename="t", expressions=text, **STANDARD))
        for text in ("njet / sum(njet)", "sort(jet_pt, None)", "np.std(event)", "ak.max(pt) - pt")
    ),
    *(
        ("expressions-over-events", raw(treename="t", expressions=text))
        for text in (
            *(
                "sum(njet, None)",
                "sort(event, 0)",
                "combinations(event, 2, axis=0)",
                "num(event, 0)",
            ),
            *("event[-1]", "event[::-1]", "event[1:]", "jet_pt[0, :]", "event[[1, 0]]"),
            *("event[None]", "max([event, ejets])", "concatenate([event, ejets], axis=0)"),
        )
    ),
    ("expressions-over-events", SELECT.format(EVENTS).replace(MET, f"(call firsts {MET} 0)")),
    *(
        ("inverted-constants", raw(treename="t", expressions="x", cut=cut, aliases={"a": "1 > 0"}))
        for cut in ("~(1 > 0) | (x > 1)", "(x > 1) & ~a", "any(~True & (x > 1))")
    ),
    ("inverted-constants", SELECT.format(WHERE.format("(and (> (attr e 'x') 1) (~ (> 1 0)))"))),
    ("funcadl-without-select", WHERE.format("(> (attr e 'MET_pt') 50)")),
]


@pytest.mark.parametrize(("fault", "selection"), QUERIES)
def test_a_query_that_earlier_code_got_wrong_is_listed(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, fault: str, selection: str
) -> None:
    codegen = "uproot" if selection.startswith("(") else "uproot-raw"
    # The code refuses some of them now.
    accepting = UprootRaw((), ())
    monkeypatch.setattr(type(backend.context.codegens), "parse", lambda *_: accepting)
    identifier = stored(backend, codegen=codegen, selection=selection)
    monkeypatch.undo()
    assert faults(backend) == {identifier: [fault]}


@pytest.mark.parametrize(
    "selection",
    [
        RIGHT,
        raw(treename="t", filter_name="x"),
        raw(treename="t", filter_name="x", cut="any(Jet_pt > 30)"),
        raw(treename="t", expressions="sum(Jet_pt, axis=1)", cut="any(Jet_pt[Jet_id > 0] > 3)"),
        raw(treename="t", filter_name="x", cut="~(nJet > 3) | (x == 1)"),
        raw(treename="t", filter_name="x", cut="a & b", aliases={"a": "x > 1", "b": "any(a)"}),
        raw(treename="t", expressions=["sum(Jet_pt, 1)", "num(Jet_pt)"], **STANDARD),
        raw(treename="t", expressions=["Jet_pt[:, 0]", "Jet['pt']", "Jet[['pt', 'eta']]"]),
        raw(treename="t", expressions=["max([x, y], axis=0)", "sort(Jet_pt)", "Jet_pt[:]"]),
        SELECT.format(EVENTS).replace(MET, "(call ElementAt (attr e 'Jet_pt') 0)"),
        SELECT.format(WHERE.format("(and (> (attr e 'MET_pt') 50) (not (attr e 'flag')))")),
        SELECT.format(EVENTS),
    ],
)
def test_other_queries_are_not_listed(backend: Backend, selection: str) -> None:
    codegen = "uproot" if selection.startswith("(") else "uproot-raw"
    stored(backend, codegen=codegen, selection=selection)
    assert faults(backend) == {}


def test_results_of_the_present_code_are_not_listed(backend: Backend) -> None:
    selection = raw(treename="t", filter_name="x", cut="nJet")
    old = stored(backend, selection=selection)
    stored(backend, selection=selection, title="new", revision=REVISION)
    assert set(faults(backend)) == {old}


def test_only_stored_results_are_listed(backend: Backend) -> None:
    selection = raw(treename="t", filter_name="x", cut="nJet")
    deleted, present = (stored(backend, selection=selection, title=name) for name in "ab")
    backend.requests.delete(ANN, deleted)
    submit(backend, BOB, selection=selection)
    assert set(faults(backend)) == {present}


def test_what_depends_on_the_files_is_listed_if_it_is_requested(backend: Backend) -> None:
    identifier = stored(backend, selection=RIGHT, result_format="root-rntuple")
    assert faults(backend) == {}
    assert faults(backend, by_files=True) == {identifier: ALWAYS + ["rntuple-variants"]}


def test_a_file_that_was_overwritten_may_have_been_read_as_it_was(backend: Backend) -> None:
    identifier = stored(backend, selection=RIGHT)
    stored(backend, selection=RIGHT, title="new", revision=REVISION)
    assert faults(backend, by_files=True) == {identifier: ALWAYS}


@pytest.mark.parametrize(
    ("expression", "more"),
    [
        *(("sum(x, axis=-1)", {}), ("x[y]", {}), ("sort(x)", STANDARD)),
        *(("local_index(x, axis=-2)", {}), ("Jet_pt[argmax(Jet_pt, keepdims=True)]", {})),
    ],
)
def test_what_goes_over_events_of_flat_branches_depends_on_the_files(
    backend: Backend, expression: str, more: dict[str, Any]
) -> None:
    identifier = stored(backend, selection=raw(treename="t", expressions=expression, **more))
    assert faults(backend) == {}
    assert "expressions-over-events-2" in faults(backend, by_files=True)[identifier]


@pytest.mark.parametrize(
    ("selection", "others"),
    [
        (raw(treename="t", filter_name="Jet_*", cut="Jet_pt > max(Muon_pt)"), []),
        (
            raw(treename="t", filter_name="Jet_*", cut="m > 3", aliases={"m": "mask(Jet_pt, ok)"}),
            [],
        ),
        (
            SELECT.format(EVENTS).replace(
                MET, "(call Where (attr e 'j') (lambda (list j) (> j (call Max (attr e 'm')))))"
            ),
            ["sequences-within-lambdas"],
        ),
    ],
)
def test_conditions_on_objects_that_may_have_no_value(
    backend: Backend, selection: str, others: list[str]
) -> None:
    codegen = "uproot" if selection.startswith("(") else "uproot-raw"
    identifier = stored(backend, selection=selection, codegen=codegen, revision=1)
    stored(backend, selection=selection, codegen=codegen, title="new", revision=REVISION)
    assert faults(backend) == {}
    listed = ["missing-lists-in-cuts", *others, "misread-arrays"]
    assert faults(backend, by_files=True) == {identifier: listed}


@pytest.mark.parametrize(("body", "is_listed"), [("(attr e 'n')", False), ("j", True)])
def test_lambdas_within_lambdas_may_have_paired_sequences(
    backend: Backend, body: str, is_listed: bool
) -> None:
    if is_listed:
        body = f"(call Select (attr e 'jet') (lambda (list j) {body}))"
    selection = f"(call Select {EVENTS} (lambda (list e) {body}))"
    identifier = stored(backend, selection=selection, codegen="uproot", revision=2)
    assert faults(backend) == {}
    listed = faults(backend, by_files=True)[identifier]
    assert ("sequences-within-lambdas" in listed) is is_listed


def test_aliases_of_aliases_are_looked_at_once(backend: Backend) -> None:
    """Each names the one before twice: a query of 60 aliases would be 2^60 terms."""
    doubled = {f"a{n}": f"a{n - 1} & a{n - 1}" for n in range(1, 60)}
    for first in ("x > 1", "max(x) > 1"):
        selection = raw(treename="t", filter_name="x", cut="a59", aliases={"a0": first, **doubled})
        identifier = stored(backend, selection=selection, title=first)
    assert faults(backend) == {identifier: ["servicex-cut-without-value"]}


def test_files_that_a_dataset_listed_twice_are_seen(backend: Backend) -> None:
    identifier = stored(backend, selection=RIGHT)
    assert faults(backend) == {}
    (twin,) = backend.requests.files(ANN, identifier)
    with transaction(backend.context.engine) as session:
        request = session.get_one(Request, identifier)
        twins = {name: getattr(twin, name) for name in type(twin).__table__.columns.keys()}  # noqa: SIM118
        del twins["id"]
        session.add(type(twin)(**twins))
        assert request.files == 1
    assert faults(backend) == {identifier: ["repeated-files-of-datasets"]}


def test_results_of_earlier_code_are_not_reused(backend: Backend) -> None:
    first = stored(backend, selection=RIGHT, revision=REVISION)
    again = submit(backend, selection=RIGHT)
    assert backend.requests.get(ANN, again).folder == first
    request = backend.requests.get(ANN, first)
    (file,) = backend.requests.files(ANN, first)
    files = [{"paths": file.urls, "identity": file.identity}]
    key = request.cache_key
    assert backend.requests.lifecycle.cache_key(request, files) == key
    request.revision = 0
    assert backend.requests.lifecycle.cache_key(request, files) != key


def test_the_command_names_requests_owners_and_what_may_be_wrong(
    backend: Backend, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    selection = raw(treename="t", filter_name="x", cut="nJet")
    identifier = stored(backend, selection=selection, title="my request")
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        yaml.safe_dump(
            {
                "database": backend.context.settings.database,
                "objects": {"folder": str(tmp_path)},
                "s3Gateway": {"endpoint": "127.0.0.1:7000"},
            }
        )
    )
    affected.main(["--settings", str(settings)])
    first, explanation, count = capsys.readouterr().out.splitlines()
    assert first.split()[:2] == [identifier, "ann"]
    assert first.endswith("servicex-numeric-cuts  my request")
    assert explanation.startswith("servicex-numeric-cuts: ")
    assert count == "1 requests with stored results that may be wrong"
    affected.main(["--settings", str(settings), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["request"] == identifier
    assert row["faults"] == ["servicex-numeric-cuts"]


def test_each_fault_has_a_changelog_fragment_until_it_is_released() -> None:
    changes = Path(__file__).parents[3]
    fragments = {path.name.split(".")[0][1:] for path in (changes / "changelog.d").glob("+*")}
    released = (changes / "CHANGELOG.md").read_text()
    assert [
        fault.name for fault in FAULTS if fault.name not in fragments and "## " not in released
    ] == []
