"""The published models on the real sample."""

from pathlib import Path

import numpy as np
import pytest
import xgboost
from agc import histograms, inference, training
from agc.assignment import FEATURES
from agc.inference import LocalModels
from agc.processor import TtbarProcessor
from agc.run import Report, run
from agc.samples import File, parse_input
from agc.systematics import KINEMATIC, weight_variations
from coffea.nanoevents import NanoAODSchema, NanoEventsFactory
from hist import Hist
from numpy.typing import NDArray

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def sample(reference_data: Path) -> File:
    return parse_input(f"{reference_data / 'NanoAODv5_sample.root'}=ttbar")


@pytest.fixture(scope="module")
def models(reference_data: Path) -> LocalModels:
    return LocalModels.load(reference_data / "agc")


@pytest.fixture(scope="module")
def assigned(sample: File, models: LocalModels) -> Report:
    return run([sample], weights="unit", scorer=models, progress=False)


def test_every_event_of_the_region_is_assigned_in_every_variation(assigned: Report) -> None:
    for feature in FEATURES:
        for variation in (*KINEMATIC, *weight_variations("ttbar", np.ones((1, 4)))):
            ours = assigned.features[histograms.name(feature.name, "ttbar", variation)]
            region = assigned.histograms[histograms.name("4j2b", "ttbar", variation)]
            assert ours.sum(flow=True).value == pytest.approx(region.sum(flow=True).value)


def test_assigning_changes_no_histogram_of_the_regions(assigned: Report, sample: File) -> None:
    without = run([sample], weights="unit", progress=False)
    assert without.features == {}
    assert without.histograms == assigned.histograms


def test_results_do_not_depend_on_the_chunks(
    assigned: Report, sample: File, models: LocalModels
) -> None:
    again = run([sample], weights="unit", scorer=models, chunk_size=137, progress=False)
    assert set(again.features) == set(assigned.features)
    for key, histogram in assigned.features.items():
        theirs = again.features[key].values(flow=True)
        np.testing.assert_allclose(theirs, histogram.values(flow=True), rtol=1e-10)


def test_assigned_jets_find_the_w_boson_and_the_top_quark(assigned: Report) -> None:
    def median(histogram: Hist) -> float:
        share = np.cumsum(histogram.values()) / histogram.values().sum()
        return float(np.interp(0.5, share, histogram.axes[0].edges[1:]))

    assert median(assigned.features["mass_w1w2_ttbar"]) == pytest.approx(80.4, abs=10)
    top = median(assigned.features["mass_w1w2btophad_ttbar"])
    trijet = median(assigned.histograms["4j2b_ttbar"])
    assert abs(top - 172.5) < abs(trijet - 172.5)


def test_published_models_agree_with_our_labels(sample: File, models: LocalModels) -> None:
    # Nine events of the real sample have all four jets matched to their quarks.
    found = training.collect([sample], progress=False)
    assert {parity: len(one.right) for parity, one in found.items()} == {"even": 5, "odd": 4}
    for parity, one in found.items():
        model = models.boosters[inference.TRAINED_ON[parity]]
        quality = training.judge(model, one, np.ones(len(one.right), dtype=bool))
        assert quality.jet_score > 0.9


def test_scores_and_choices_are_those_of_xgboost(
    reference_data: Path, sample: File, models: LocalModels
) -> None:
    asked: list[tuple[str, NDArray[np.float32], NDArray[np.float32]]] = []

    def recorder(trained_on: str, features: NDArray[np.float32]) -> NDArray[np.float32]:
        asked.append((trained_on, features, models(trained_on, features)))
        return asked[-1][2]

    metadata = {"process": "ttbar", "variation": "nominal", "weight": 1.0, "dataset": "sample"}
    events = NanoEventsFactory.from_root(
        {sample.path: "Events"}, schemaclass=NanoAODSchema, metadata=metadata
    ).events()
    TtbarProcessor(recorder).process(events)
    assert {trained_on for trained_on, _, _ in asked} == set(inference.PARITIES)
    for trained_on, features, scores in asked:
        path = reference_data / "agc" / inference.model_file(trained_on)
        booster = xgboost.Booster(model_file=str(path))
        expected = booster.predict(xgboost.DMatrix(features))
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        assert scores.argmax() == expected.argmax()
