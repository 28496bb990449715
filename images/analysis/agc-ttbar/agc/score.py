"""A second pass: the score of each event's best assignment, as a friend file."""

from collections.abc import Iterator
from pathlib import Path

import awkward as ak
import numpy as np
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory
from numpy.typing import NDArray

from agc import inference, selection, systematics
from agc.assignment import ArrayCandidates
from agc.files import summarize
from agc.friends import Writer
from agc.run import CHUNK_SIZE
from agc.samples import TREE

COLUMN = "bdt_score"


def scores(events: ak.Array, scorer: inference.Scorer) -> NDArray[np.float32]:
    """Return the best score of each event in 4j2b, and NaN for all others."""
    best_scores = np.full(len(events), np.nan, dtype=np.float32)
    selected = np.flatnonzero(selection.one_lepton(events))
    jets = selection.candidates(events[selected].Jet, more=("btagCSVV2", "qgl"))
    region = selection.regions(jets, systematics.jet_pt(jets.pt, "nominal"))["4j2b"]
    if len(region.index):
        index = selected[region.index]
        chosen = events[index]
        batch = ArrayCandidates(selection.lepton(chosen), region.jets, np.asarray(chosen.event))
        best_scores[index] = inference.best([batch], scorer)[0].score
    return best_scores


def write(
    path: str, output: Path, scorer: inference.Scorer, *, chunk_size: int = CHUNK_SIZE
) -> Iterator[tuple[int, int]]:
    """Write the scores of a file's events; yield the number of events done, and of all events.

    Raises `InputError` where the file cannot be used.
    """
    total = summarize(path, (*selection.BRANCHES, *selection.ASSIGNMENT_BRANCHES)).events
    writer = Writer(output)
    for first in range(0, max(total, 1), chunk_size):
        stop = min(first + chunk_size, total)
        events = NanoEventsFactory.from_root(
            {path: TREE}, schemaclass=NanoAODSchema, entry_start=first, entry_stop=stop
        ).events()
        writer.extend(events, {COLUMN: scores(events, scorer)})
        yield stop, total
    writer.close()
