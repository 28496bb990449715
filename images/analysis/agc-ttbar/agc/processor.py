"""The analysis as a coffea processor: from a chunk of events to histograms."""

import time
from collections.abc import Mapping
from typing import Any

import awkward as ak
import numpy as np
from coffea import processor
from numpy.typing import NDArray

from agc import histograms, inference, nanoaod, selection, systematics
from agc.assignment import FEATURES

Weights = dict[str, NDArray[np.float64]]


class TtbarProcessor(processor.ProcessorABC):
    """Select events and fill the histograms of all variations.

    A chunk's metadata has its `process` and `variation`, and the `weight` of an event.  There
    are three passes over jets; variations of weights reuse the nominal pass.  Samples other
    than the nominal one fill histograms of their own variation.  With a `scorer` jets are
    assigned in 4j2b, too, for all passes of a chunk together.  `definition` is the
    identification and b tag of jets.
    """

    def __init__(
        self,
        scorer: inference.Scorer | None = None,
        binning: histograms.Binning | None = None,
        definition: nanoaod.Jets | None = None,
    ) -> None:
        self.scorer, self.binning, self.definition = scorer, binning, definition

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Return a chunk's histograms, number of events, and times."""
        return self.analyse(events, events.metadata)

    def analyse(self, events: ak.Array, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same for events with the collections of NanoAOD, and their metadata."""
        began, spent = time.time(), time.thread_time()
        process, variation = metadata["process"], metadata["variation"]
        count = len(events)
        identities = systematics.event_numbers(events, metadata.get("entrystart"))
        passed = selection.one_lepton(events)
        events, identities = events[passed], identities[passed]
        more = ("btagCSVV2", "qgl") if self.scorer else ()
        jets = selection.candidates(events.Jet, self.definition, more=more)
        region_histograms: histograms.Histograms = {}
        features: histograms.Histograms = {}
        batches: list[inference.Batch] = []
        batch_weights: list[Weights] = []
        passes = systematics.KINEMATIC if variation == "nominal" else ("nominal",)
        drawn = systematics.draws(identities, jets.position)
        for kinematic in passes:
            regions = selection.regions(jets, systematics.jet_pt(jets.pt, kinematic, drawn))
            for region, chosen in regions.items():
                if not len(chosen.index):
                    continue
                name = kinematic if variation == "nominal" else variation
                weights = _weights(process, name, metadata["weight"], chosen)
                _fill(region_histograms, region, process, chosen.observable, weights, self.binning)
                if self.scorer and region == "4j2b":
                    selected = events[chosen.index]
                    number = np.asarray(selected.event)
                    batches.append(inference.Batch(selection.lepton(selected), chosen.jets, number))
                    batch_weights.append(weights)
        scored = 0
        if self.scorer and batches:
            best_candidates = inference.best(batches, self.scorer)
            for best, weights in zip(best_candidates, batch_weights, strict=True):
                scored += int(best.candidates.sum())
                for column, feature in enumerate(FEATURES):
                    _fill(features, feature.name, process, best.features[:, column], weights)
        dataset = metadata["dataset"]
        cost = {"start": began, "stop": time.time(), "cpu": time.thread_time() - spent}
        chunk = {"dataset": dataset, "worker": worker_name(), "events": count, **cost}
        return {
            "histograms": region_histograms,
            "features": features,
            "events": {dataset: count},
            "chunks": [chunk],
            "candidates": scored,
        }

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the sum of all chunks as it is."""
        return accumulator


def worker_name() -> str:
    """Return the name of the Dask worker that runs this, or "local"."""
    from distributed import get_worker

    try:
        return str(get_worker().name)
    except ValueError:
        return "local"


def _weights(process: str, name: str, weight: float, chosen: selection.Region) -> Weights:
    """Return the weights of a region's events by variation."""
    nominal = np.full(len(chosen.index), weight)
    weights = {name: nominal}
    if name == "nominal":
        factors = systematics.weight_variations(process, chosen.jets.pt)
        weights |= {varied: nominal * factor for varied, factor in factors.items()}
    return weights


def _fill(
    target: histograms.Histograms,
    channel: str,
    process: str,
    values: Any,
    weights: Weights,
    binning: histograms.Binning | None = None,
) -> None:
    """Fill a channel's histograms, one for each variation of the weights."""
    for variation, weight in weights.items():
        key = histograms.name(channel, process, variation)
        target.setdefault(key, histograms.empty(channel, binning)).fill(values, weight=weight)
