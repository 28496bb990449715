"""Inspects an XGBoost model: its properties, and its own scores of probe rows.

    python -m coffea_shoppe_operator.inspection model.ubj

reads a model from its standard input and writes `boosters.Inspected` as JSON, or
`{"reason": …, "refused": …}`.  A user's file is parsed in this process only, which has
neither keys nor tokens: its parent passes no environment, and it gives up access to files
and the network before it reads.  Where the kernel cannot take them away, it reads nothing, unless
`--unconfined` permits it.  The scores are the oracle for a server's, because they
are computed differently (`Booster.predict` on a DMatrix).
"""

import argparse
import base64
import json
import resource
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import xgboost
from coffea_shoppe_contract.confinement import UNSUPPORTED, confine
from numpy.typing import NDArray

MEMORY = 2**30
"""Memory limit of the process in bytes."""
CPU_S = 30
ROWS = 64
"""Number of rows of a probe."""
SAMPLED_TREES = 100
"""Number of trees from which thresholds are taken."""
BATCH_ROUNDS = 20
"""Number of rounds whose trees are in memory at once."""

PROBABILITIES = ("binary:logistic", "binary:hinge", "multi:softprob", "multi:softmax")
"""Objectives of classifiers."""

REMEDY = (
    "run the operator on nodes with Landlock, or set operator.triton.requireLandlock to false: "
    "then users' models are read with access to the operator's keys"
)
BROKEN = (xgboost.core.XGBoostError, ValueError, KeyError, IndexError, TypeError)
"""Errors that XGBoost raises for a file that is not a model, or a damaged one."""

Rows = NDArray[np.float32]


class RefusedError(Exception):
    """A model that cannot be served; the text says why."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def method_of(booster: xgboost.Booster, objective: str) -> str:
    """Return the method of scikit-learn that the scores are of; raises `RefusedError`.

    Source: xgboost.sklearn, `XGBClassifier.predict_proba`.
    """
    estimator = json.loads(booster.attr("scikit_learn") or "{}").get("_estimator_type")
    if objective in PROBABILITIES:
        return "predict_proba"
    if estimator != "classifier":
        return "predict"
    if objective == "reg:logistic":
        return "predict_proba"
    raise RefusedError(
        "NoProbabilities",
        f"a classifier with the objective {objective} has no probabilities: train it with "
        "binary:logistic or multi:softprob, or serve its Booster",
    )


def rounds_of(booster: xgboost.Booster) -> int:
    """Return the number of rounds that a prediction uses; raises `RefusedError` if ambiguous.

    Source: xgboost.sklearn, `XGBModel._get_iteration_range`.
    """
    trained = booster.num_boosted_rounds()
    best = booster.attr("best_iteration")
    if best is None or int(best) + 1 >= trained:
        return trained
    if booster.attr("scikit_learn") is None:
        raise RefusedError(
            "EarlyStopping",
            f"training stopped early: round {int(best) + 1} of {trained} was the best, and a "
            "plain Booster predicts with all of them; log booster[:booster.best_iteration + 1], "
            "or booster[:] to keep all",
        )
    return int(best) + 1


def refuse_categories(booster: xgboost.Booster) -> None:
    """Raise `RefusedError` if columns contain names of categories: requests contain numbers."""
    if not booster.get_categories().empty():
        names = booster.feature_names or []
        kinds = booster.feature_types or []
        named = [name for name, kind in zip(names, kinds, strict=True) if kind == "c"]
        raise RefusedError(
            "Categories",
            f"columns contain category names ({', '.join(named)}), but requests contain numbers: "
            "train the model with the categories' codes (feature_types 'c')",
        )


def trees_of(booster: xgboost.Booster, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield the trees of the first rounds in XGBoost's JSON form, `BATCH_ROUNDS` in memory."""
    for first in range(0, rounds, BATCH_ROUNDS):
        batch = booster[first : min(first + BATCH_ROUNDS, rounds)]
        model = json.loads(batch.save_raw("json"))["learner"]["gradient_booster"]
        yield from model.get("gbtree", model)["model"]["trees"]


def refuse_broken(tree: dict[str, Any], features: int) -> None:
    """Raise `RefusedError` where a tree has a cycle, or splits on a missing column.

    XGBoost does not check either when it reads a file; scoring such a tree hangs or crashes
    the server.
    """
    children = np.stack([tree["left_children"], tree["right_children"]])
    count = children.shape[1]
    inner = children[0] != -1
    below = children[:, inner].ravel()
    once = np.unique(below).size == below.size
    inside = count > 0 and bool(np.all((below > 0) & (below < count)))
    split = np.array(tree["split_indices"])[inner]
    columns_exist = bool(np.all((split >= 0) & (split < features)))
    if not (once and inside and columns_exist):
        raise RefusedError("NoModel", "a tree of the model is damaged; log it again")


def thresholds(tree: dict[str, Any]) -> Iterator[tuple[int, Rows]]:
    """Yield each feature that a tree splits on, and the thresholds of the splits."""
    inner = np.array(tree["left_children"]) != -1
    numeric = inner & (np.array(tree["split_type"]) == 0)
    features = np.array(tree["split_indices"])[numeric]
    values = np.array(tree["split_conditions"], np.float32)[numeric]
    for feature in np.unique(features):
        yield int(feature), values[features == feature]


