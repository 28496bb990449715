"""The workflow for REANA: its own client takes it, and its commands do what they say."""

import json
import os
import subprocess
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml
from agc import histograms
from agc.cli import main
from agc.synth import write_all
from click.testing import CliRunner

VALIDATE = Path(__file__).with_name("validate_reana.py")
IMAGE = "ghcr.io/coffea-shoppe/analysis:0"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reana")
    list(write_all(folder / "synth", events=20_000, seed=3))
    words = ["export", "reana", "--fileset", str(folder / "synth" / "fileset.json")]
    words += ["--image", IMAGE, "--output", str(folder / "workflow")]
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder / "workflow"


def validated(*folders: Path) -> list[dict[str, Any]]:
    """Return what REANA's client says of the workflow in each folder.

    The client's dependencies are older than ours: a lock beside the script names them.
    """
    uv = os.environ.get("SHOPPE_UV", "uv")
    environment = {k: v for k, v in os.environ.items() if k != "VIRTUAL_ENV"}
    done = subprocess.run(
        [uv, "run", "--quiet", "--locked", "--script", str(VALIDATE), *map(str, folders)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_reana_s_own_client_takes_it(exported: Path, tmp_path: Path) -> None:
    told = yaml.safe_load((exported / "reana.yaml").read_text())
    told["workflow"]["specification"]["steps"][0]["environmental"] = 1
    del told["workflow"]["specification"]["steps"][0]["environment"]
    (tmp_path / "reana.yaml").write_text(yaml.safe_dump(told))
    taken, refused = validated(exported, tmp_path)
    assert taken["status"] == 0, taken
    for part in ("specification file", "specification parameters", "parameters and commands"):
        assert part in taken["output"]
    assert "WARNING" not in taken["output"]
    assert refused["status"] != 0
    assert "'environment' is a required property" in refused["errors"]


def test_its_steps_do_what_they_say(exported: Path) -> None:
    told = yaml.safe_load((exported / "reana.yaml").read_text())
    for path in told["inputs"]["files"]:
        assert (exported / path).is_file()
    for step in told["workflow"]["specification"]["steps"]:
        assert step["environment"] == IMAGE
        for command in step["commands"]:
            words = Template(command).substitute(told["inputs"]["parameters"])
            subprocess.run(["bash", "-ec", words], cwd=exported, timeout=300, check=True)
    for path in told["outputs"]["files"]:
        assert (exported / path).is_file()
    for path in told["outputs"]["directories"]:
        assert any((exported / path).iterdir())
    assert histograms.load(exported / "histograms.root")


@pytest.mark.parametrize(
    ("options", "told"),
    [([], "set --image"), (["--image", IMAGE], "gone.root: no such file")],
)
def test_what_is_missing_is_told(options: list[str], told: str, tmp_path: Path) -> None:
    fileset = tmp_path / "fileset.json"
    fileset.write_text('{"ttbar": {"nominal": {"files": [{"path": "gone.root"}]}}}')
    words = ["export", "reana", "--fileset", str(fileset), "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(main, [*words, *options], env={"JUPYTER_IMAGE": ""})
    assert done.exit_code == 1
    assert told in done.output
