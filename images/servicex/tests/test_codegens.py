"""Code generators: those of the package, and those that an operator adds as files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from coffea_shoppe_servicex import main
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.codegens import Codegens
from coffea_shoppe_servicex.errors import CodegenError, QueryError
from servicex import ProgressBarFormat, dataset, deliver
from servicex_helpers import ANN, Service, changed, finish, serving, submit, take

TOY = Path(__file__).parent / "added" / "columns.py"
SELECTION = "Events: met, event"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one file."""
    folder = tmp_path_factory.mktemp("codegens")
    shutil.copy(TOY, folder)
    return folder


@pytest.fixture(scope="module")
def extended(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The service of a laptop with the one value."""
    with serving(tmp_path_factory.mktemp("extended"), transformers=1, codegens=folder) as service:
        yield service


def sample(file: Path, selection: str = SELECTION) -> dict[str, Any]:
    listed = dataset.FileList([str(file)])
    return {"Name": "toy", "Dataset": listed, "Codegen": "columns", "Query": selection}


def deliver_sample(service: Service, folder: Path, entry: dict[str, Any]) -> Any:
    config = service.client(folder)
    spec = {"General": {"OutputFormat": "parquet"}, "Sample": [entry]}
    return deliver(spec, config_path=config, progress_bar=ProgressBarFormat.none)["toy"]


def test_one_file_and_one_value_add_a_code_generator(
    extended: Service, inputs: list[Path], tmp_path: Path
) -> None:
    import awkward as ak

    (path,) = deliver_sample(extended, tmp_path, sample(inputs[1]))
    result = ak.from_parquet(path)
    assert result.fields == ["met", "event"]
    assert result.event.tolist() == list(range(1000, 2000))
    info = requests.get(f"{extended.url}/servicex", timeout=20).json()
    assert set(info["code-gen-image"]) == {"columns", "python", "uproot", "uproot-raw"}
    assert "`TREE: BRANCH, BRANCH`" in info["code-gen-description"]["columns"]


def test_an_added_code_generator_refuses_and_estimates(
    extended: Service, inputs: list[Path]
) -> None:
    def estimate(selection: str) -> requests.Response:
        body = {"codegen": "columns", "selection": selection, "file-list": [str(inputs[0])]}
        return requests.post(f"{extended.url}/servicex/estimate", json=body, timeout=30)

    assert estimate(SELECTION).json()["events"] == 1000
    assert 0 < estimate("Events: met").json()["read"] < estimate(SELECTION).json()["read"]
    for selection, message in (("Events", "write TREE: BRANCH"), ("Events: mett", "is it 'met'?")):
        response = estimate(selection)
        assert response.status_code == 400
        assert message in response.json()["message"]


def test_without_the_file_there_is_no_such_code_generator(
    service: Service, inputs: list[Path], tmp_path: Path
) -> None:
    # The client asks the service for its code generators.
    assert not deliver_sample(service, tmp_path, sample(inputs[0])).valid()
    body = {"codegen": "columns", "selection": SELECTION, "file-list": [str(inputs[0])]}
    for call in ("transformation", "estimate"):
        response = requests.post(f"{service.url}/servicex/{call}", json=body, timeout=20)
        assert response.status_code == 400
        message = "no codegen 'columns' in this facility; set one of python, uproot, uproot-raw"
        assert message in response.json()["message"]


def test_those_that_are_switched_off_are_neither_run_nor_estimated(backend: Backend) -> None:
    few = changed(backend, codegens=["uproot"])
    with pytest.raises(QueryError, match=r"set one of uproot$"):
        submit(few)
    assert submit(changed(backend, codegens=["uproot-raw"]))


def test_a_changed_file_gives_another_result(
    backend: Backend, folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / TOY.name, tmp_path)
    toy: dict[str, Any] = {"codegen": "columns", "selection": SELECTION}

    def status(reading: Backend) -> str:
        # The file is read when the service starts.
        return reading.requests.get(ANN, submit(reading, **toy)).status

    reading = changed(backend, codegens_folder=tmp_path)
    submit(reading, **toy)
    finish(reading, take(reading))
    assert status(reading) == "Complete"
    with (tmp_path / TOY.name).open("a") as file:
        file.write("# changed\n")
    reading = changed(backend, codegens_folder=tmp_path)
    assert status(reading) == "Running"


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("columns", "import Any", "import Anything", "cannot be imported: ImportError"),
        ("columns", "class Columns(", "class Columns(", ""),
        ("columns", "(TreeCodegen)", "", "must define one class that inherits from Codegen; it "),
        ("columns", "def write(", "def written(", "Columns: the method write is missing"),
        ("columns", 'name = "columns"', 'name = "Columns"', "name: 'Columns' is not lower-case"),
        ("columns", '    name = "columns"\n', "", "name: None is not lower-case"),
        ("columns", "    description = ", "    text = ", "description: must be a line"),
        ("columns", "    tree: str\n", "    declared = 1\n    tree: str\n", "declared: must be T"),
        ("columns", 'name = "columns"', 'name = "python"', "'python' is built in"),
        ("other", 'name = "columns"', 'name = "columns"', "the file columns.py"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    text = TOY.read_text()
    assert old in text
    path = tmp_path / f"{name}.py"
    path.write_text(text.replace(old, new, 1))
    if not message:
        assert Codegens.load(folder=tmp_path).is_declared("columns")
        return
    with pytest.raises(CodegenError) as caught:
        Codegens.load(folder=tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_settings_that_name_no_code_generator_are_refused(folder: Path, tmp_path: Path) -> None:
    assert Codegens.load(["columns"], folder).offered == ("columns",)
    with pytest.raises(CodegenError, match=r"no code generator 'column'; give one of columns, pyt"):
        Codegens.load(["column"], folder)
    with pytest.raises(CodegenError, match="is not a folder"):
        Codegens.load(folder=tmp_path / "absent")


def test_a_command_ends_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bad.py"
    path.write_text("import no_such_module\n")
    words = ["transformer", "--api=http://localhost:1", f"--key={path}", f"--codegens={tmp_path}"]
    monkeypatch.setattr(sys, "argv", ["coffea-shoppe-servicex", *words])
    with pytest.raises(SystemExit, match=r"bad\.py: cannot be imported: ModuleNotFoundError"):
        main.main()


def test_selections_are_parsed_without_large_libraries(folder: Path) -> None:
    """API and controller have little memory."""
    program = """
import sys
from pathlib import Path
from coffea_shoppe_servicex import servers
from coffea_shoppe_servicex.codegens import Codegens
codegens = Codegens.load(folder=Path(sys.argv[1]))
codegens.parse("uproot-raw", '[{"treename": "t", "expressions": ["a + b"]}]', "parquet")
codegens.parse("columns", "t: a", "parquet")
print([name for name in ("awkward", "numpy", "pyarrow", "uproot") if name in sys.modules])
import uproot
print([name for name in ("awkward", "numpy", "uproot") if name in sys.modules])
"""
    command = [sys.executable, "-c", program, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    before, after = map(json.loads, done.stdout.replace("'", '"').splitlines())
    assert (before, after) == ([], ["awkward", "numpy", "uproot"])
