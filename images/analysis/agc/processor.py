"""The analysis as a coffea processor: a chunk of events in, histograms out."""

import time
from collections.abc import Mapping
from typing import Any

import awkward as ak
import numpy as np
from coffea import processor
from numpy.typing import NDArray

from agc import histograms, inference, selection, systematics
from agc.assignment import FEATURES

Weights = dict[str, NDArray[np.float64]]


class TtbarProcessor(processor.ProcessorABC):
    """Select events and fill the histograms of all variations.

    A chunk's metadata names its `process` and `variation` and gives the `weight`
    of an event.  Jets are varied in three passes; the variations of weights
    reuse the nominal one.  Samples other than the nominal fill their own name.
    With a `scorer` jets are assigned in 4j2b, too, all passes of a chunk at once.
    """

    def __init__(
        self,
        scorer: inference.Scorer | None = None,
        binning: histograms.Binning | None = None,
    ) -> None:
        self.scorer, self.binning = scorer, binning

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Return a chunk's histograms, how many events it had, and what it cost."""
        return self.analyse(events, events.metadata)

    def analyse(self, events: ak.Array, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Do so for any events with the branches' collections; `metadata` is theirs."""
        began, spent = time.time(), time.thread_time()
        process, variation = metadata["process"], metadata["variation"]
        count = len(events)
        events = events[selection.one_lepton(events)]
        more = ("btagCSVV2", "qgl") if self.scorer else ()
        jets = selection.candidates(events.Jet, more=more)
        found: histograms.Histograms = {}
        features: histograms.Histograms = {}
        batches: list[inference.Batch] = []
        batch_weights: list[Weights] = []
        passes = systematics.KINEMATIC if variation == "nominal" else ("nominal",)
        for kinematic in passes:
            regions = selection.regions(jets, systematics.jet_pt(jets.pt, kinematic))
            for region, chosen in regions.items():
                if not len(chosen.index):
                    continue
                name = kinematic if variation == "nominal" else variation
                weights = _weights(process, name, metadata["weight"], chosen)
                _fill(found, region, process, chosen.observable, weights, self.binning)
                if self.scorer and region == "4j2b":
                    own = events[chosen.index]
                    number = np.asarray(own.event)
                    batches.append(inference.Batch(selection.lepton(own), chosen.jets, number))
                    batch_weights.append(weights)
        scored = 0
        if self.scorer and batches:
            kept = inference.best(batches, self.scorer)
            for one, weights in zip(kept, batch_weights, strict=True):
                scored += int(one.candidates.sum())
                for column, feature in enumerate(FEATURES):
                    _fill(features, feature.name, process, one.features[:, column], weights)
        dataset = metadata["dataset"]
        cost = {"start": began, "stop": time.time(), "cpu": time.thread_time() - spent}
        chunk = {"dataset": dataset, "worker": worker_name(), "events": count, **cost}
        return {
            "histograms": found,
            "features": features,
            "events": {dataset: count},
            "chunks": [chunk],
            "candidates": scored,
        }

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the sum of all chunks as it is."""
        return accumulator


def worker_name() -> str:
    """Return the name of the Dask worker that this runs on, or "local"."""
    from distributed import get_worker

    try:
        return str(get_worker().name)
    except ValueError:
        return "local"


def _weights(process: str, name: str, weight: float, chosen: selection.Region) -> Weights:
    """Return the weights of a region's events, by the variation that they are for."""
    one = np.full(len(chosen.index), weight)
    found = {name: one}
    if name == "nominal":
        factors = systematics.weight_variations(process, chosen.jets.pt)
        found |= {varied: one * factor for varied, factor in factors.items()}
    return found


def _fill(
    target: histograms.Histograms,
    channel: str,
    process: str,
    values: Any,
    weights: Weights,
    binning: histograms.Binning | None = None,
) -> None:
    """Fill a channel's histograms, one for each variation of the weights."""
    for variation, own in weights.items():
        key = histograms.name(channel, process, variation)
        target.setdefault(key, histograms.empty(channel, binning)).fill(values, weight=own)