def probe(booster: xgboost.Booster, rounds: int) -> Rows:
    """Return rows at, just below and just above the thresholds, some values missing.

    Raises `RefusedError` where a tree is damaged.
    """
    rng = np.random.default_rng(0)
    count = booster.num_features()
    rows = rng.normal(size=(ROWS, count)).astype(np.float32)
    for feature, kind in enumerate(booster.feature_types or ()):
        if kind == "c":
            rows[:, feature] = rng.integers(0, 8, ROWS)
    thresholds_of: dict[int, list[Rows]] = {}
    for number, tree in enumerate(trees_of(booster, rounds)):
        refuse_broken(tree, count)
        if number < SAMPLED_TREES:
            for feature, values in thresholds(tree):
                thresholds_of.setdefault(feature, []).append(values)
    for feature, parts in thresholds_of.items():
        chosen = rng.choice(np.concatenate(parts), ROWS)
        towards = rng.choice(np.array([-np.inf, np.inf, np.nan], np.float32), ROWS)
        near = np.nextafter(chosen, towards)
        rows[:, feature] = np.where(np.isnan(towards), chosen, near)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[0], rows[1] = 0, np.nan
    return rows


def scores_of(
    booster: xgboost.Booster, rows: Rows, *, method: str, objective: str, rounds: int
) -> Rows:
    """Return the model's own scores: (rows, outputs)."""
    matrix = xgboost.DMatrix(
        rows,
        feature_names=booster.feature_names,
        feature_types=booster.feature_types,
        enable_categorical=True,
        nthread=1,
    )
    margin = objective == "multi:softmax"
    scores: Rows = booster.predict(
        matrix, iteration_range=(0, rounds), output_margin=margin, strict_shape=True
    )
    if scores.ndim != 2:
        raise RefusedError(
            "Shape", f"its scores have {scores.ndim - 1} dimensions per row; one is supported"
        )
    if method == "predict":
        return scores
    if margin:
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares: Rows = powers / powers.sum(axis=1, keepdims=True)
        return shares
    # One column is the probability of the second class; several are of classes or labels.
    return np.hstack([1 - scores, scores]) if scores.shape[1] == 1 else scores


def inspect(content: bytes, file: str, *, cut: bool) -> dict[str, Any]:
    """Return a model's properties, a probe, and the scores of it; raises `RefusedError`.

    With `cut` also the model truncated to the rounds that a prediction uses, if it has more.
    """
    try:
        booster = xgboost.Booster({"nthread": 1}, model_file=bytearray(content))
        learner = json.loads(booster.save_config())["learner"]
    except BROKEN as error:
        raise RefusedError("NoModel", f"XGBoost cannot read it: {_first_line(error)}") from error
    try:
        return _describe(booster, learner, form=file.partition(".")[2], cut=cut)
    except BROKEN as error:
        raise RefusedError("NoScores", f"XGBoost cannot predict: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    """Return the first line of an error; XGBoost appends a stack trace."""
    return str(error).strip().partition("\n")[0][-300:]


def _describe(
    booster: xgboost.Booster, learner: dict[str, Any], *, form: str, cut: bool
) -> dict[str, Any]:
    objective = learner["objective"]["name"]
    method, rounds = method_of(booster, objective), 0
    if learner["gradient_booster"]["name"] != "gblinear":
        rounds = rounds_of(booster)
        refuse_categories(booster)
    rows = probe(booster, rounds)
    scores = scores_of(booster, rows, method=method, objective=objective, rounds=rounds)
    shorter = cut and 0 < rounds < booster.num_boosted_rounds()
    truncated = booster[:rounds].save_raw(form) if shorter else b""
    return {
        "method": method,
        "objective": objective,
        "outputs": scores.shape[1],
        "rounds": rounds,
        "features": booster.num_features(),
        "names": booster.feature_names or [],
        "rows": len(rows),
        "probe": base64.b64encode(rows.tobytes()).decode(),
        "scores": base64.b64encode(scores.astype(np.float32).tobytes()).decode(),
        "cut": base64.b64encode(truncated).decode(),
    }


def warm_up() -> None:
    """Make XGBoost import its lazy modules, which a confined process cannot."""
    rows = np.zeros((2, 1), np.float32)
    booster = xgboost.train({"nthread": 1}, xgboost.DMatrix(rows, rows[:, 0]), 1)
    inspect(bytes(booster.save_raw("ubj")), "model.ubj", cut=True)


def main() -> None:
    """Inspect one model."""
    parser = argparse.ArgumentParser(description="Inspects an XGBoost model.")
    parser.add_argument("file", choices=["model.ubj", "model.json"])
    parser.add_argument("--cut", action="store_true")
    parser.add_argument("--unconfined", action="store_true")
    options = parser.parse_args()
    limits = {resource.RLIMIT_AS: MEMORY, resource.RLIMIT_CPU: CPU_S, resource.RLIMIT_CORE: 0}
    for limited, most in limits.items():
        resource.setrlimit(limited, (most, most))
    warm_up()
    try:
        if not confine() and not options.unconfined:
            raise RefusedError("NotConfined", f"the model is not read: {UNSUPPORTED}; {REMEDY}")
        report = inspect(sys.stdin.buffer.read(), options.file, cut=options.cut)
    except RefusedError as error:
        report = {"reason": error.reason, "refused": str(error)}
    except MemoryError:
        text = f"reading the model takes more than {MEMORY // 2**20} MiB"
        report = {"reason": "TooLarge", "refused": text}
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
