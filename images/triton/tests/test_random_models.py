"""Random XGBoost models score in Triton as they do themselves, whatever they are.

Each is trained by scikit-learn's interface, saved as MLflow saves it, inspected and
configured as the operator does it, and asked for random batches.
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xgboost
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving_of_models import Rows, serve

CORE, LONG = 60, 3000
"""Models: some ten a second."""

KINDS: dict[str, tuple[Any, list[str]]] = {
    "classifier": (
        xgboost.XGBClassifier,
        ["binary:logistic", "binary:hinge", "multi:softprob", "multi:softmax", "reg:logistic"],
    ),
    "regressor": (
        xgboost.XGBRegressor,
        [
            "reg:squarederror",
            "reg:logistic",
            "reg:absoluteerror",
            "reg:pseudohubererror",
            "reg:gamma",
            "reg:tweedie",
            "count:poisson",
            "survival:cox",
            "reg:quantileerror",
        ],
    ),
    "ranker": (xgboost.XGBRanker, ["rank:ndcg", "rank:pairwise", "rank:map"]),
}


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """Return what a model is made of, and how its rows come in requests."""
    kind = draw(st.sampled_from(sorted(KINDS)))
    return {
        "kind": kind,
        "objective": draw(st.sampled_from(KINDS[kind][1])),
        "booster": draw(st.sampled_from(["gbtree", "gbtree", "dart", "gblinear"])),
        "seed": draw(st.integers(0, 2**31 - 1)),
        "features": draw(st.integers(1, 12)),
        "rounds": draw(st.integers(1, 12)),
        "depth": draw(st.integers(1, 5)),
        "forest": draw(st.integers(1, 3)),
        "classes": draw(st.integers(3, 6)),
        "targets": draw(st.sampled_from([1, 1, 1, 2, 3])),
        "stopping": draw(st.booleans()),
        "missing": draw(st.sampled_from([0.0, 0.1, 0.6])),
        "scale": draw(st.sampled_from([1.0, 1e-6, 1e6])),
        "base_score": draw(st.sampled_from([None, 0.2])),
        "codes": draw(st.booleans()),
        "margin": draw(st.booleans()),
        "file": draw(st.sampled_from(["model.ubj", "model.json"])),
        "cuts": draw(st.lists(st.integers(1, 99), max_size=4, unique=True)),
    }


def labels(plan: dict[str, Any], rng: np.random.Generator, count: int) -> Any:
    """Return labels that the objective takes."""
    objective = plan["objective"]
    if objective.startswith("multi"):
        return np.resize(rng.permutation(plan["classes"]), count)
    if plan["kind"] == "classifier" or objective == "reg:logistic" or objective == "rank:map":
        found = rng.integers(0, 2, (count, plan["targets"]))
        found[:2, :] = [[0], [1]]
        several = objective == "binary:logistic" and plan["targets"] > 1
        return found if several else found[:, 0]
    if plan["kind"] == "ranker":
        return rng.integers(0, 4, count)
    numbers = rng.gamma(2.0, size=(count, plan["targets"])) + 0.1
    several = objective == "reg:squarederror" and plan["targets"] > 1
    return numbers if several else numbers[:, 0]


def train(plan: dict[str, Any], rng: np.random.Generator) -> tuple[Any, Rows]:
    """Return a trained estimator, and rows like those it was trained on."""
    count = 100
    rows = (rng.normal(size=(count, plan["features"])) * plan["scale"]).astype(np.float32)
    trees = plan["booster"] != "gblinear"
    options: dict[str, Any] = {"booster": plan["booster"], "base_score": plan["base_score"]}
    if trees:
        options |= {"max_depth": plan["depth"], "num_parallel_tree": plan["forest"]}
        options |= {"min_child_weight": 0.0}
    if plan["booster"] == "dart":
        options |= {"rate_drop": 0.4}
    if plan["objective"] == "reg:quantileerror":
        options |= {"quantile_alpha": [0.2, 0.8], "base_score": None}
    if plan["codes"] and trees:
        rows[:, 0] = rng.integers(0, 6, count)
        options |= {"feature_types": ["c"] + ["float"] * (plan["features"] - 1)}
        options |= {"enable_categorical": True, "max_cat_to_onehot": 3}
    rows[rng.random(rows.shape) < plan["missing"]] = np.nan
    wanted = labels(plan, rng, count)
    fit: dict[str, Any] = {}
    if plan["kind"] == "ranker":
        fit["qid"] = np.repeat(np.arange(10), 10)
    elif plan["stopping"]:
        options["early_stopping_rounds"] = 1
        fit |= {"eval_set": [(rows[:40], rng.permutation(wanted[:40]))], "verbose": False}
    if plan["margin"] and wanted.ndim == 1 and len(np.unique(wanted)) == 2:
        fit["base_margin"] = rng.normal(size=count)
    estimator = KINDS[plan["kind"]][0](
        objective=plan["objective"], n_estimators=plan["rounds"], n_jobs=1, verbosity=0, **options
    )
    estimator.fit(rows, wanted, **fit)
    return estimator, rows


def check(plan: dict[str, Any]) -> None:
    rng = np.random.default_rng(plan["seed"])
    estimator, rows = train(plan, rng)
    classifier = plan["kind"] == "classifier"
    own = (estimator.predict_proba if classifier else estimator.predict)(rows)
    own = np.asarray(own).reshape(len(rows), -1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        estimator.save_model(folder / plan["file"])
        served = serve(folder, (folder / plan["file"]).read_bytes(), plan["file"])
    (scores,) = served.ask(rows)
    assert scores.shape == own.shape
    rtol, atol = (0, 1e-6) if classifier else (1e-5, 1e-10)
    np.testing.assert_allclose(scores, own, rtol=rtol, atol=atol)
    parts = served.ask(*np.split(rows, sorted(plan["cuts"])))
    assert [len(part) for part in parts] == np.diff([0, *sorted(plan["cuts"]), 100]).tolist()
    np.testing.assert_array_equal(np.concatenate(parts), scores)


def examples(count: int, *, same_each_time: bool) -> settings:
    slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=same_each_time,
        suppress_health_check=slow,
        print_blob=True,
    )


@examples(CORE, same_each_time=True)
@given(plans())
def test_a_random_model_is_served_as_it_predicts(plan: dict[str, Any]) -> None:
    check(plan)


@pytest.mark.part("properties")
@examples(LONG, same_each_time=False)
@given(plans())
def test_many_random_models_are_served_as_they_predict(plan: dict[str, Any]) -> None:
    check(plan)
