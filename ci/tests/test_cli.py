"""Wrong command lines are refused before any work starts."""

import re

import pytest
from click.testing import CliRunner
from shoppe_ci import cli, up
from shoppe_ci.paths import CHARTS


@pytest.mark.parametrize("name", ["My_Cluster", "a b", ""])
def test_an_invalid_cluster_name_is_refused(name: str) -> None:
    outcome = CliRunner().invoke(cli.main, ["up", "--cluster", name])
    assert outcome.exit_code == 2
    assert "Invalid value for '--cluster'" in outcome.output
    assert "use lower-case letters, digits, '.' and '-' only" in outcome.output


def test_a_valid_cluster_name_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []

    def delete(_: object, name: str) -> bool:
        names.append(name)
        return True

    monkeypatch.setattr("shoppe_ci.engine.find", lambda: "engine")
    monkeypatch.setattr("shoppe_ci.cluster.delete", delete)
    for arguments in ([], ["--cluster", "my-cluster.2"]):
        assert CliRunner().invoke(cli.main, ["down", *arguments]).exit_code == 0
    assert names == [up.DEFAULT, "my-cluster.2"]


def test_a_mirror_gets_the_images_of_the_charts_and_no_other() -> None:
    outcome = CliRunner().invoke(cli.main, ["images", "--names"])
    assert outcome.exit_code == 0
    names = set(outcome.output.split())
    pinned = {
        f"{name}:{tag}"
        for chart in CHARTS.glob("*/values.yaml")
        for name, tag in re.findall(
            r"name: (ghcr\.io/coffea-shoppe/\S+)\n(?:[ ]*#.*\n)*[ ]+tag: \"(\S+)\"",
            chart.read_text(),
        )
    }
    assert names == pinned
