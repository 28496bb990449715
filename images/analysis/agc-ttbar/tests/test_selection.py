"""Events at the edges of the cuts, made by hand."""

from typing import Any

import awkward as ak
import numpy as np
import pytest
from agc import selection, systematics
from agc.samples import InputError


def muon(**changes: Any) -> dict[str, Any]:
    good = {"pt": 40.0, "eta": 0.5, "phi": 0.0, "mass": 0.106, "charge": 1}
    return {**good, "tightId": True, "sip3d": 1.0, "pfRelIso04_all": 0.01, **changes}


def electron(**changes: Any) -> dict[str, Any]:
    good = {"pt": 40.0, "eta": 0.5, "phi": 0.0, "mass": 0.0, "charge": 1}
    return {**good, "cutBased": 4, "sip3d": 1.0, **changes}


def jet(**changes: Any) -> dict[str, Any]:
    good = {"pt": 50.0, "eta": 0.1, "phi": 0.3, "mass": 8.0}
    return {**good, "btagCSVV2": 0.1, "jetId": 6, **changes}


def events(electrons: list[Any], muons: list[Any]) -> Any:
    # A first event with one of each gives the arrays their types.
    return ak.zip(
        {
            "Electron": ak.Array([[electron()], electrons]),
            "Muon": ak.Array([[muon()], muons]),
        },
        depth_limit=1,
    )


@pytest.mark.parametrize(
    ("electrons", "muons", "kept"),
    [
        ([], [muon()], True),
        ([electron()], [], True),
        ([electron()], [muon()], False),
        ([], [], False),
        ([], [muon(pt=30.0)], False),
        ([], [muon(pt=30.001)], True),
        ([], [muon(eta=-2.1)], False),
        ([], [muon(eta=-2.0999)], True),
        ([], [muon(tightId=False)], False),
        ([], [muon(sip3d=4.0)], False),
        ([], [muon(pfRelIso04_all=0.15)], False),
        ([electron(cutBased=3)], [], False),
        ([electron(sip3d=4.0)], [], False),
        ([electron(cutBased=3)], [muon()], True),
    ],
)
def test_one_good_lepton(electrons: list[Any], muons: list[Any], kept: bool) -> None:
    assert selection.one_lepton(events(electrons, muons)).tolist() == [False, kept]


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, 1),
        ({"eta": 2.4}, 0),
        ({"eta": -2.3999}, 1),
        ({"jetId": 2}, 0),
        ({"jetId": 4}, 1),
        ({"jetId": 7}, 1),
        ({"jetId": 0}, 0),
    ],
)
def test_jets_that_are_candidates(changes: dict[str, Any], kept: int) -> None:
    found = selection.candidates(ak.Array([[jet(**changes)], [jet()]]))
    assert ak.num(found).tolist() == [kept, 1]


def regions_of(jets: list[Any]) -> dict[str, int]:
    candidates = selection.candidates(ak.Array([jets, [jet()]]))
    found = selection.regions(candidates, candidates.pt)
    return {name: len(region.index) for name, region in found.items()}


@pytest.mark.parametrize(
    ("jets", "one", "two"),
    [
        ([jet()] * 3 + [jet(btagCSVV2=0.6)], 1, 0),
        ([jet()] * 2 + [jet(btagCSVV2=0.6)] * 2, 0, 1),
        ([jet()] * 3 + [jet(btagCSVV2=0.5)], 0, 0),
        ([jet()] * 2 + [jet(btagCSVV2=0.6)], 0, 0),
        ([jet()] * 3 + [jet(btagCSVV2=0.6, pt=30.0)], 0, 0),
        ([jet()] * 4, 0, 0),
    ],
)
def test_regions(jets: list[Any], one: int, two: int) -> None:
    assert regions_of(jets) == {"4j1b": one, "4j2b": two}


def test_the_scalar_sum_is_of_the_selected_jets() -> None:
    jets = [jet(pt=40.0), jet(pt=50.0), jet(pt=60.0), jet(pt=70.0, btagCSVV2=0.9), jet(pt=20.0)]
    candidates = selection.candidates(ak.Array([jets]))
    found = selection.regions(candidates, candidates.pt)["4j1b"]
    assert found.observable.tolist() == [220.0]


def test_the_trijet_is_tagged_and_has_the_largest_momentum() -> None:
    # Worked out by hand: the untagged trio adds up to more, but does not count.
    jets = ak.Array(
        [
            [
                {"pt": 100.0, "eta": 0.0, "phi": 0.0, "mass": 0.0, "tagged": False},
                {"pt": 100.0, "eta": 0.0, "phi": 0.1, "mass": 0.0, "tagged": False},
                {"pt": 100.0, "eta": 0.0, "phi": -0.1, "mass": 0.0, "tagged": False},
                {"pt": 40.0, "eta": 0.0, "phi": 0.0, "mass": 0.0, "tagged": True},
            ]
        ]
    )
    found = selection.trijet_mass(jets)
    vectors = {p: np.array([100, 100 * np.cos(p), 100 * np.sin(p)]) for p in (0.0, 0.1, -0.1)}
    tagged = np.array([40.0, 40.0, 0.0])
    best = max(
        (vectors[a] + vectors[b] + tagged for a, b in ((0.0, 0.1), (0.0, -0.1), (0.1, -0.1))),
        key=lambda v: float(v[1] ** 2 + v[2] ** 2),
    )
    assert found[0] == pytest.approx(np.sqrt(best[0] ** 2 - best[1] ** 2 - best[2] ** 2), rel=1e-9)


