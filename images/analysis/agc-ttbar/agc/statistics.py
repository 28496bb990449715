"""The statistical model of the analysis, its fit, and the fit's results.

The model is HistFactory's, built by cabinetry and fitted by pyhf with Minuit: both
regions in 11 bins of 40 GeV from 110 to 550 GeV, one free normalisation of ttbar, and
one constrained parameter for each systematic uncertainty and each bin's statistics.
"""

import json
import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cabinetry
import hist
import numpy as np
import pyhf
from numpy.typing import NDArray

from agc import curvature, hs3
from agc.assignment import FEATURES
from agc.histograms import AXES, BINS, Histograms, channel_of, empty, name, with_pseudodata
from agc.samples import CROSS_SECTIONS, VARIATIONS, InputError
from agc.selection import REGIONS
from agc.systematics import BTAG_JETS, KINEMATIC

POI = "ttbar_norm"
POI_BOUNDS = (0, 10)
FIRST_EDGE, REBIN = 110.0, 2
LUMINOSITY_ERROR = 0.03
STRATEGIES: tuple[Literal[2] | None, ...] = (None, 2)
"""Strategies of Minuit: the default, and the slower, more careful one where that fails."""

VALIDATED = tuple(FEATURES[number].name for number in (0, 1, 2, 4, 5, 6, 7))
"""The features that are compared with the fit's prediction: those of the AGC."""
OFFSET = 1e-6
"""Added to each bin of a feature, so that no bin is empty."""
CHANNELS = {"4j1b": "4j1b CR", "4j2b": "4j2b SR", **{feature: feature for feature in VALIDATED}}
TITLES = {
    "ttbar": "ttbar",
    "wjets": "W+jets",
    "single_top_s_chan": "single top, s-channel",
    "single_top_t_chan": "single top, t-channel",
    "single_top_tW": "tW",
}

Matrix = NDArray[np.float64]

# cabinetry warns about every empty bin of a template, pyhf about every failed attempt.
logging.getLogger("cabinetry").setLevel(logging.ERROR)
logging.getLogger("pyhf").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Systematic:
    """An uncertainty of normalisation and shape, by the variations of its histograms."""

    title: str
    up: str
    down: str | None = None
    """None: mirrored at the nominal histogram."""
    process: str | None = None
    """None: all processes."""

    def configuration(self) -> dict[str, Any]:
        """Return the uncertainty in cabinetry's configuration."""
        entry: dict[str, Any] = {"Name": self.title, "Type": "NormPlusShape"}
        entry["Up"] = {"VariationPath": self.up}
        entry["Down"] = {"VariationPath": self.down} if self.down else {"Symmetrize": True}
        return entry | ({"Samples": TITLES[self.process]} if self.process else {})


SYSTEMATICS = (
    Systematic("ME variation", "ME_var", process="ttbar"),
    Systematic("PS variation", "PS_var", process="ttbar"),
    Systematic("ttbar scale variations", "scaleup", "scaledown", "ttbar"),
    Systematic("Jet energy scale", "pt_scale_up"),
    Systematic("Jet energy resolution", "pt_res_up"),
    *(
        Systematic(f"b-tag NP {jet + 1}", f"btag_var_{jet}_up", f"btag_var_{jet}_down")
        for jet in range(BTAG_JETS)
    ),
    Systematic("W+jets scale variations", "scale_var_up", "scale_var_down", "wjets"),
)


def common_weight(contents: Matrix) -> float:
    """Return the weight of which all contents are integer multiples.

    Euclid's algorithm on real numbers; exact for sums of one weight per event.
    Raises `ValueError` where there is no content.
    """
    left = contents[contents > 0]
    if not len(left):
        raise ValueError("there is no content")
    weight = float(left.min())
    while True:
        count = np.round(left / weight)
        rest = np.abs(left - count * weight)
        # A remainder of rounding errors is not a smaller weight.
        rest = rest[rest > np.maximum(1e-6 * weight, 1e-8 * left)]
        if not len(rest):
            return float(np.sum(left * count) / np.sum(count**2))
        weight = float(rest.min())


