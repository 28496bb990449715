"""The candidates of an event and what describes them, beside a plain computation."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import vector
import xgboost
from agc import assignment, inference
from agc.assignment import FEATURES, ArrayCandidates
from agc.samples import InputError
from numpy.typing import NDArray

RNG = np.random.default_rng(3)
START = RNG.bit_generator.state
NAMES = [feature.name for feature in FEATURES]


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """A test draws the same numbers whichever ran before it."""
    RNG.bit_generator.state = START


def events(*multiplicities: int) -> tuple[ak.Array, ak.Array]:
    """Return the leptons and jets of events with so many jets."""
    total, count = sum(multiplicities), len(multiplicities)

    def momenta(size: int, mass: float) -> dict[str, Any]:
        return {
            "pt": RNG.uniform(30, 200, size).astype(np.float32),
            "eta": RNG.uniform(-2.4, 2.4, size).astype(np.float32),
            "phi": RNG.uniform(-np.pi, np.pi, size).astype(np.float32),
            "mass": RNG.uniform(0, mass, size).astype(np.float32),
        }

    jets = momenta(total, 20)
    jets |= {k: RNG.uniform(0, 1, total).astype(np.float32) for k in ("btagCSVV2", "qgl")}
    jagged = ak.zip({k: ak.unflatten(v, multiplicities) for k, v in jets.items()})
    return ak.zip(momenta(count, 0.2)), jagged


def features_one_by_one(lepton: Any, jets: list[Any]) -> list[list[float]]:
    """Return the features of all candidates of one event, one at a time."""

    def four(one: Any) -> Any:
        return vector.obj(pt=one["pt"], eta=one["eta"], phi=one["phi"], mass=one["mass"])

    def distance(one: Any, other: Any) -> float:
        return float(np.hypot(one["eta"] - other["eta"], one["phi"] - other["phi"]))

    rows = []
    leading = jets[:6]
    for w1, w2, b_had, b_lep in itertools.permutations(range(len(leading)), 4):
        if w1 < w2:
            continue
        chosen = [leading[i] for i in (w1, w2, b_had, b_lep)]
        one, two, had, lep = chosen
        rows.append(
            [
                distance(lepton, lep),
                distance(one, two),
                distance(one, had),
                distance(two, had),
                (four(lepton) + four(lep)).mass,
                (four(one) + four(two)).mass,
                (four(one) + four(two) + four(had)).mass,
                (four(one) + four(two) + four(had)).pt,
                *(jet[name] for name in ("pt", "btagCSVV2", "qgl") for jet in chosen),
            ]
        )
    return rows


@pytest.mark.parametrize(("jets", "count"), [(4, 12), (5, 60), (6, 180)])
def test_every_assignment_is_a_candidate_once(jets: int, count: int) -> None:
    roles = assignment.choices(jets).roles
    assert roles.shape == (count, 4)
    assert len({(frozenset(row[:2]), *row[2:]) for row in roles.tolist()}) == count
    assert all(len(set(row)) == 4 for row in roles.tolist())
    assert np.all(roles[:, 0] > roles[:, 1]), "the later jet is W1"


def test_features_are_those_of_a_plain_computation() -> None:
    lepton, jets = events(4, 5, 6, 9, 4, 6)
    seen = []
    for some in assignment.candidates(lepton, jets):
        for position, found in zip(some.index, some.features, strict=True):
            expected = features_one_by_one(lepton[position].to_list(), jets[position].to_list())
            np.testing.assert_allclose(found, np.array(expected), rtol=2e-5, atol=2e-5)
            seen.append(int(position))
    assert sorted(seen) == list(range(6))


def test_an_azimuth_is_not_folded() -> None:
    lepton, jets = events(4)
    jets["phi"] = ak.Array([[3.0, -3.0, 0.0, 0.0]])
    jets["eta"] = ak.zeros_like(jets.eta)
    (some,) = assignment.candidates(lepton, jets)
    column = NAMES.index("deltar_w1w2")
    assert some.features[..., column].max() == pytest.approx(6.0)


class Recorder:
    """Scores by a sum over the features, and remembers what it was asked."""

    def __init__(self) -> None:
        self.weights = RNG.normal(size=len(FEATURES))
        self.asked: list[tuple[str, int]] = []

    def __call__(self, trained_on: str, features: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked.append((trained_on, len(features)))
        return np.asarray(features @ self.weights, dtype=np.float32)


def candidates(*multiplicities: int, first: int = 1) -> tuple[ArrayCandidates, Any, Any]:
    """Return the candidates of events with so many jets, and their leptons and jets."""
    lepton, jets = events(*multiplicities)
    numbers = np.arange(first, first + len(multiplicities), dtype=np.uint64)
    return ArrayCandidates(lepton, jets, numbers), lepton, jets


def test_the_best_candidate_is_kept_with_one_call_for_each_model() -> None:
    scorer = Recorder()
    batches = [candidates(4, 6, 5, 4, 7), candidates(5, 4)]
    results = inference.best([batch for batch, _, _ in batches], scorer)
    # Events 1, 3, 5 and 1; 2, 4 and 2.
    assert scorer.asked == [("odd", 180 + 12 + 12), ("even", 12 + 60 + 180 + 60)]
    assert [best.candidates.tolist() for best in results] == [[12, 180, 60, 12, 180], [60, 12]]
    for (_, lepton, jets), kept in zip(batches, results, strict=True):
        for position in range(len(lepton)):
            rows = features_one_by_one(lepton[position].to_list(), jets[position].to_list())
            largest = max(rows, key=lambda row: float(np.dot(row, scorer.weights)))
            np.testing.assert_allclose(kept.features[position], largest, rtol=2e-5, atol=2e-5)
            score = np.dot(largest, scorer.weights)
            assert kept.score[position] == pytest.approx(score, rel=1e-4, abs=1e-3)


def test_the_result_does_not_depend_on_the_size_of_calls() -> None:
    scorer = Recorder()
    batches = [candidates(4, 6, 5, 4, 7, 4)[0], candidates(5, 4, 6)[0]]
    expected = inference.best(batches, scorer)
    scorer.asked.clear()
    in_blocks = inference.best(batches, scorer, most=72)
    # Events are not divided: 2; 4, 6 and 2.  1 and 3; 5; 1; 3.
    assert scorer.asked == [
        *(("odd", rows) for rows in (180, 36)),
        *(("even", rows) for rows in (72, 180, 60, 180)),
    ]
    for block_wise, at_once in zip(in_blocks, expected, strict=True):
        np.testing.assert_array_equal(block_wise.features, at_once.features)
        np.testing.assert_array_equal(block_wise.score, at_once.score)
        np.testing.assert_array_equal(block_wise.candidates, at_once.candidates)


def test_the_first_of_equal_scores_is_the_best() -> None:
    batch, _, _ = candidates(4, 5)
    (best,) = inference.best([batch], lambda _, rows: np.ones(len(rows), np.float32))
    first = batch.features(np.arange(2))[[0, 12]]
    np.testing.assert_array_equal(best.features, first)


def test_events_of_one_parity_ask_one_model() -> None:
    scorer = Recorder()
    only_even = ArrayCandidates(*events(4, 4), np.array([2, 8], dtype=np.uint64))
    assert len(inference.best([only_even], scorer)[0].score) == 2
    assert [model for model, _ in scorer.asked] == ["odd"]


NAMES = [feature.name for feature in FEATURES]


def trained(
    folder: Path,
    features: int = len(FEATURES),
    names: Sequence[str] | None = None,
    booster: str = "gbtree",
) -> Path:
    rows, labels = RNG.normal(size=(200, features)), RNG.integers(0, 2, 200)
    data = xgboost.DMatrix(rows, labels, feature_names=names)
    model = xgboost.train({"objective": "binary:logistic", "booster": booster}, data, 5)
    for parity in inference.PARITIES:
        model.save_model(folder / inference.model_file(parity))
    return folder


@pytest.mark.parametrize("names", [None, NAMES], ids=["unnamed", "named"])
def test_models_of_a_folder_score_as_xgboost_does(
    tmp_path: Path, names: Sequence[str] | None
) -> None:
    models = inference.LocalModels.load(trained(tmp_path, names=names))
    rows = RNG.normal(size=(50, len(FEATURES))).astype(np.float32)
    known = xgboost.Booster(model_file=str(tmp_path / "model_odd.json"))
    expected = known.predict(xgboost.DMatrix(rows, feature_names=names))
    np.testing.assert_allclose(models("odd", rows), expected, atol=1e-6)


def test_models_that_cannot_be_used_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"model_even\.json: no such file; `agc train`"):
        inference.LocalModels.load(tmp_path)
    with pytest.raises(InputError, match="takes 7 features, not 20"):
        inference.LocalModels.load(trained(tmp_path, features=7))
    swapped = [NAMES[1], NAMES[0], *NAMES[2:]]
    message = f"its feature 0 is {NAMES[1]!r}, not {NAMES[0]!r}; train it on"
    with pytest.raises(InputError, match=re.escape(message)):
        inference.LocalModels.load(trained(tmp_path, names=swapped))
    with pytest.raises(InputError, match=r"model_even\.json is a linear model; train trees"):
        inference.LocalModels.load(trained(tmp_path, booster="gblinear"))
    (tmp_path / "model_even.json").write_text('{"no": "model"}')
    with pytest.raises(InputError, match=r"is not an XGBoost model \([^\[]*\)$"):
        inference.LocalModels.load(tmp_path)