def test_an_empty_region_has_no_mass() -> None:
    none = ak.Array([[{"pt": 1.0, "eta": 0.0, "phi": 0.0, "mass": 0.0, "tagged": True}]])[:0]
    assert len(selection.trijet_mass(none)) == 0


def test_the_scale_moves_every_jet_by_three_percent() -> None:
    pt = ak.Array([[100.0, 50.0], []])
    varied = systematics.jet_pt(pt, "pt_scale_up").tolist()
    assert varied[0] == pytest.approx([103.0, 51.5])
    assert varied[1] == []


def events_of(counts: list[int], blocks: list[int] | None = None) -> Any:
    """Return the numbers of events, and the positions of so many jets in each."""
    numbers = np.arange(len(counts))
    block = numbers * 0 + 1 if blocks is None else np.array(blocks)
    events = ak.zip({"run": numbers * 0 + 1, "luminosityBlock": block, "event": numbers + 10})
    return events, ak.local_index(ak.unflatten(np.zeros(sum(counts)), counts))


@pytest.mark.parametrize(("low", "high"), [(32, 64), (64, 128), (128, 256), (256, 512)])
def test_the_smearing_has_no_bias_for_momenta_of_ten_bits(low: int, high: int) -> None:
    # NanoAOD keeps ten bits of the mantissa: from 256 GeV on, half GeVs.
    counts = [2500] * 4
    steps = np.random.default_rng(1).integers(0, 1024, sum(counts))
    pt = ak.unflatten((low * (1 + steps / 1024)).astype(np.float32), counts)
    events, position = events_of(counts)
    drawn = systematics.draws(systematics.event_numbers(events), position)
    factor = np.asarray(ak.flatten(systematics.jet_pt(pt, "pt_res_up", drawn) / pt))
    assert np.mean(factor) == pytest.approx(1, abs=4 * 0.05 / 100)
    assert np.std(factor) == pytest.approx(0.05, rel=4 / np.sqrt(2 * 10_000))
    slope = np.corrcoef(np.asarray(ak.flatten(pt)), factor)[0, 1]
    assert abs(slope) < 4 / 100


def test_the_smearing_of_an_event_does_not_depend_on_its_chunk() -> None:
    events, position = events_of([0, 3, 2, 1])
    numbers = systematics.event_numbers(events)
    every = ak.to_list(systematics.draws(numbers, position))
    parts = [systematics.draws(numbers[i : i + 2], position[i : i + 2]) for i in (0, 2)]
    assert [drawn for part in parts for drawn in ak.to_list(part)] == every


def test_events_without_luminosity_block_are_told_apart_by_their_entry() -> None:
    events, position = events_of([1, 1, 1])
    data = ak.zip({"run": events.run, "event": events.event * 0})
    with pytest.raises(InputError, match="read the files directly"):
        systematics.event_numbers(data)
    drawn = systematics.draws(systematics.event_numbers(data, 7), position)
    assert len(set(ak.flatten(drawn).tolist())) == 3
    later = systematics.draws(systematics.event_numbers(data[1:], 8), position[1:])
    assert ak.to_list(later) == ak.to_list(drawn[1:])


def test_smearing_needs_draws() -> None:
    with pytest.raises(ValueError, match="pt_res_up"):
        systematics.jet_pt(ak.Array([[30.0]]), "pt_res_up")


def test_an_unknown_variation_is_refused() -> None:
    with pytest.raises(ValueError, match="pt_res_down"):
        systematics.jet_pt(ak.Array([[30.0]]), "pt_res_down")


def test_weights_follow_each_jets_momentum() -> None:
    factors = systematics.weight_variations("ttbar", np.array([[100.0, 50.0, 40.0, 30.0]]))
    assert len(factors) == 8
    assert factors["btag_var_0_up"][0] == pytest.approx(1 + 0.075 * 100 / 50)
    assert factors["btag_var_3_down"][0] == pytest.approx(1 - 0.075 * 30 / 50)


def test_only_wjets_have_a_scale_variation() -> None:
    factors = systematics.weight_variations("wjets", np.array([[100.0, 50.0, 40.0, 30.0]]))
    assert factors["scale_var_up"][0] == pytest.approx(1.025)
    assert factors["scale_var_down"][0] == pytest.approx(0.975)