def _check_edges(key: str, edges: Any) -> None:
    """Raise `InputError` where a histogram does not have its channel's default bins."""
    if edges.shape != (BINS + 1,) or not np.allclose(empty(channel_of(key)).axes[0].edges, edges):
        problem = f"{key}: other bin edges; the fit is for 25 bins from 50 to 550 GeV"
        raise InputError(f"{problem}; run with those")


def from_reference(reference: dict[str, Any]) -> Histograms:
    """Return reference histograms (`validate.read_reference`) with variances added.

    All events of a nominal sample have the same weight w, so the variance of a content is w
    times the content; w is computed from the contents.  The model uses variances of nominal
    samples only.
    """
    weights = {}
    for process in CROSS_SECTIONS:
        keys = [name(region, process, "nominal") for region in REGIONS]
        contents_by_region = [reference[key]["contents"] for key in keys if key in reference]
        if contents_by_region and np.any(contents_by_region):
            weights[process] = common_weight(np.asarray(contents_by_region, dtype=float))
    histograms = {}
    for key, entry in reference.items():
        process = next((p for p in CROSS_SECTIONS if key.partition("_")[2].startswith(p)), "")
        contents = np.asarray(entry["contents"], dtype=float)
        histogram = empty(channel_of(key))
        _check_edges(key, np.asarray(entry["edges"], dtype=float))
        histogram.view(flow=True)["value"] = contents
        histogram.view(flow=True)["variance"] = contents * weights.get(process, 1.0)
        histograms[key] = histogram
    return histograms


def _rebinned(histogram: hist.Hist) -> Any:
    """Return the histogram in the fit's bins (a `hist.Hist`)."""
    return histogram[complex(0, FIRST_EDGE) :: hist.rebin(REBIN)]


def _template(channel: str, histogram: hist.Hist) -> Any:
    """Return a channel's histogram in the model's form (a `hist.Hist`)."""
    if channel in REGIONS:
        return _rebinned(histogram)
    template = histogram.copy()
    template.view()["value"] += OFFSET
    return template


def _completed(histograms: Histograms, channels: Sequence[str]) -> Histograms:
    """Return the histograms, with empty ones where no event of a sample was selected.

    A channel has no histogram in that case.  Histograms in other channels show that a sample
    was run; for variations of jets, those of the nominal sample do.  Variations of weights
    exist wherever the nominal histogram does.
    """
    completed = dict(histograms)
    for process in TITLES:
        for systematic in SYSTEMATICS:
            if systematic.process not in (None, process):
                continue
            for variation in filter(None, (systematic.up, systematic.down)):
                if variation in KINEMATIC:
                    other = "nominal"
                elif variation in VARIATIONS[process]:
                    other = variation
                else:
                    continue
                if any(name(channel, process, other) in histograms for channel in channels):
                    for channel in channels:
                        completed.setdefault(name(channel, process, variation), empty(channel))
    return completed


