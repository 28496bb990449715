"""The compiled evaluation of trees against XGBoost's own, bit for bit."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from agc import inference, trees
from agc.assignment import FEATURES, MAX_JETS, MIN_JETS
from agc.candidates import Compiled
from agc.inference import LocalModels

RNG = np.random.default_rng(4)
EVENTS = 60


def events(*, coarse: bool = False, missing: float = 0) -> Compiled:
    """Return events of four to six random jets: with ties if `coarse`, and shares of NaN."""
    leading = RNG.normal(size=(EVENTS, MAX_JETS, 9)) * 2
    lepton = RNG.normal(size=(EVENTS, 6)) * 2
    if coarse:
        leading, lepton = np.round(leading), np.round(lepton)
    leading[RNG.random(leading.shape) < missing] = np.nan
    number = np.arange(EVENTS, dtype=np.uint64)
    return Compiled(number, RNG.integers(MIN_JETS, MAX_JETS + 1, EVENTS), lepton, leading)


def trained(*, missing: float = 0, share: float = 0.9, **options: Any) -> xgboost.Booster:
    """Return a model of rows like those of `events`."""
    features = np.concatenate([events(missing=missing).features(np.arange(EVENTS)) for _ in "123"])
    features = features[RNG.permutation(len(features))[:3000]]
    total = np.nan_to_num(features).sum(axis=1) + RNG.normal(size=len(features))
    right = total > np.quantile(total, share)
    known = {"objective": "binary:logistic", "nthread": 1, **options}
    return xgboost.train(known, xgboost.DMatrix(features, right), 20)


def same_choices(booster: xgboost.Booster, *batches: Compiled) -> None:
    """Compare features and scores of all best candidates with those by XGBoost."""
    models = LocalModels(dict.fromkeys(inference.PARITIES, booster))
    assert models.trees["odd"] is not None
    by_trees = inference.best(batches, models)
    # A function is not known to be models of this process.
    by_xgboost = inference.best(batches, lambda _, rows: booster.inplace_predict(rows))
    for one, other in zip(by_trees, by_xgboost, strict=True):
        assert len(set(other.score.tolist())) > 1
        np.testing.assert_array_equal(one.score, other.score)
        np.testing.assert_array_equal(one.features, other.features)


@pytest.mark.parametrize(
    "options",
    [
        {"max_depth": 1},
        {"max_depth": 6},
        # Hundreds of leaves: several words for a tree.
        {"max_depth": 40, "min_child_weight": 0, "lambda": 0},
        {"max_depth": 4, "base_score": 0.25, "num_parallel_tree": 3},
    ],
)
def test_best_candidates_are_those_of_xgboost(options: dict[str, Any]) -> None:
    booster = trained(**options)
    same_choices(booster, events(), events(coarse=True), events(missing=0.1))


def test_missing_values_go_where_the_model_sends_them() -> None:
    same_choices(trained(missing=0.3, max_depth=5), events(missing=0.3))


def test_the_first_of_candidates_whose_scores_are_rounded_alike_is_the_best() -> None:
    # Margins of 20 and more: most scores are one.
    booster = trained(max_depth=3, base_score=0.999999, learning_rate=3)
    batch = events()
    models = LocalModels(dict.fromkeys(inference.PARITIES, booster))
    scores = booster.inplace_predict(batch.features(np.arange(EVENTS)))
    assert models.trees["odd"] is not None
    assert np.mean(scores == scores.max()) > 0.5
    same = inference.best([batch], models)[0].features
    expected = inference.best([batch], lambda _, rows: booster.inplace_predict(rows))[0].features
    np.testing.assert_array_equal(same, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"booster": "dart", "rate_drop": 0.5},
        {"objective": "reg:squarederror"},
        {"share": 1},
    ],
)
def test_other_models_are_left_to_xgboost(options: dict[str, Any]) -> None:
    booster = trained(**options)
    assert trees.trees_of(booster) is None
    models = LocalModels(dict.fromkeys(inference.PARITIES, booster))
    batch = events()
    (best,) = inference.best([batch], models)
    starts = np.concatenate([[0], np.cumsum(batch.counts)])
    scores = booster.inplace_predict(batch.features(np.arange(EVENTS)))
    largest = [scores[a:b].max() for a, b in pairwise(starts)]
    np.testing.assert_array_equal(best.score, largest)


def test_trees_that_score_otherwise_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    booster = trained(max_depth=3)
    assert trees.trees_of(booster) is not None
    read = trees._read
    monkeypatch.setattr(trees, "_read", lambda model, _: read(model, np.float32(0.1)))
    assert trees.trees_of(booster) is None


@pytest.mark.reference
def test_published_models_are_known(reference_data: Path) -> None:
    models = LocalModels.load(reference_data / "agc")
    for parity, booster in models.boosters.items():
        assert models.trees[parity] is not None
        same_choices(booster, events())
    assert booster.num_features() == len(FEATURES)
