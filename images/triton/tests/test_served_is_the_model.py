"""What is served is what the model says itself, for each kind of XGBoost model."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from coffea_shoppe_operator import boosters, builders
from coffea_shoppe_operator.inspection import RefusedError
from numpy.typing import NDArray
from serving_of_models import Rows, load, serve

RNG = np.random.default_rng(7)
ROWS = RNG.normal(size=(500, 4)).astype(np.float32)
ROWS[RNG.random(ROWS.shape) < 0.05] = np.nan
TWO = (np.nan_to_num(ROWS[:, 0]) + RNG.normal(size=500) > 0).astype(int)
THREE = np.digitize(np.nan_to_num(ROWS[:, 1]) + RNG.normal(size=500), [-0.5, 0.5])
REAL = np.nan_to_num(ROWS[:, 2]) * 3 + RNG.normal(size=500)
NAMES = ["pt", "eta", "phi", "mass"]

Labels = NDArray[Any]


def model_file(model: Any, folder: Path, file: str = "model.ubj") -> bytes:
    """Return a model's file as MLflow keeps it: it calls the model's own `save_model`."""
    path = folder / f"saved-{file}"
    model.save_model(path)
    return path.read_bytes()


def trained(labels: Labels, options: dict[str, Any], **matrix: Any) -> xgboost.Booster:
    rows = xgboost.DMatrix(ROWS, labels, **matrix)
    return xgboost.train({"max_depth": 3, "nthread": 1, **options}, rows, 12)


def stopped_early(labels: Labels) -> xgboost.XGBClassifier:
    model = xgboost.XGBClassifier(
        early_stopping_rounds=10, n_estimators=80, learning_rate=0.9, n_jobs=1
    )
    half = len(ROWS) // 2
    held = [(ROWS[half:], labels[half:])]
    model.fit(ROWS[:half], labels[:half], eval_set=held, verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    return model


def estimator(kind: Any, labels: Labels, **options: Any) -> Any:
    return kind(n_estimators=12, max_depth=3, n_jobs=1, **options).fit(ROWS, labels)


def ranker() -> Any:
    model = xgboost.XGBRanker(n_estimators=12, n_jobs=1)
    return model.fit(ROWS, TWO, qid=np.repeat(np.arange(10), 50))


ESTIMATORS: dict[str, tuple[Callable[[], Any], int]] = {
    "two classes": (lambda: estimator(xgboost.XGBClassifier, TWO), 2),
    "three classes": (lambda: estimator(xgboost.XGBClassifier, THREE), 3),
    "labels of classes": (
        lambda: estimator(xgboost.XGBClassifier, THREE, objective="multi:softmax"),
        3,
    ),
    "linear labels of classes": (
        lambda: estimator(
            xgboost.XGBClassifier, THREE, objective="multi:softmax", booster="gblinear"
        ),
        3,
    ),
    "several labels": (
        lambda: estimator(xgboost.XGBClassifier, np.stack([TWO, 1 - TWO, TWO], axis=1)),
        3,
    ),
    "a hinge": (lambda: estimator(xgboost.XGBClassifier, TWO, objective="binary:hinge"), 2),
    "stopped early": (lambda: stopped_early(TWO), 2),
    "three classes, stopped early": (lambda: stopped_early(THREE), 3),
    "a forest": (lambda: estimator(xgboost.XGBRFClassifier, TWO), 2),
    "DART": (
        lambda: estimator(xgboost.XGBClassifier, TWO, booster="dart", rate_drop=0.5),
        2,
    ),
    "linear": (lambda: estimator(xgboost.XGBClassifier, TWO, booster="gblinear"), 2),
    "regression": (lambda: estimator(xgboost.XGBRegressor, REAL), 1),
    "counts": (
        lambda: estimator(xgboost.XGBRegressor, np.abs(REAL), objective="count:poisson"),
        1,
    ),
    "several targets": (
        lambda: estimator(xgboost.XGBRegressor, np.stack([REAL, -REAL], axis=1)),
        2,
    ),
    "vectors in leaves": (
        lambda: estimator(
            xgboost.XGBRegressor,
            np.stack([REAL, -REAL], axis=1),
            multi_strategy="multi_output_tree",
        ),
        2,
    ),
    "quantiles": (
        lambda: estimator(
            xgboost.XGBRegressor,
            REAL,
            objective="reg:quantileerror",
            quantile_alpha=[0.1, 0.5, 0.9],
        ),
        3,
    ),
    "linear regression": (lambda: estimator(xgboost.XGBRegressor, REAL, booster="gblinear"), 1),
    "ranking": (ranker, 1),
}


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_output_of_an_estimator_is_that_of_its_method(kind: str, tmp_path: Path) -> None:
    make, outputs = ESTIMATORS[kind]
    model = make()
    classifier = hasattr(model, "predict_proba")
    served = serve(tmp_path, model_file(model, tmp_path))
    own = (model.predict_proba if classifier else model.predict)(ROWS).reshape(len(ROWS), -1)
    (scores,) = served.ask(ROWS)
    assert scores.shape == (len(ROWS), outputs)
    np.testing.assert_allclose(scores, own, rtol=1e-5, atol=1e-6)
    assert served.inspected.method == ("predict_proba" if classifier else "predict")
    # Rows of one batch are not mixed.
    parts = served.ask(ROWS[:3], ROWS[3:4], ROWS[4:])
    assert [len(part) for part in parts] == [3, 1, len(ROWS) - 4]
    np.testing.assert_array_equal(np.concatenate(parts), scores)
    # What the operator asks of a server, it would have been told.
    (probed,) = served.ask(probe_of(served))
    assert served.inspected.differs(list(probed.shape), probed.tobytes()) == ""


def probe_of(served: Any) -> Rows:
    inspected = served.inspected
    found: Rows = np.frombuffer(inspected.probe, np.float32).reshape(-1, inspected.features)
    return found


BOOSTERS: dict[str, tuple[Callable[[], xgboost.Booster], str]] = {
    "two classes": (lambda: trained(TWO, {"objective": "binary:logistic"}), "predict_proba"),
    "three classes": (
        lambda: trained(THREE, {"objective": "multi:softprob", "num_class": 3}),
        "predict_proba",
    ),
    "margins": (lambda: trained(TWO, {"objective": "binary:logitraw"}), "predict"),
    "survival": (
        lambda: trained(np.abs(REAL) + 1, {"objective": "survival:cox"}),
        "predict",
    ),
    "named features": (
        lambda: trained(TWO, {"objective": "binary:logistic"}, feature_names=NAMES),
        "predict_proba",
    ),
    "a base margin while it was trained": (
        lambda: trained(TWO, {"objective": "binary:logistic"}, base_margin=REAL),
        "predict_proba",
    ),
}


@pytest.mark.parametrize("file", ["model.ubj", "model.json"])
@pytest.mark.parametrize("kind", BOOSTERS)
def test_the_output_of_a_booster_is_its_prediction(kind: str, file: str, tmp_path: Path) -> None:
    make, method = BOOSTERS[kind]
    booster = make()
    served = serve(tmp_path, model_file(booster, tmp_path, file), file)
    rows = xgboost.DMatrix(ROWS, feature_names=booster.feature_names)
    own = booster.predict(rows).reshape(len(ROWS), -1)
    if method == "predict_proba" and own.shape[1] == 1:
        own = np.hstack([1 - own, own])
    (scores,) = served.ask(ROWS)
    np.testing.assert_allclose(scores, own, rtol=1e-5, atol=1e-6)
    assert (served.inspected.method, served.inspected.outputs) == (method, own.shape[1])


def test_codes_of_categories_are_served(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[:, 1] = RNG.integers(0, 6, len(rows))
    kinds = ["float", "c", "float", "float"]
    matrix = xgboost.DMatrix(rows, rows[:, 1] % 2 == 0, feature_types=kinds)
    booster = xgboost.train({"objective": "binary:logistic"}, matrix, 8)
    served = serve(tmp_path, model_file(booster, tmp_path))
    (scores,) = served.ask(rows)
    np.testing.assert_allclose(scores[:, 1], booster.predict(matrix), atol=1e-6)


def names_of_categories() -> xgboost.Booster:
    frame = pd.DataFrame(ROWS, columns=NAMES).assign(
        mass=pd.Categorical(list("uds") * 166 + ["u"] * 2)
    )
    return xgboost.train({}, xgboost.DMatrix(frame, REAL, enable_categorical=True), 5)


def plain_booster_stopped_early() -> xgboost.Booster:
    model = stopped_early(TWO)
    return model.get_booster()


REFUSED: dict[str, tuple[Callable[[], Any], str, str]] = {
    "names of categories": (names_of_categories, "Categories", "mass"),
    "a plain Booster that was stopped early": (
        plain_booster_stopped_early,
        "EarlyStopping",
        "best_iteration",
    ),
    "a classifier without probabilities": (
        lambda: estimator(xgboost.XGBClassifier, TWO, objective="binary:logitraw"),
        "NoProbabilities",
        "binary:logitraw",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_model_with_ambiguous_output_is_refused(kind: str, tmp_path: Path) -> None:
    make, reason, named = REFUSED[kind]
    with pytest.raises(RefusedError, match=named) as refused:
        serve(tmp_path, model_file(make(), tmp_path))
    assert refused.value.reason == reason


def test_a_plain_booster_is_served_once_it_is_cut(tmp_path: Path) -> None:
    model = stopped_early(TWO)
    booster = model.get_booster()[: model.best_iteration + 1]
    (scores,) = serve(tmp_path, model_file(booster, tmp_path)).ask(ROWS)
    np.testing.assert_allclose(scores, model.predict_proba(ROWS), atol=1e-6)


def test_fil_gets_the_model_with_the_rounds_that_it_predicts_with(tmp_path: Path) -> None:
    model = stopped_early(THREE)
    inspected = boosters.inspect(model_file(model, tmp_path), "model.ubj", cut=True)
    cut = xgboost.Booster(model_file=bytearray(inspected.cut))
    assert cut.num_boosted_rounds() == model.best_iteration + 1 == inspected.rounds
    own = model.predict_proba(ROWS)
    np.testing.assert_allclose(cut.predict(xgboost.DMatrix(ROWS)), own, atol=1e-6)
    whole = estimator(xgboost.XGBClassifier, THREE)
    assert boosters.inspect(model_file(whole, tmp_path), "model.ubj", cut=True).cut == b""


def test_a_server_that_scores_otherwise_is_found_out(tmp_path: Path) -> None:
    model = stopped_early(TWO)
    inspected = boosters.inspect(model_file(model, tmp_path), "model.ubj", cut=False)
    rows = np.frombuffer(inspected.probe, np.float32).reshape(-1, inspected.features)
    booster = model.get_booster()
    every = booster.inplace_predict(rows)
    own = model.predict_proba(rows).astype(np.float32)
    shape = [len(rows), 2]
    assert inspected.differs(shape, own.tobytes()) == ""
    assert "row" in inspected.differs(shape, np.stack([1 - every, every], axis=1).tobytes())
    assert "shape" in inspected.differs([len(rows), 1], every.tobytes())
    swapped = own.copy()
    swapped[[0, 5]] = swapped[[5, 0]]
    assert inspected.differs(shape, swapped.tobytes())
    nothing = own.copy()
    nothing[3] = np.nan
    assert "nan" in inspected.differs(shape, nothing.tobytes())
    assert inspected.differs(shape, own.tobytes()[:-4])


def test_a_model_of_an_earlier_release_keeps_its_output(tmp_path: Path) -> None:
    booster = stopped_early(TWO).get_booster()
    old = builders.TritonModel(
        name="bdt", version="1", file="model.ubj", features=4, backend="python", parameters={}
    )
    (tmp_path / "1").mkdir()
    booster.save_model(tmp_path / "1" / "model.ubj")
    model = load(tmp_path, builders.triton_config(old))
    (scores,) = served_by(model, ROWS)
    np.testing.assert_array_equal(scores[:, 0], booster.inplace_predict(ROWS))


def test_three_classes_that_were_served_before_are_refused_not_mixed(tmp_path: Path) -> None:
    old = builders.TritonModel(
        name="bdt", version="1", file="model.ubj", features=4, backend="python", parameters={}
    )
    (tmp_path / "1").mkdir()
    estimator(xgboost.XGBClassifier, THREE).save_model(tmp_path / "1" / "model.ubj")
    model = load(tmp_path, builders.triton_config(old))
    with pytest.raises(ValueError, match="serve it again"):
        served_by(model, ROWS[:4], ROWS[4:8])


def served_by(model: Any, *requests: Rows) -> list[Rows]:
    from serving_of_models import Tensor

    responses = model.execute([Tensor("input__0", rows) for rows in requests])
    return [response.tensors[0].values for response in responses]