def _configuration(histograms: Histograms, channels: Sequence[str], folder: str) -> dict[str, Any]:
    """Return cabinetry's configuration; raises `InputError` where histograms are missing."""
    problems = []
    for key, histogram in histograms.items():
        _check_edges(key, histogram.axes[0].edges)
    samples = []
    for process, title in TITLES.items():
        regions = []
        for region in channels:
            nominal = histograms.get(name(region, process, "nominal"))
            if nominal is None or not np.any(_template(region, nominal).values() > OFFSET):
                continue
            regions.append(CHANNELS[region])
            for systematic in SYSTEMATICS:
                if systematic.process in (None, process):
                    varied = filter(None, (systematic.up, systematic.down))
                    keys = (name(region, process, variation) for variation in varied)
                    problems += [key for key in keys if key not in histograms]
        if regions:
            samples.append({"Name": title, "SamplePath": process, "Regions": regions})
    if problems:
        raise InputError(
            f"the fit needs {len(problems)} histograms that are missing: "
            f"{', '.join(problems[:6])}{' …' if len(problems) > 6 else ''}; run all nine "
            "samples, and more events of a sample with no selected event"
        )
    bare = [c for c in channels if not any(CHANNELS[c] in s["Regions"] for s in samples)]
    if samples and bare:
        raise InputError(f"nothing is selected in {', '.join(bare)}: run more events")
    if TITLES["ttbar"] not in {sample["Name"] for sample in samples}:
        raise InputError("the fit needs nominal ttbar, which is missing")
    missing = [f"{c}_pseudodata" for c in channels if f"{c}_pseudodata" not in histograms]
    if missing:
        raise InputError(
            f"there is no {missing[0]} to fit: run ttbar:ME_var, ttbar:PS_var and wjets, too, and "
            "more events of those with no selected event"
        )
    data = {"Name": "Pseudodata", "SamplePath": "pseudodata", "Data": True}
    change = {"Normalization": LUMINOSITY_ERROR}
    luminosity = {
        "Name": "Luminosity",
        "Type": "Normalization",
        "Up": change,
        "Down": {"Normalization": -LUMINOSITY_ERROR},
    }
    present = {sample["Name"] for sample in samples}
    chosen = [s for s in SYSTEMATICS if s.process is None or TITLES[s.process] in present]
    free = {"Name": POI, "Samples": TITLES["ttbar"], "Nominal": 1, "Bounds": list(POI_BOUNDS)}
    return {
        "General": {
            "Measurement": "CMS_ttbar",
            "POI": POI,
            "HistogramFolder": folder,
            "InputPath": "unused",
            "VariationPath": "nominal",
        },
        "Regions": [{"Name": CHANNELS[c], "RegionPath": c} for c in channels],
        "Samples": [data, *samples],
        "Systematics": [*(s.configuration() for s in chosen), luminosity],
        "NormFactors": [free],
    }


def workspace(histograms: Histograms, channels: Sequence[str] = tuple(REGIONS)) -> dict[str, Any]:
    """Return the model and the pseudodata as a HistFactory workspace (pyhf's JSON).

    Raises `InputError` where histograms are missing.
    """
    histograms = _completed(with_pseudodata(histograms), channels)
    router = cabinetry.route.Router()

    @router.register_template_builder()  # type: ignore[untyped-decorator]
    def build(
        region: dict[str, Any],
        sample: dict[str, Any],
        systematic: dict[str, Any],
        template: str | None,
    ) -> Any:
        channel, path = region["RegionPath"], sample["SamplePath"]
        variation = systematic[template]["VariationPath"] if template else "nominal"
        key = f"{channel}_pseudodata" if path == "pseudodata" else name(channel, path, variation)
        return _template(channel, histograms[key])

    with tempfile.TemporaryDirectory() as folder:
        configuration = _configuration(histograms, channels, folder)
        cabinetry.templates.build(configuration, router=router)
        cabinetry.templates.postprocess(configuration)
        built: dict[str, Any] = cabinetry.workspace.build(configuration)
    _check_norms(built)
    return built


def _check_norms(model_spec: dict[str, Any]) -> None:
    """Raise `InputError` where a variation removes a whole sample: the fit would fail."""
    for channel in model_spec["channels"]:
        for sample in channel["samples"]:
            for modifier in sample["modifiers"]:
                if modifier["type"] == "normsys" and min(modifier["data"].values()) <= 0:
                    raise InputError(
                        f"{modifier['name']} doubles {sample['name']} in {channel['name']} or "
                        "removes it: there are too few events; run more of the sample"
                    )


