"""The stock client, as PyPI has it, against the whole service."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import requests
import uproot
from servicex import ProgressBarFormat, dataset, query
from servicex import deliver as stock
from servicex.query_core import Query
from servicex_helpers import Service, make

Deliver = Callable[..., dict[str, Any]]
FORMATS = ("parquet", "root-ttree", "root-rntuple")
POLL_S = 0.2


@pytest.fixture(scope="module", autouse=True)
def impatient() -> Iterator[None]:
    """The client asks again after a moment, not after five seconds."""
    usual = Query.__init__

    def often(query: Query, *words: Any, **options: Any) -> None:
        usual(query, *words, **options)
        query.servicex_polling_interval = query.minio_polling_interval = POLL_S

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Query, "__init__", often)
        yield


def listed(*paths: Path) -> Any:
    return dataset.FileList([str(path) for path in paths])


def deliver(config: str, samples: list[dict[str, Any]], form: str = "parquet", **more: Any) -> Any:
    """Return what the client's deliver() gives for each sample; they run side by side."""
    general = {"OutputFormat": form, **more}
    spec = {"General": general, "Sample": samples}
    return stock(spec, config_path=config, progress_bar=ProgressBarFormat.none)


def run_query(input_filenames: str) -> object:
    import uproot

    with uproot.open(input_filenames) as file:
        return file["Events"].arrays(["met"], "met < 10")


def samples(inputs: list[Path]) -> list[dict[str, Any]]:
    raw = {
        "treename": "Events",
        "expressions": ["event", "Jet_pt", "sum(Jet_pt)"],
        "cut": "nJet > 2",
    }
    nano = {"treename": "Events", "filter_name": ["event", "nJet", "Jet_*"]}
    several = {"treename": {"Events": "nominal", "Events_up": "up"}, "expressions": ["met"]}
    funcadl = (
        query.FuncADL_Uproot()
        .FromTree("Events")
        .Where(lambda e: e.met > 100)
        .Select(
            lambda e: {
                "pt": e.Jet_pt.Where(lambda j: j > 120),
                "n": e.Jet_pt.Count(),
                "twice": e.met * 2,
            }
        )
    )
    return [
        {"Name": "raw", "Dataset": listed(*inputs), "Query": query.UprootRaw(raw)},
        {"Name": "nano", "Dataset": listed(inputs[0]), "Query": query.UprootRaw(nano)},
        {"Name": "several", "Dataset": listed(inputs[0]), "Query": query.UprootRaw(several)},
        {"Name": "funcadl", "Dataset": listed(inputs[0]), "Query": funcadl},
        {"Name": "own", "Dataset": listed(inputs[0]), "Query": query.PythonFunction(run_query)},
    ]


@pytest.fixture(scope="module")
def delivered(
    service: Service, inputs: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, list[Any]]]:
    """All query types in all formats: format → sample → the results' trees, in order."""

    def run(form: str) -> dict[str, list[Any]]:
        config = service.client(tmp_path_factory.mktemp("client"))
        files = deliver(config, asked[form], form)
        return {name: [read(path) for path in sorted(some)] for name, some in files.items()}

    # The client parses this file for them, which it does not do in several threads.
    asked = {form: samples(inputs) for form in FORMATS}
    with ThreadPoolExecutor(len(FORMATS)) as pool:
        return dict(zip(FORMATS, pool.map(run, FORMATS), strict=True))


def read(path: str) -> Any:
    """Return a result's trees by name; parquet has one, named ''."""
    if path.endswith(".parquet"):
        return {"": ak.from_parquet(path)}
    with uproot.open(path) as file:
        return {name: file[name].arrays() for name in file.keys(cycle=False)}


def one(trees: dict[str, Any]) -> Any:
    (tree,) = trees.values()
    return tree


@pytest.mark.parametrize("form", FORMATS)
def test_expressions_and_a_cut(delivered: Any, form: str) -> None:
    found = ak.concatenate([one(trees) for trees in delivered[form]["raw"]])
    assert found.event.tolist() == [n for n in range(3000) if n % 4 == 3]
    assert ak.all(found["sum(Jet_pt)"] == 3 * found.event + 3)
    assert str(found.Jet_pt.type) == "750 * var * float64"


@pytest.mark.parametrize("form", FORMATS)
def test_branches_by_name(delivered: Any, form: str, inputs: list[Path]) -> None:
    found = one(delivered[form]["nano"][0])
    original = uproot.open(inputs[0])["Events"].arrays(["event", "nJet", "Jet_pt", "Jet_eta"])
    assert ak.all(found.event == original.event)
    assert ak.all(found.nJet == original.nJet)
    assert ak.all(found.Jet_pt == original.Jet_pt)
    assert ak.all(found.Jet_eta == original.Jet_eta)


def test_a_root_tree_keeps_the_shape_of_nanoaod(delivered: Any) -> None:
    found = one(delivered["root-ttree"]["nano"][0])
    assert sorted(found.fields) == ["Jet_eta", "Jet_pt", "event", "nJet"]


