"""The compiled evaluation of trees against XGBoost's own, bit for bit."""

import json
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


def test_the_least_score_is_that_of_xgboost() -> None:
    # XGBoost's is 1 / (1 + exp(88.7)), and never zero.
    scores = [trees.probability(np.float32(-margin)) for margin in (88.6, 88.7, 89, 1000)]
    assert scores[0] > scores[1] == scores[2] == scores[3] > 0


def from_model(model: dict[str, Any]) -> xgboost.Booster:
    """Return a booster of a model in XGBoost's format."""
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(json.dumps(model).encode()))
    return booster


@pytest.mark.parametrize("base_score", ["[0E0]", "[1e-37]", "[2e-6]", "[0.9999999]", "[1]"])
def test_scores_are_those_of_xgboost_at_both_ends(base_score: str) -> None:
    model = json.loads(trained(max_depth=3, base_score=0.5, share=0.5).save_raw("json"))
    learner = model["learner"]
    learner["learner_model_param"]["base_score"] = base_score
    # Margins beyond both ends of what the score can distinguish.
    for tree in learner["gradient_booster"]["model"]["trees"]:
        for node, child in enumerate(tree["left_children"]):
            tree["split_conditions"][node] *= 200 if child == -1 else 1
    extreme = from_model(model)
    known = trees.trees_of(extreme)
    assert known is not None
    rows = events().features(np.arange(EVENTS))[:300]
    margins, scores = trees.score(known, rows)
    assert margins.min() < -trees.LARGEST_EXPONENT < trees.LARGEST_EXPONENT < margins.max()
    np.testing.assert_array_equal(margins, extreme.inplace_predict(rows, predict_type="margin"))
    np.testing.assert_array_equal(scores, extreme.inplace_predict(rows))


def why_not(booster: xgboost.Booster, caplog: pytest.LogCaptureFixture) -> str:
    """Return the line that says why a model is left to XGBoost."""
    caplog.clear()
    assert trees.trees_of(booster) is None
    (record,) = caplog.records
    assert record.name == "agc.trees"
    return record.getMessage()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"booster": "dart", "rate_drop": 0.5}, "its booster is dart"),
        ({"objective": "reg:squarederror"}, "its objective is reg:squarederror"),
    ],
)
def test_other_models_are_left_to_xgboost(
    options: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    booster = trained(**options)
    assert reason in why_not(booster, caplog)
    models = LocalModels(dict.fromkeys(inference.PARITIES, booster))
    batch = events()
    (best,) = inference.best([batch], models)
    starts = np.concatenate([[0], np.cumsum(batch.counts)])
    scores = booster.inplace_predict(batch.features(np.arange(EVENTS)))
    largest = [scores[a:b].max() for a, b in pairwise(starts)]
    np.testing.assert_array_equal(best.score, largest)


def test_classes_and_categories_are_left_to_xgboost(caplog: pytest.LogCaptureFixture) -> None:
    rows = np.abs(np.round(events().features(np.arange(EVENTS))))
    labels = np.arange(len(rows)) % 3
    options = {"objective": "multi:softprob", "num_class": 3, "nthread": 1}
    classes = xgboost.train(options, xgboost.DMatrix(rows, labels), 2)
    assert "its objective is multi:softprob" in why_not(classes, caplog)
    types = ["c", *["q"] * (len(FEATURES) - 1)]
    table = xgboost.DMatrix(rows, rows[:, 0] % 2, feature_types=types, enable_categorical=True)
    categories = xgboost.train({"objective": "binary:logistic", "nthread": 1}, table, 2)
    assert "it splits by categories" in why_not(categories, caplog)


class Written:
    """A model whose JSON is not what this XGBoost writes."""

    def __init__(self, booster: xgboost.Booster, **changes: Any) -> None:
        """Change entries of the learner; None removes one."""
        self._booster = booster
        model = json.loads(booster.save_raw("json"))
        for name, value in changes.items():
            parts = [model["learner"], *name.split("__")]
            while len(parts) > 2:
                parts[:2] = [parts[0][parts[1]]]
            parts[0][parts[1]] = value
            if value is None:
                del parts[0][parts[1]]
        self._raw = json.dumps(model).encode()

    def save_raw(self, _: str) -> bytearray:
        """Return the changed model."""
        return bytearray(self._raw)

    def __getattr__(self, name: str) -> Any:
        """Predict with the unchanged model."""
        return getattr(self._booster, name)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"gradient_booster": None}, "its format is unknown (KeyError: 'gradient_booster')"),
        ({"objective": "binary:logistic"}, "its format is unknown (TypeError"),
        ({"gradient_booster__model__trees": [{}]}, "its format is unknown (KeyError"),
        ({"gradient_booster__model__trees": []}, "it has no trees"),
        ({"learner_model_param__num_class": "3"}, "it has 3 classes"),
        ({"learner_model_param__num_target": "2"}, "2 targets"),
        ({"learner_model_param__num_feature": "19"}, "it takes 19 features, not 20"),
        ({"learner_model_param__base_score": "[5E-1,2E-1]"}, "not one number"),
        ({"learner_model_param__base_score": "[0E0]"}, "differ from XGBoost's"),
        ({"learner_model_param__base_score": None}, "its format is unknown (KeyError"),
    ],
)
def test_a_format_that_is_not_known_is_left_to_xgboost(
    changes: dict[str, Any], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    booster: Any = Written(trained(max_depth=2), **changes)
    assert reason in why_not(booster, caplog)


@pytest.mark.parametrize("base_score", ["5E-1", "[5E-1]", "0.5"])
def test_each_form_of_one_base_score_is_known(base_score: str) -> None:
    booster: Any = Written(
        trained(max_depth=2, base_score=0.5), learner_model_param__base_score=base_score
    )
    assert trees.trees_of(booster) is not None


def test_trees_that_score_otherwise_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    booster = trained(max_depth=3)
    assert trees.trees_of(booster) is not None
    read = trees._read
    monkeypatch.setattr(trees, "_read", lambda model, _: read(model, np.float32(0.1)))
    assert "differ from XGBoost's" in why_not(booster, caplog)


@pytest.mark.parametrize("change", ["missing", "next", "previous"])
def test_a_difference_at_one_threshold_or_for_missing_values_is_noticed(
    change: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    booster = trained(max_depth=1)
    right = trees.trees_of(booster)
    assert right is not None
    thresholds, missing_right = right.thresholds.copy(), right.missing_right.copy()
    if change == "missing":
        missing_right = ~missing_right
    else:
        side = np.float32(np.inf if change == "next" else -np.inf)
        thresholds[0] = np.nextafter(thresholds[0], side)
    wrong = right._replace(thresholds=thresholds, missing_right=missing_right)
    monkeypatch.setattr(trees, "_read", lambda *_: wrong)
    assert "rows at thresholds differ from XGBoost's" in why_not(booster, caplog)


def test_other_choices_of_the_same_scores_are_noticed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    choose = trees.choose

    def last(known: trees.Trees, events: Any, *arrays: Any) -> Any:
        best, scores = choose(known, events, *arrays)
        return best + 1, scores

    monkeypatch.setattr(trees, "choose", last)
    assert "choices of random events' candidates differ" in why_not(trained(max_depth=2), caplog)


@pytest.mark.reference
def test_published_models_are_known(reference_data: Path) -> None:
    models = LocalModels.load(reference_data / "agc")
    for parity, booster in models.boosters.items():
        assert models.trees[parity] is not None
        same_choices(booster, events())
    assert booster.num_features() == len(FEATURES)
