"""`ci/shoppe fields`: counts by format, reasons of refusals, and a status for what is wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from shoppe_ci import fields, shell
from shoppe_ci.cli import main
from shoppe_ci.errors import ShoppeError


def outcome(form: str, verdict: str = "equal", **more: Any) -> dict[str, Any]:
    return {
        "file": "owner/name/a.root",
        "tree": "t",
        "form": form,
        "verdict": verdict,
        "reason": "",
        "columns": 3,
        "refused": {},
        "refused_kinds": {},
    } | more


REFUSED = outcome(
    "root-file",
    refused={"vv": "'vv' is not a type of a TTree"},
    refused_kinds={"vv": "CannotWrite, list of list of number"},
)
WRONG = outcome("parquet", "wrong", reason="'x': entry 1 is 3, uproot reads 2")


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the comparison prints; tests add to it."""
    lines: list[dict[str, Any]] = []

    def run(command: list[Any], *, note: Any, **_: Any) -> str:
        assert command[:2] == ["python", fields.PROGRAM]
        for line in lines:
            note(json.dumps(line))
        return "a warning\n" + "".join(json.dumps(line) + "\n" for line in lines)

    monkeypatch.setattr(shell, "run", run)
    return lines


def test_outcomes_are_counted(printed: list[dict[str, Any]], tmp_path: Path) -> None:
    printed += [{"listed": 5, "present": 2}, {"next": "owner/name/a.root"}]
    printed += [outcome("parquet"), outcome("parquet"), REFUSED]
    output = tmp_path / "outcomes.json"
    done = CliRunner().invoke(main, ["fields", str(tmp_path), "--json", str(output)])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "2 of 5 listed files"
    assert [line.split() for line in lines[2:4]] == [
        ["parquet", "2", "0", "0", "0"],
        ["root-file", "0", "1", "0", "0"],
    ]
    assert lines[-1].split(None, 1) == ["1", "root-file: CannotWrite, list of list of number"]
    assert json.loads(output.read_text())["outcomes"][2] == REFUSED


def test_a_wrong_column_fails_and_is_named(printed: list[dict[str, Any]], tmp_path: Path) -> None:
    printed += [{"listed": 5, "present": 1}, outcome("root-file"), WRONG]
    done = CliRunner().invoke(main, ["fields", str(tmp_path)])
    assert done.exit_code == 1
    expected = "WRONG  owner/name/a.root: t, parquet: 'x': entry 1 is 3, uproot reads 2"
    assert done.stdout.splitlines()[-1] == expected


def test_a_folder_without_listed_files_is_refused(
    printed: list[dict[str, Any]], tmp_path: Path
) -> None:
    printed += [{"listed": 5, "present": 0}]
    with pytest.raises(ShoppeError, match="none of the 5 listed files"):
        fields.compare(tmp_path)


def test_the_program_is_there() -> None:
    assert fields.PROGRAM.is_file()
    assert fields.PROGRAM.with_name("field_files.csv").is_file()
