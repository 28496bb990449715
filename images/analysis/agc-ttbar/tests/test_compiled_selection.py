"""The compiled selection against the one on whole arrays, bit for bit, on any events."""

from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from agc import selection, systematics
from agc.columns import Columns
from agc.compilation import compiled
from agc.inference import Scorer
from agc.kernel import KernelSelected
from agc.nanoaod import IDENTITIES, Identity, Jets
from agc.processor import TtbarProcessor
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import caching
from numpy.typing import NDArray

REAL = {
    # Ties, cuts' edges, and what no sane file has.
    "pt": st.sampled_from([29.0, 30.0, 31.0, 40.0, 40.0, 100.0, 1e4, np.nan, np.inf, -1.0])
    | st.floats(25, 300, width=32),
    "eta": st.sampled_from([0.0, 2.1, -2.1, 2.4, 2.39, np.nan]) | st.floats(-2.5, 2.5, width=32),
    "phi": st.sampled_from([0.0, 1.5, -1.5, 3.0, np.nan]) | st.floats(-3.125, 3.125, width=32),
    "mass": st.sampled_from([0.0, 5.0, -1.0, np.nan]) | st.floats(0, 50, width=32),
    "sip3d": st.sampled_from([1.0, 1.0, 1.0, 4.0, np.nan]),
    "pfRelIso04_all": st.sampled_from([0.01, 0.01, 0.15]),
    "btagCSVV2": st.sampled_from([0.1, 0.5, 0.6, 0.9, -10.0, np.nan]),
    "qgl": st.sampled_from([0.1, 0.9, -1.0]),
}
WHOLE = {
    "cutBased": (np.int32, st.sampled_from([4, 4, 3])),
    "jetId": (np.int32, st.sampled_from([6, 6, 6, 4, 2, 0])),
    "tightId": (np.bool_, st.sampled_from([True, True, False])),
}
FIELDS = {
    "Electron": ("pt", "eta", "phi", "mass", "cutBased", "sip3d"),
    "Muon": ("pt", "eta", "phi", "mass", "tightId", "sip3d", "pfRelIso04_all"),
    "Jet": ("pt", "eta", "phi", "mass", "btagCSVV2", "qgl", "jetId"),
}
GOOD = {
    "Electron": (40, 0.5, 0, 0, 4, 1),
    "Muon": (40, 0.5, 0, 0.1, True, 1, 0.01),
    "Jet": (40, 0.5, 0.75, 5, 0.6, 0.1, 6),
}
"""By collection: the values of an object that passes all cuts."""
Counts = dict[str, list[int]]


