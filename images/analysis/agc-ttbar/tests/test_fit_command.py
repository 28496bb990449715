"""What `agc fit` says of files that it cannot fit."""

import json
from pathlib import Path

import pytest
from agc import histograms
from agc.cli import main
from click.testing import CliRunner


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "cannot be read as reference histograms"),
        ({"a": {"edges": [0, 1], "contents": [1]}}, "contents must include the flow bins"),
        ({"4j1b_ttbar": {"edges": [0, 1], "contents": [0, 1, 0]}}, "other bin edges"),
    ],
)
def test_a_json_file_that_is_no_reference_is_refused(
    content: object, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "histograms.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    done = CliRunner().invoke(main, ["fit", str(path)])
    assert done.exit_code == 1
    assert told in done.output


def test_histograms_of_one_sample_alone_are_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "histograms.root"
    histograms.save({"4j1b_ttbar": histograms.empty("4j1b").fill([120.0, 300.0])}, path)
    done = CliRunner().invoke(main, ["fit", str(path)])
    assert done.exit_code == 1
    assert "4j1b_ttbar_ME_var" in done.output
    assert "run all nine samples" in done.output


def test_an_injected_strength_without_asimov_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "histograms.root"
    path.touch()
    done = CliRunner().invoke(main, ["fit", str(path), "--inject", "1.2"])
    assert done.exit_code == 2
    assert "--asimov" in done.output