@dataclass(frozen=True)
class Fit:
    """A model, the data of its fit, and the result."""

    model: pyhf.Model
    data: list[float]
    results: Any
    """cabinetry's `FitResults`."""
    strategy: int | None
    """Minuit's strategy of the successful fit; None is the default."""
    errors: Literal["curvature", "minuit"]
    """Origin of the symmetric errors: Minuit's where a parameter is at its limit."""

    def parameter(self, label: str) -> tuple[float, float]:
        """Return a parameter's best value and its error."""
        index = self.results.labels.index(label)
        return float(self.results.bestfit[index]), float(self.results.uncertainty[index])

    @property
    def norm(self) -> tuple[float, float]:
        """Return the normalisation of ttbar and its symmetric error, from the curvature.

        The likelihood is not a parabola: half of `interval` is larger by about 1 %.
        """
        return self.parameter(POI)

    @property
    def interval(self) -> tuple[float, float]:
        """Return the lower and upper error of the normalisation at 68 % (MINOS)."""
        down, up = self.results.minos_uncertainty[POI]
        return float(down), float(up)

    def as_json(self) -> dict[str, Any]:
        """Return all parameters with errors and their correlations."""
        results = self.results
        pairs = zip(results.labels, results.bestfit, results.uncertainty, strict=True)
        return {
            "parameters": {n: {"value": float(v), "error": float(e)} for n, v, e in pairs},
            f"{POI}_interval": self.interval,
            "correlations": np.asarray(results.corr_mat).tolist(),
            "twice_nll": float(results.best_twice_nll),
            "goodness_of_fit": float(results.goodness_of_fit),
            "minuit_strategy": self.strategy,
            "errors": self.errors,
        }


def fit(
    model_spec: dict[str, Any], *, asimov: bool = False, inject: float = 1.0, goodness: bool = False
) -> Fit:
    """Fit a workspace's model to its pseudodata.

    With `asimov` the data are the model's own expectation, with `inject` as the normalisation
    of ttbar.  Where Minuit fails, strategy 2 is tried.  From Minuit's minimum the exact one and
    the curvature are computed.  Raises `InputError` where both strategies fail.
    """
    model, data = cabinetry.model_utils.model_and_data(model_spec)
    if asimov:
        parameters = list(model.config.suggested_init())
        parameters[model.config.poi_index] = inject
        data = model.expected_data(parameters).tolist()
    for strategy in STRATEGIES:
        try:
            results = cabinetry.fit.fit(
                model, data, strategy=strategy, goodness_of_fit=goodness, minos=POI
            )
        except pyhf.exceptions.FailedMinimization:
            continue
        exact = _exact(model, data, results)
        return Fit(model, data, exact or results, strategy, "curvature" if exact else "minuit")
    raise InputError("the fit does not converge, nor with Minuit's strategy 2")


def _exact(model: pyhf.Model, data: list[float], results: Any) -> Any:
    """Return cabinetry's results with the exact minimum and its curvature; None without one.

    The b-tagging parameters nearly compensate one another.  Minuit stops before the minimum in
    that direction, and its errors are up to 30 % off there.  MINOS is not affected: its limits
    remain where they are.
    """
    observed = pyhf.tensorlib.astensor(data)
    minimum = curvature.minimum(
        lambda values: float(-2 * model.logpdf(values, observed)[0]),
        np.asarray(results.bestfit, dtype=float),
        np.asarray(results.uncertainty, dtype=float),
        limits=np.asarray(model.config.suggested_bounds(), dtype=float),
        fixed=np.asarray(model.config.suggested_fixed(), dtype=bool),
    )
    if minimum is None:
        return None
    moved = dict(zip(results.labels, minimum.point - results.bestfit, strict=True))
    return results._replace(
        bestfit=minimum.point,
        uncertainty=minimum.errors,
        corr_mat=minimum.correlations,
        best_twice_nll=minimum.value,
        minos_uncertainty={
            label: (down - moved[label], up - moved[label])
            for label, (down, up) in results.minos_uncertainty.items()
        },
    )


def ranking(fitted: Fit) -> Any:
    """Return the impact of each parameter on the normalisation (cabinetry's `RankingResults`)."""
    options = {"fit_results": fitted.results, "strategy": fitted.strategy}
    return cabinetry.fit.ranking(fitted.model, fitted.data, **options)


@contextmanager
def _own_style() -> Iterator[None]:
    """Draw cabinetry's figures in matplotlib's default style."""
    import matplotlib as mpl

    mpl.use("Agg")
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.use("Agg")
        yield