@pytest.mark.parametrize("form", FORMATS)
def test_systematics_several_trees_in_as_many_out(delivered: Any, form: str) -> None:
    trees = delivered[form]["several"][0]
    if form == "parquet":
        rows = trees[""]
        trees = {name: rows[rows.treename == name] for name in ("nominal", "up")}
    assert trees["nominal"].met.tolist() == list(range(1000))
    assert trees["up"].met.tolist() == list(range(0, 2000, 2))


@pytest.mark.parametrize("form", FORMATS)
def test_funcadl(delivered: Any, form: str) -> None:
    found = one(delivered[form]["funcadl"][0])
    numbers = range(101, 1000)
    assert found.n.tolist() == [n % 4 for n in numbers]
    wanted = [[float(n + i) for i in range(n % 4) if n + i > 120] for n in numbers]
    assert found.pt.tolist() == wanted
    assert ak.all(found.twice == 2 * np.arange(101, 1000))


@pytest.mark.parametrize("form", FORMATS)
def test_a_function_of_the_user_s_own(delivered: Any, form: str) -> None:
    assert one(delivered[form]["own"][0]).met.tolist() == list(range(10))


def test_urls_can_be_read_without_credentials(
    service: Service, inputs: list[Path], tmp_path: Path
) -> None:
    raw = query.UprootRaw({"treename": "Events", "expressions": ["met"]})
    asked = [{"Name": "a", "Dataset": listed(*inputs[:2]), "Query": raw}]
    urls = deliver(service.client(tmp_path), asked, Delivery="URLs")["a"]
    assert len(urls) == 2
    for url in urls:
        assert "AWSAccessKeyId" in url, "the stock client signs by version 2"
        assert requests.get(url, timeout=20).content[:4] == b"PAR1"
        tampered = url.replace("Signature=", "Signature=A")
        assert requests.get(tampered, timeout=20).status_code == 403
    name = urls[0].partition("?")[0].rpartition("/")[2]
    other = urls[1].replace(urls[1].partition("?")[0].rpartition("/")[2], name)
    assert requests.get(other, timeout=20).status_code == 403, "good for its own object alone"


def status(service: Service, title: str) -> dict[str, Any]:
    found = requests.get(f"{service.url}/servicex/transformation", timeout=20).json()["requests"]
    return next(one for one in found if one["title"].startswith(title))