def chunk_of(counts: Counts, values: dict[str, list[Any]], first: int) -> Columns:
    """Return events with so many objects each, and these values of their fields."""
    arrays: dict[str, NDArray[Any]] = {}
    offsets = {}
    for name, numbers in counts.items():
        offsets[name] = np.concatenate([[0], np.cumsum(numbers, dtype=np.int64)]).astype(np.int64)
        for field in FIELDS[name]:
            kind = WHOLE[field][0] if field in WHOLE else np.float32
            arrays[f"{name}_{field}"] = np.array(values[f"{name}_{field}"], dtype=kind)
    events = len(counts["Jet"])
    number = np.arange(first, first + events, dtype=np.uint64)
    arrays |= {"run": (number * 0 + 1).astype(np.uint32), "event": number}
    arrays["luminosityBlock"] = (number // 3).astype(np.uint32)
    return Columns(events, arrays, offsets, first)


@st.composite
def chunks(draw: st.DrawFn) -> Columns:
    """Events of which some are selected, and others have nothing that is reasonable."""
    events = draw(st.integers(0, 5))
    counts: Counts = {"Jet": draw(st.lists(st.integers(0, 20), min_size=events, max_size=events))}
    for name in ("Electron", "Muon"):
        counts[name] = draw(st.lists(st.integers(0, 2), min_size=events, max_size=events))
    values: dict[str, list[Any]] = {}
    for name, fields in FIELDS.items():
        number = sum(counts[name])
        for place, field in enumerate(fields):
            any_value = WHOLE[field][1] if field in WHOLE else REAL[field]
            value = st.just(GOOD[name][place]) | st.just(GOOD[name][place]) | any_value
            values[f"{name}_{field}"] = draw(st.lists(value, min_size=number, max_size=number))
    return chunk_of(counts, values, draw(st.integers(0, 2**40)))


class Sum:
    """A scorer that prefers nothing in particular."""

    def __call__(self, trained_on: str, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.nan_to_num(features[:, 0] + (trained_on == "odd"), posinf=9, neginf=9)


def sums(chunk: Columns, scorer: Scorer | None, *, process: str = "wjets") -> dict[str, Any]:
    """Return the sums by the kernel, which must be those by arrays."""
    instance = TtbarProcessor(scorer)
    metadata = {"dataset": "d", "process": process, "variation": "nominal", "weight": 1.0}
    assignment = scorer is not None

    def select() -> selection.Selected:
        return selection.ArraySelected(chunk.records(), assignment=assignment, first=chunk.first)

    with np.errstate(all="ignore"):
        by_kernel = instance.analyse_columns(chunk, metadata)
        by_arrays = instance.summed(select, chunk.events, metadata)
    for kind in ("histograms", "features"):
        assert by_kernel[kind].keys() == by_arrays[kind].keys()
        assert by_kernel[kind]["d"].keys() == by_arrays[kind]["d"].keys()
        for key, total in by_arrays[kind]["d"].items():
            np.testing.assert_array_equal(by_kernel[kind]["d"][key], total, err_msg=key)
    assert by_kernel["candidates"] == by_arrays["candidates"]
    return by_kernel


@settings(max_examples=25, deadline=None)
@given(chunk=chunks(), assigned=st.booleans())
def test_the_kernel_is_the_array_version_on_any_events(chunk: Columns, assigned: bool) -> None:
    sums(chunk, Sum() if assigned else None)
    if assigned:
        same_candidates(chunk)


def test_the_first_of_equal_trijets_counts_in_both() -> None:
    chunk = plain_chunk(8, 100)
    equal = {"Jet_pt": 40.0, "Jet_btagCSVV2": 0.9}
    same = {name: np.full_like(chunk.values[name], value) for name, value in equal.items()}
    phi = np.where(np.arange(800) % 2, np.float32(0.5), np.float32(-0.5))
    sums(Columns(100, {**chunk.values, **same, "Jet_phi": phi}, chunk.offsets, 0), None)


def plain_chunk(jets: int, events: int) -> Columns:
    """Events with one muon and good jets of random directions, half of them tagged."""
    rng = np.random.default_rng(jets)
    number = jets * events
    values: dict[str, Any] = {f"Electron_{field}": [] for field in FIELDS["Electron"]}
    for place, field in enumerate(FIELDS["Muon"]):
        values[f"Muon_{field}"] = [GOOD["Muon"][place]] * events
    values |= {
        "Jet_pt": np.round(rng.uniform(28, 60, number)),
        "Jet_eta": rng.uniform(-2, 2, number),
        "Jet_phi": np.round(rng.uniform(-3, 3, number)),
        "Jet_mass": rng.uniform(3, 10, number),
        "Jet_btagCSVV2": rng.choice([0.1, 0.9], number, p=[0.75, 0.25]),
        "Jet_qgl": rng.uniform(0, 1, number),
        "Jet_jetId": [6] * number,
    }
    counts = {"Electron": [0] * events, "Muon": [1] * events, "Jet": [jets] * events}
    return chunk_of(counts, values, 7)


@pytest.mark.parametrize(("jets", "regions"), [(0, 0), (1, 0), (3, 0), (4, 2), (7, 2), (20, 2)])
def test_every_variation_is_filled_in_events_of_so_many_jets(jets: int, regions: int) -> None:
    done = sums(plain_chunk(jets, 200), Sum())
    assert len(done["histograms"]["d"]) == regions * 13
    assert (done["candidates"] > 0) is (regions > 0)


@pytest.mark.parametrize("identity", IDENTITIES)
def test_every_identification_of_jets_is_the_same(identity: Identity) -> None:
    chunk = plain_chunk(6, 100)
    number = len(chunk.values["Jet_pt"])
    rng = np.random.default_rng(2)
    composition = {
        "Jet_btagPNetB": chunk.values["Jet_btagCSVV2"],
        **{f"Jet_{name}": rng.uniform(0, 1, number).astype(np.float32) for name in SHARES},
        **{f"Jet_{name}": rng.choice([0, 1, 255], number).astype(np.uint8) for name in NUMBERS},
    }
    chunk = Columns(chunk.events, {**chunk.values, **composition}, chunk.offsets, 0)
    definition = Jets("btagPNetB", 0.245, identity)
    kernel = KernelSelected(chunk, definition, assignment=True)
    arrays = selection.ArraySelected(chunk.records(), definition, assignment=True, first=0)
    selected = 0
    for kinematic in systematics.KINEMATIC:
        by_kernel, by_arrays = kernel.regions(kinematic), arrays.regions(kinematic)
        for name, region in by_arrays.items():
            selected += len(region.index)
            np.testing.assert_array_equal(by_kernel[name].observable, region.observable)
        chosen, expected = (
            some.candidates(regions["4j2b"])
            for some, regions in ((kernel, by_kernel), (arrays, by_arrays))
        )
        np.testing.assert_array_equal(chosen.event, expected.event)
    assert selected > 0


SHARES = ("neHEF", "neEmEF", "chHEF", "chEmEF", "muEF")
NUMBERS = ("chMultiplicity", "neMultiplicity")


def same_candidates(chunk: Columns) -> int:
    """Compare all features of all candidates with those of arrays, and return their number."""
    kernel = KernelSelected(chunk, assignment=True)
    arrays = selection.ArraySelected(chunk.records(), assignment=True, first=chunk.first)
    count = 0
    for kinematic in systematics.KINEMATIC:
        with np.errstate(all="ignore"):
            by_kernel, by_arrays = (
                some.candidates(some.regions(kinematic)["4j2b"]) for some in (kernel, arrays)
            )
        np.testing.assert_array_equal(by_kernel.event, by_arrays.event)
        np.testing.assert_array_equal(by_kernel.counts, by_arrays.counts)
        events = np.arange(len(by_kernel.event))[::-1]
        np.testing.assert_array_equal(by_kernel.features(events), by_arrays.features(events))
        count += int(by_kernel.counts.sum())
    return count


@pytest.mark.parametrize("jets", [4, 5, 6, 9])
def test_features_are_those_of_the_array_version(jets: int) -> None:
    assert same_candidates(plain_chunk(jets, 50)) > 500


@pytest.mark.parametrize("writable", [True, False])
def test_compiled_code_is_kept_where_a_folder_allows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writable: bool
) -> None:
    folder = tmp_path / "numba"
    if not writable:
        folder.write_text("a file, not a folder")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(folder))
    # Without those of the package and the user, as in a pod with a read-only root.
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [caching.UserProvidedCacheLocator])

    def double(number: int) -> int:
        return 2 * number

    assert compiled(double)(4) == 8
    assert bool(list(tmp_path.rglob("*.nbi"))) is writable
