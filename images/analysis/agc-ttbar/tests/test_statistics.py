"""The statistical model: what it is made of, and that it finds what was put in."""

from pathlib import Path
from typing import Any

import cabinetry
import numpy as np
import pyhf
import pytest
from agc import histograms, statistics
from agc.histograms import Histograms
from agc.samples import InputError
from agc.systematics import BTAG_JETS
from hist import Hist

SHAPES = {
    "ttbar": (220, 90, 60_000),
    "wjets": (180, 120, 6_000),
    "single_top_tW": (200, 100, 4_000),
}


def filled(rng: np.random.Generator, channel: str, mean: float, width: float, count: int) -> Hist:
    """Return a channel's histogram of a gamma distribution, its axis taken for 50 to 550."""
    axis = histograms.AXES[channel]
    drawn = rng.gamma((mean / width) ** 2, width**2 / mean, count)
    return histograms.empty(channel).fill(axis.low + (drawn - 50) / 500 * (axis.high - axis.low))


@pytest.fixture(scope="module")
def toy() -> Histograms:
    """Histograms of three processes with all variations, known in closed form."""
    return toys("4j1b", "4j2b")


def toys(*channels: str) -> Histograms:
    rng = np.random.default_rng(7)
    found: Histograms = {}
    for region in channels:
        for process, (mean, width, count) in SHAPES.items():
            nominal = filled(rng, region, mean, width, count)
            found[histograms.name(region, process, "nominal")] = nominal
            # Each variation has a shape of its own, so that the fit can tell them apart.
            x = np.linspace(-1, 1, len(nominal.values(flow=True)))
            shape = [0.1 * np.polynomial.Legendre.basis(degree)(x) for degree in range(1, 7)]
            varied: dict[str, Any] = {"pt_scale_up": 1.03 + shape[2], "pt_res_up": 1 + shape[3] / 4}
            for jet in range(BTAG_JETS):
                slope = 0.075 + 0.02 * jet * shape[5]
                varied |= {f"btag_var_{jet}_up": 1 + slope, f"btag_var_{jet}_down": 1 - slope}
            if process == "wjets":
                varied |= {"scale_var_up": 1.025, "scale_var_down": 0.975}
            if process == "ttbar":
                varied |= {"ME_var": 1.08 + shape[0], "PS_var": 0.96 + shape[1]}
                varied |= {"scaleup": 1.05 + shape[4], "scaledown": 0.95 - shape[4]}
            for variation, factor in varied.items():
                histogram = nominal.copy()
                histogram.view(flow=True)["value"] *= factor
                found[histograms.name(region, process, variation)] = histogram
    return found


@pytest.fixture(scope="module")
def model(toy: Histograms) -> dict[str, object]:
    return statistics.workspace(toy)


def test_the_model_has_the_parameters_of_the_analysis(model: dict[str, object]) -> None:
    fitted = statistics.fit(model, asimov=True)
    names = set(fitted.results.labels)
    named = {name for name in names if not name.startswith("staterror")}
    assert named == {s.title for s in statistics.SYSTEMATICS} | {"Luminosity", "ttbar_norm"}
    assert (len(named), len(names)) == (12, 34)
    edges = [len(channel["data"]) for channel in model["observations"]]  # type: ignore[attr-defined]
    assert edges == [11, 11]


@pytest.mark.parametrize("inject", [1.0, 1.2])
def test_an_injected_strength_is_found(model: dict[str, object], inject: float) -> None:
    fitted = statistics.fit(model, asimov=True, inject=inject)
    assert fitted.norm[0] == pytest.approx(inject, abs=2e-3)
    down, up = fitted.interval
    assert down < 0 < up
    pulls = [fitted.parameter(s.title)[0] for s in statistics.SYSTEMATICS]
    np.testing.assert_allclose(pulls, 0, atol=0.02)


def test_pseudodata_half_way_to_two_variations_is_recognised(toy: Histograms) -> None:
    # Pseudodata is the mean of both variations, and W+jets: without the other
    # backgrounds the model contains it at ME = PS = 1/2.
    only = {k: h for k, h in toy.items() if "single_top" not in k}
    fitted = statistics.fit(statistics.workspace(only))
    assert fitted.norm[0] == pytest.approx(1.0, abs=0.05)
    for name in ("ME variation", "PS variation"):
        assert fitted.parameter(name)[0] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize(
    ("leave_out", "told"),
    [
        ("ttbar_ME_var", "ME_var"),
        ("4j1b_wjets_btag_var_2_down", "4j1b_wjets_btag_var_2_down"),
        ("ttbar", "the fit needs nominal ttbar"),
    ],
)
def test_what_is_missing_is_named(toy: Histograms, leave_out: str, told: str) -> None:
    lacking = {k: h for k, h in toy.items() if leave_out not in k}
    with pytest.raises(InputError, match=told):
        statistics.workspace(lacking)


