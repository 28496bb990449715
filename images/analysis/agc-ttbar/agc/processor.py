"""The analysis as a coffea processor: from a chunk of events to histograms."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import awkward as ak
import numpy as np
from coffea import processor
from numpy.typing import NDArray

from agc import histograms, inference, nanoaod, selection, systematics
from agc.assignment import FEATURES, Candidates
from agc.columns import Columns
from agc.kernel import KernelSelected

Factors = dict[str, NDArray[np.float64] | None]


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
        """Return a chunk's histograms, number of events, and times, of coffea's NanoEvents."""
        return self.analyse(events, events.metadata)

    def analyse(self, events: ak.Array, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the same for events with the collections of NanoAOD, and their metadata."""

        def select() -> selection.Selected:
            first = metadata.get("entrystart")
            assignment = self.scorer is not None
            return selection.ArraySelected(
                events, self.definition, assignment=assignment, first=first
            )

        return self.finished(self.summed(select, len(events), metadata), metadata)

    def analyse_columns(self, chunk: Columns, metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return the sums, number of events, and times of a chunk's columns."""

        def select() -> selection.Selected:
            assignment = self.scorer is not None
            return KernelSelected(chunk, self.definition, assignment=assignment)

        return self.summed(select, chunk.events, metadata)

    def finished(self, result: dict[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
        """Return a result of one sample with histograms instead of sums."""
        kinds = ("histograms", "features")
        sums = {kind: result[kind].get(metadata["dataset"], {}) for kind in kinds}
        weight = metadata["weight"]
        return {
            **result,
            **{kind: histograms.weighted(sums[kind], weight, self.binning) for kind in kinds},
        }

    def summed(
        self, select: Callable[[], selection.Selected], count: int, metadata: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the sums of a chunk of `count` events, by sample, and times."""
        began, spent = time.time(), time.thread_time()
        process, variation, dataset = (metadata[k] for k in ("process", "variation", "dataset"))
        selected = select()
        region_sums: histograms.Sums = {}
        feature_sums: histograms.Sums = {}
        batches: list[Candidates] = []
        batch_factors: list[Factors] = []
        for kinematic in systematics.KINEMATIC if variation == "nominal" else ("nominal",):
            name = kinematic if variation == "nominal" else variation
            for region, chosen in selected.regions(kinematic).items():
                if not len(chosen.index):
                    continue
                factors = _factors(process, name, chosen)
                _fill(region_sums, region, process, chosen.observable, factors, self.binning)
                if self.scorer and region == "4j2b":
                    batches.append(selected.candidates(chosen))
                    batch_factors.append(factors)
        scored = 0
        if self.scorer and batches:
            best_candidates = inference.best(batches, self.scorer)
            for best, factors in zip(best_candidates, batch_factors, strict=True):
                scored += int(best.candidates.sum())
                for column, feature in enumerate(FEATURES):
                    _fill(feature_sums, feature.name, process, best.features[:, column], factors)
        cost = {"start": began, "stop": time.time(), "cpu": time.thread_time() - spent}
        chunk = {"dataset": dataset, "worker": worker_name(), "events": count, **cost}
        return {
            "histograms": {dataset: region_sums},
            "features": {dataset: feature_sums},
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


def _factors(process: str, name: str, chosen: selection.Region) -> Factors:
    """Return the factors on the weights of a region's events by variation; None is one."""
    factors: Factors = {name: None}
    if name == "nominal":
        factors |= systematics.weight_variations(process, chosen.leading_pt)
    return factors


def _fill(
    sums: histograms.Sums,
    channel: str,
    process: str,
    values: Any,
    factors: Factors,
    binning: histograms.Binning | None = None,
) -> None:
    """Fill a channel's histograms, one for each variation of the weights."""
    named = {
        histograms.name(channel, process, variation): factor
        for variation, factor in factors.items()
    }
    histograms.fill(sums, channel, values, named, binning)