def _axes(channels: Sequence[str]) -> dict[str, Any]:
    """Return the axes of the channels' figures, in cabinetry's configuration."""
    regions = []
    for channel in channels:
        edges = _template(channel, empty(channel)).axes[0].edges.tolist()
        label = AXES[channel].label
        regions.append({"Name": CHANNELS[channel], "Variable": label, "Binning": edges})
    return {"Regions": regions}


def _save_predictions(
    model: pyhf.Model,
    data: list[float],
    results: Any,
    channels: Sequence[str],
    folder: Path,
) -> list[Path]:
    """Draw all channels of a model before and after the fit; return the paths."""
    import matplotlib.pyplot as plt

    written = []
    quiet: dict[str, Any] = {"save_figure": False, "close_figure": False}
    for label, fitted in (("prefit", None), ("postfit", results)):
        predicted = cabinetry.model_utils.prediction(model, fit_results=fitted)
        drawn = cabinetry.visualize.data_mc(predicted, data, config=_axes(channels), **quiet)
        for entry, channel in zip(drawn, channels, strict=True):
            path = folder / f"{channel}-{label}.png"
            entry["figure"].savefig(path, dpi=110, bbox_inches="tight")
            plt.close(entry["figure"])
            written.append(path)
    return written


def validate_features(fitted: Fit, features: Histograms, folder: Path) -> list[Path]:
    """Draw the features of the best assignment with the prediction of the fit of the regions.

    The features are not fitted: parameters that both models share have the fit's values.
    Returns the paths of the figures.  Raises `InputError` where histograms are missing.
    """
    model, data = cabinetry.model_utils.model_and_data(workspace(features, VALIDATED))
    matched = cabinetry.model_utils.match_fit_results(model, fitted.results)
    folder.mkdir(parents=True, exist_ok=True)
    with _own_style():
        return _save_predictions(model, data, matched, VALIDATED, folder)


def as_hs3(fitted: Fit, model_spec: dict[str, Any]) -> dict[str, Any]:
    """Return the workspace and the fit's result as an HS3 document."""
    axes = {}
    for region in REGIONS:
        edges = _template(region, empty(region)).axes[0].edges
        axes[CHANNELS[region]] = hs3.axis(f"{region}_observable", edges)
    results = fitted.results
    best = dict(zip(results.labels, map(float, results.bestfit), strict=True))
    return hs3.document(model_spec, axes, fitted=best)


def save(
    fitted: Fit, model_spec: dict[str, Any], folder: Path, *, ranked: Any = None
) -> list[Path]:
    """Write workspace, result and figures (pulls, correlations, both regions before and after).

    The workspace is written in the formats of pyhf and of HS3, the latter with the fit's
    result.  `ranked` (from `ranking`) adds its figure.  Returns the paths.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cabinetry.workspace.save(model_spec, folder / "workspace.json")
    (folder / "fit.json").write_text(json.dumps(fitted.as_json(), indent=2) + "\n")
    (folder / "hs3.json").write_text(json.dumps(as_hs3(fitted, model_spec), indent=1) + "\n")
    written = [folder / name for name in ("workspace.json", "hs3.json", "fit.json")]

    def keep(figure: Any, label: str) -> None:
        import matplotlib.pyplot as plt

        path = folder / f"{label}.png"
        figure.savefig(path, dpi=110, bbox_inches="tight")
        plt.close(figure)
        written.append(path)

    draw = cabinetry.visualize
    quiet: dict[str, Any] = {"save_figure": False, "close_figure": False}
    with _own_style():
        keep(draw.pulls(fitted.results, exclude=[POI], **quiet), "pulls")
        keep(
            draw.correlation_matrix(fitted.results, pruning_threshold=0.1, **quiet), "correlations"
        )
        regions = tuple(REGIONS)
        written += _save_predictions(fitted.model, fitted.data, fitted.results, regions, folder)
        if ranked is not None:
            keep(draw.ranking(ranked, max_pars=15, **quiet), "ranking")
    return written