@pytest.mark.parametrize(
    ("leave_out", "told"),
    [
        (["4j1b_ttbar_ME_var"], r"ME variation doubles ttbar in 4j1b CR or removes it"),
        (["4j2b_wjets_pt_scale_up"], r"Jet energy scale doubles W\+jets in 4j2b SR or removes it"),
        (["4j1b_ttbar_PS_var"], r"PS variation doubles ttbar in 4j1b CR or removes it"),
        (["4j1b_ttbar_ME_var", "4j1b_ttbar_PS_var"], "there is no 4j1b_pseudodata .* more events"),
        (["4j1b_ttbar_ME_var", "4j2b_ttbar_ME_var"], "run all nine samples, and more events"),
    ],
)
def test_a_region_in_which_nothing_is_selected_is_empty(
    toy: Histograms, leave_out: list[str], told: str
) -> None:
    # Nothing is filled, and nothing is written, where nothing is selected.
    sparse = {k: h for k, h in toy.items() if k not in leave_out}
    with pytest.raises(InputError, match=told):
        statistics.workspace(sparse)


def test_an_empty_region_of_a_background_leaves_a_fit(toy: Histograms) -> None:
    sparse = {k: h for k, h in toy.items() if not k.startswith("4j2b_single_top_tW")}
    assert statistics.fit(statistics.workspace(sparse), asimov=True).norm[0] == pytest.approx(1.0)


def test_pseudodata_take_an_empty_sample_for_nothing(toy: Histograms) -> None:
    sparse = {k: h for k, h in toy.items() if k not in ("4j1b_ttbar_ME_var", "4j1b_wjets")}
    found = histograms.with_pseudodata(sparse)
    half = toy["4j1b_ttbar_PS_var"].values() / 2
    np.testing.assert_allclose(found["4j1b_pseudodata"].values(), half)
    assert "4j2b_pseudodata" in found
    lacking = {k: h for k, h in toy.items() if not k.endswith("ME_var")}
    assert not any("pseudodata" in k for k in histograms.with_pseudodata(lacking))


def test_a_fit_that_fails_is_tried_again_with_more_care(
    model: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    real = cabinetry.fit.fit

    def fails_at_first(*args: object, strategy: int | None, **options: object) -> object:
        tried.append(strategy)
        if strategy is None:
            raise pyhf.exceptions.FailedMinimization({})
        return real(*args, strategy=strategy, **options)

    monkeypatch.setattr(cabinetry.fit, "fit", fails_at_first)
    fitted = statistics.fit(model, asimov=True)
    assert (tried, fitted.strategy) == ([None, 2], 2)


@pytest.mark.parametrize("weight", [1.0, 0.0176, 41.883472])
def test_the_weight_of_events_is_found_from_their_sums(weight: float) -> None:
    contents = np.array([7, 0, 12, 28_000, 3001]) * weight
    assert statistics.common_weight(contents) == pytest.approx(weight, rel=1e-9)


def test_a_sample_of_too_few_events_is_named(toy: Histograms) -> None:
    sparse = dict(toy)
    doubled = toy["4j2b_wjets"].copy()
    doubled.view(flow=True)["value"] *= 2
    sparse["4j2b_wjets_pt_scale_up"] = doubled
    with pytest.raises(InputError, match=r"Jet energy scale doubles W\+jets in 4j2b SR"):
        statistics.workspace(sparse)


def test_features_are_predicted_with_the_fit_s_result(
    model: dict[str, object], tmp_path: Path
) -> None:
    features = toys(*statistics.VALIDATED)
    fitted = statistics.fit(model, asimov=True, inject=1.3)
    written = statistics.validate_features(fitted, features, tmp_path)
    names = {f"{c}-{when}.png" for c in statistics.VALIDATED for when in ("prefit", "postfit")}
    assert {path.name for path in written} == names
    assert all(path.stat().st_size > 5_000 for path in written)
    # The signal scales with the fitted normalisation, and nothing else does.
    own, _ = cabinetry.model_utils.model_and_data(
        statistics.workspace(features, statistics.VALIDATED)
    )
    matched = cabinetry.model_utils.match_fit_results(own, fitted.results)
    before, after = (
        np.asarray(cabinetry.model_utils.prediction(own, fit_results=results).model_yields)
        for results in (None, matched)
    )
    ttbar = own.config.samples.index("ttbar")
    np.testing.assert_allclose(after[:, ttbar], 1.3 * before[:, ttbar], rtol=1e-3)
    others = [number for number in range(len(own.config.samples)) if number != ttbar]
    np.testing.assert_allclose(after[:, others], before[:, others], rtol=1e-3)


def test_features_that_are_missing_are_named(model: dict[str, object], tmp_path: Path) -> None:
    fitted = statistics.fit(model, asimov=True)
    with pytest.raises(InputError, match="nominal ttbar, which is missing"):
        statistics.validate_features(fitted, {}, tmp_path)
