"""The analysis as a coffea processor: a chunk of events in, histograms out."""

from typing import Any

import awkward as ak
import numpy as np
from coffea import processor

from agc import histograms, selection, systematics


class TtbarProcessor(processor.ProcessorABC):
    """Select events and fill the histograms of all variations.

    A chunk's metadata names its `process` and `variation` and gives the `weight`
    of an event.  Jets are varied in three passes; the variations of weights
    reuse the nominal one.  Samples other than the nominal fill their own name.
    """

    def process(self, events: ak.Array) -> dict[str, Any]:
        """Return a chunk's histograms, and how many events it had."""
        metadata = events.metadata
        process, variation, weight = (metadata[k] for k in ("process", "variation", "weight"))
        count = len(events)
        events = events[selection.one_lepton(events)]
        jets = selection.candidates(events.Jet)
        found: histograms.Histograms = {}

        def fill(region: str, name: str, values: Any, weights: Any) -> None:
            if len(values):
                key = histograms.name(region, process, name)
                found.setdefault(key, histograms.empty()).fill(values, weight=weights)

        passes = systematics.KINEMATIC if variation == "nominal" else ("nominal",)
        for kinematic in passes:
            regions = selection.regions(jets, systematics.jet_pt(jets.pt, kinematic))
            for region, chosen in regions.items():
                weights = np.full(len(chosen.index), weight)
                name = kinematic if variation == "nominal" else variation
                fill(region, name, chosen.observable, weights)
                if name == "nominal" and len(chosen.index):
                    factors = systematics.weight_variations(process, chosen.jet_pt)
                    for varied, factor in factors.items():
                        fill(region, varied, chosen.observable, weights * factor)
        return {"histograms": found, "events": {metadata["dataset"]: count}}

    def postprocess(self, accumulator: dict[str, Any]) -> dict[str, Any]:
        """Return the sum of all chunks as it is."""
        return accumulator