def test_a_partial_result_is_not_taken_for_a_whole_one(
    service: Service, inputs: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The client's own check is lost in a callback: trap 1."""
    without = tmp_path / "empty.root"
    with uproot.recreate(without) as file:
        file["Other"] = {"x": np.arange(3)}
    raw = query.UprootRaw({"treename": "Events", "expressions": ["met"]})
    asked = [{"Name": "partial", "Dataset": listed(inputs[0], without), "Query": raw}]
    found = deliver(service.client(tmp_path), asked)["partial"]
    assert not found.valid()
    told = status(service, "partial")
    assert (told["status"], told["files-completed"], told["files-failed"]) == ("Fatal", 1, 1)
    assert "MissingTree" in caplog.text
    assert "empty.root: has no tree 'Events'; it contains: Other" in caplog.text
    log = requests.get(told["log-url"], timeout=20).text
    assert "MissingTree: " in log
    assert str(inputs[0]) in log


def test_files_of_one_name_are_all_delivered(service: Service, tmp_path: Path) -> None:
    """Rows with one object's name would have the client wait for ever: trap 2."""
    same = [
        make(tmp_path / folder / "same.root", first=first)
        for folder, first in (("a", 0), ("b", 5000))
    ]
    raw = query.UprootRaw({"treename": "Events", "expressions": ["event"]})
    asked = [{"Name": "same", "Dataset": listed(*same), "Query": raw}]
    files = deliver(service.client(tmp_path), asked)["same"]
    found = ak.concatenate([ak.from_parquet(path) for path in sorted(files)])
    assert found.event.tolist() == [*range(1000), *range(5000, 6000)]


@pytest.mark.parametrize(
    ("asked", "files", "told"),
    [
        (query.UprootRaw({"treename": "Events", "expressions": ["eval(1)"]}), 1, "'eval'"),
        (query.PythonFunction("def run_query(f):\n  return 1 +\n"), 1, "line 2 of your function"),
        (query.UprootRaw({"treename": "Events", "expressions": ["met"]}), 2, "twice"),
        (query.UprootRaw({"treename": "Events", "expressions": ["met"]}), 0, "is empty"),
    ],
)  # fmt: skip
def test_what_can_never_work_is_refused_at_once(
    service: Service, inputs: list[Path], tmp_path: Path, asked: Any, files: int, told: str
) -> None:
    named = dataset.FileList([str(inputs[0])] * files)
    spec = [{"Name": "bad", "Dataset": named, "Query": asked}]
    found = deliver(service.client(tmp_path), spec)["bad"]
    with pytest.raises(Exception, match="ServiceX request") as caught:
        list(found)
    assert told in str(caught.value.__cause__ or caught.value)


BAD = {
    "syntax": (
        # Only the file tells whether a branch has this name.
        {"treename": "Events", "expressions": ["met +"]},
        "'met +' is neither a branch nor an expression",
    ),
    "tree": ({"treename": "Event", "expressions": ["met"]}, "has no tree 'Event'; is it 'Events'?"),
    "branch": (
        {"treename": "Events", "expressions": ["metx"]},
        "has no branch 'metx'; is it 'met'?",
    ),
    "types": (
        {"treename": "Events", "expressions": ["Jet_pt + Jet_pt[:, :1]"]},
        "cannot broadcast",
    ),
}


def test_what_fails_in_a_file_is_told_in_the_client_s_own_output(
    service: Service, inputs: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truncated = tmp_path / "truncated.root"
    truncated.write_bytes(inputs[0].read_bytes()[:2000])
    good = query.UprootRaw({"treename": "Events", "expressions": ["met"]})
    asked = [
        {"Name": name, "Dataset": listed(inputs[0]), "Query": query.UprootRaw(raw)}
        for name, (raw, _) in BAD.items()
    ]
    asked.append({"Name": "missing", "Dataset": listed(tmp_path / "no.root"), "Query": good})
    asked.append({"Name": "truncated", "Dataset": listed(truncated), "Query": good})
    code = "def run_query(f):\n    return 1 / 0\n"
    asked.append({"Name": "own", "Dataset": listed(inputs[0]), "Query": query.PythonFunction(code)})
    found = deliver(service.client(tmp_path), asked)
    # The client forgets a failure for which no file is left to download, if it sees the request's
    # end first while it waits for files.
    assert not [name for name, files in found.items() if files.valid() and list(files)]
    told = {name: text for name, (_, text) in BAD.items()} | {
        "missing": "no.root: no such file",
        "truncated": "truncated",
        "own": "line 2 of your function: ZeroDivisionError",
    }
    shown = [record.getMessage() for record in caplog.records] + [caplog.text]
    for name, text in told.items():
        assert any(f'"{name}: ' in line and text in line for line in shown), name


def estimate(service: Service, files: list[Path], **query: Any) -> requests.Response:
    body = {
        "codegen": "uproot-raw",
        "selection": json.dumps([query]),
        "file-list": [str(path) for path in files],
    }
    return requests.post(f"{service.url}/servicex/estimate", json=body, timeout=30)


def test_a_request_is_priced_before_it_is_made(
    service: Service, inputs: list[Path], tmp_path: Path
) -> None:
    few, many = (
        estimate(service, inputs, treename="Events", **more).json()
        for more in ({"expressions": ["met"]}, {"filter_name": "*"})
    )
    assert (few["files"], few["events"]) == (3, 3000)
    sizes = [uproot.open(path)["Events/met"].compressed_bytes for path in inputs]
    assert few["read"] == sum(sizes)
    assert many["read"] > 5 * few["read"]
    assert few["seconds"] > 0
    assert "no transform" in many["basis"]
    priced = query.UprootRaw({"treename": "Events", "expressions": ["met", "Jet_pt"]})
    asked = [{"Name": "priced", "Dataset": listed(inputs[0]), "Query": priced}]
    deliver(service.client(tmp_path), asked)
    selection = json.loads(status(service, "priced")["selection"])[0]
    known = estimate(service, inputs, **selection).json()
    assert "1 files that were transformed" in known["basis"]
    # What was read of so small a file is for a good part its metadata.
    assert known["output"] == pytest.approx(3 * bytes_of(service, "priced"), rel=0.6)
    wrong = estimate(service, inputs, treename="Event", expressions=["met"])
    assert wrong.status_code == 400
    assert "is it 'Events'?" in wrong.json()["message"]


def bytes_of(service: Service, title: str) -> int:
    path = f"/servicex/transformation/{status(service, title)['request_id']}/results"
    found = requests.get(service.url + path, timeout=20).json()["results"]
    return sum(row["total-bytes"] for row in found)


def test_the_client_s_command_line(service: Service, inputs: list[Path], tmp_path: Path) -> None:
    service.client(tmp_path)

    def run(*words: str) -> str:
        command = [sys.executable, "-m", "servicex.app.main", *words]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        return done.stdout

    assert "uproot-raw" in run("codegen", "list")
    body = {
        "title": "by command",
        "codegen": "python",
        "selection": base64.b64encode(b"def run_query(f):\n  import time; time.sleep(60)").decode(),
        "file-list": [str(inputs[0])],
    }
    response = requests.post(f"{service.url}/servicex/transformation", json=body, timeout=20)
    request = response.json()["request_id"]
    assert "by command" in run("transforms", "list")
    # 3.3.1 does what it is asked here, and then fails on its own response.
    run("transforms", "cancel", request)
    assert status(service, "by command")["status"] == "Canceled"
    run("transforms", "delete", request)
    assert "by command" not in run("transforms", "list")
