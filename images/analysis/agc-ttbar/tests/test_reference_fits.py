"""Fits of the AGC's own reference histograms."""

from pathlib import Path

import pytest
from agc import statistics
from agc.validate import read_reference
from click.testing import CliRunner

pytestmark = pytest.mark.reference


@pytest.mark.parametrize(("files", "norm", "error"), [(1, 0.960, 0.104), (10, 0.957, 0.089)])
def test_reference_histograms_give_the_published_strength(
    files: int, norm: float, error: float, reference_data: Path
) -> None:
    path = reference_data / "agc" / f"histos_{files}.json"
    fitted = statistics.fit(statistics.workspace(statistics.from_reference(read_reference(path))))
    assert len(fitted.results.labels) == 34
    assert fitted.norm[0] == pytest.approx(norm, abs=0.003)
    down, up = fitted.interval
    assert fitted.norm[1] == pytest.approx((up - down) / 2, rel=0.03)
    # Upstream's error is Minuit's, which for one file is 4.5 % below its own MINOS.
    assert fitted.norm[1] == pytest.approx(error, rel=0.05)
    for name in ("ME variation", "PS variation"):
        assert 0.3 < fitted.parameter(name)[0] < 0.6


def test_the_error_is_exact_with_as_many_events_as_the_full_set(reference_data: Path) -> None:
    # More events mean the same yields with smaller variances.  Minuit's own errors of this fit
    # are 0.100 with strategy 1 and 0.070 with strategy 2.
    reference = read_reference(reference_data / "agc" / "histos_10.json")
    histograms = statistics.from_reference(reference)
    for histogram in histograms.values():
        histogram.view(flow=True)["variance"] *= 0.01
    fitted = statistics.fit(statistics.workspace(histograms))
    down, up = fitted.interval
    assert fitted.norm[1] == pytest.approx((up - down) / 2, rel=0.03)
    assert fitted.norm[1] == pytest.approx(0.0763, rel=0.01)


def test_the_command_writes_result_workspace_and_figures(
    reference_data: Path, tmp_path: Path
) -> None:
    from agc.cli import main

    path = reference_data / "agc" / "histos_1.json"
    done = CliRunner().invoke(main, ["fit", str(path), "--output", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "ttbar_norm = 0.961 ± 0.108" in done.output
    written = {file.name for file in tmp_path.iterdir()}
    figures = {
        f"{region}-{when}.png" for region in ("4j1b", "4j2b") for when in ("prefit", "postfit")
    }
    assert written == figures | {
        "pulls.png",
        "correlations.png",
        "fit.json",
        "hs3.json",
        "workspace.json",
    }
