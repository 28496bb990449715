from pathlib import Path

import pytest
from agc import histograms
from agc.cli import main
from agc.validate import agrees, different_bins
from click.testing import CliRunner


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ([1, 2, 3], [1, 2, 3], True),
        ([1, 2, 3], [1, 2 + 1e-9, 3], True),
        ([1, 2, 3], [1, 3, 2], True),  # an event at the edge of two bins
        ([1, 2, 3], [1, 3, 3], False),  # an event too many
        ([10, 2, 3], [7, 5, 3], False),  # too much moved
        ([1, 2, 3, 4], [2, 1, 3, 5], False),  # one of two groups does not add up
        ([1, 2], [1, 2, 0], False),
    ],
)
def test_the_rule(ours: list[float], theirs: list[float], same: bool) -> None:
    assert agrees(ours, theirs) is same


@pytest.fixture
def histograms_file(tmp_path: Path) -> Path:
    """A file with one histogram of weights."""
    histogram = histograms.empty("4j2b")
    histogram.fill([60.0, 200.0, 200.0], weight=[0.5, 1.25, 2.0])
    path = tmp_path / "histograms.root"
    histograms.save({"4j2b_ttbar": histogram, "4j1b_ttbar": histogram.copy()}, path)
    return path


def test_the_same_histograms_have_no_different_bin(histograms_file: Path) -> None:
    measured, reference = histograms.load(histograms_file), histograms.load(histograms_file)
    measured["4j2b_ttbar"].view(flow=True)["value"] *= 1 + 1e-14  # rounding
    assert different_bins(measured, reference) == []


@pytest.mark.parametrize("kind", ["value", "variance"])
def test_one_bin_off_is_named(histograms_file: Path, kind: str) -> None:
    measured, reference = histograms.load(histograms_file), histograms.load(histograms_file)
    measured["4j2b_ttbar"].view(flow=True)[kind][8] += 1e-6
    (problem,) = different_bins(measured, reference)
    assert problem.startswith(f"4j2b_ttbar: {kind}s of 1 bins differ; bin 8")


def test_a_missing_histogram_is_named(histograms_file: Path) -> None:
    measured, reference = histograms.load(histograms_file), histograms.load(histograms_file)
    measured["4j2b_wjets"] = measured.pop("4j2b_ttbar")
    assert different_bins(measured, reference) == [
        "4j2b_ttbar: missing",
        "4j2b_wjets: not in the reference",
    ]


def test_the_command_compares_with_a_root_file(histograms_file: Path, tmp_path: Path) -> None:
    same = CliRunner().invoke(
        main, ["validate", str(histograms_file), "--reference", str(histograms_file)]
    )
    assert same.exit_code == 0, same.output
    changed = histograms.load(histograms_file)
    changed["4j1b_ttbar"].view(flow=True)["value"][3] = 7
    other = tmp_path / "other.root"
    histograms.save(changed, other)
    differs = CliRunner().invoke(
        main, ["validate", str(other), "--reference", str(histograms_file)]
    )
    assert differs.exit_code == 1
    assert "4j1b_ttbar: values of 1 bins differ; bin 3" in differs.output
