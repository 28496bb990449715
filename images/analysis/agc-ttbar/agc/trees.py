"""Boosted trees, evaluated for all candidates of an event together.

The method is QuickScorer's (Lucchese et al., SIGIR 2015, doi:10.1145/2766462.2767733).  The leaves
of a tree are bits, numbered from left to right.  A node that sends a candidate to the right
excludes the leaves on its left; of the leaves that no node excludes the first one is the
candidate's.

A feature of an event has few values: there are six jets, but 180 candidates.  So nodes are
evaluated for the values, and a candidate's leaves are what its values' bits have in common.
Scores are XGBoost's, bit for bit: the leaves are added in the same order, in single precision.
"""

import json
import logging
import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import xgboost
from numba.cpython.unsafe.numbers import trailing_zeros
from numpy.typing import NDArray

from agc.assignment import FEATURES, MAX_JETS, MIN_JETS, Features
from agc.candidates import Compiled, Floats, Ints, first_of_largest, share
from agc.compilation import compiled

Words = NDArray[np.uint64]

WORD = 64
UNITY = np.float32(1)
"""In single precision, as XGBoost computes."""
GROUPS = np.array([3, 4, 5, 6, 3, 4, 7, 7, *(0, 1, 2, 3) * 3])
"""By feature of `assignment.FEATURES`, of what it is a property: W1, W2, b_had or b_lep; the pairs
W1 W2, W1 b_had or W2 b_had; or the triple of all three."""
PAIRS, TRIPLE = 4, 7
lowest_bit: Any = trailing_zeros
"""The position of the lowest bit that is set in a word."""
CHECKED_EVENTS = 24
"""Events of random jets on which the choices are compared with XGBoost's."""
CHECKED_ROWS, MISSING = 180, 0.05
"""Rows that are compared at a time, and the share of their values that are missing."""
LEAST_BASE_SCORE = np.float32(1e-6)
"""A base score that is nearer to zero or one counts as this near."""
LARGEST_EXPONENT = np.float32(88.7)
"""Where XGBoost stops: the exponential function of more overflows in single precision."""

log = logging.getLogger(__name__)


class UnknownModelError(ValueError):
    """A model that this code cannot evaluate, and why."""


class Trees(NamedTuple):
    """The trees of a model.  Words of all trees are numbered from the first tree's on."""

    starts: Ints
    """(features + 1,): where each feature's nodes begin in the following arrays."""
    thresholds: NDArray[np.float32]
    """Of nodes, ascending: values that are not smaller go to the right."""
    words: Ints
    """The word that a node changes; a node is listed once for each."""
    masks: Words
    """The leaves that remain in that word if a value goes to the right."""
    missing_right: NDArray[np.bool_]
    """Whether a missing value (NaN) goes to the right."""
    first: Ints
    """(trees + 1,): the first word of each tree."""
    leaves: NDArray[np.float32]
    """(words * 64,): the values of the leaves."""
    all_leaves: Words
    """(words,): the leaves that exist."""
    margin: np.float32
    """To which the leaves' values are added."""


@compiled
def exclude(
    trees: Trees, feature: int, values: NDArray[np.float32], left: Words, order: Ints
) -> None:
    """Remove from `left` (values, words) the leaves that a feature's values exclude.

    `order` has room for the values' numbers: sorted, each needs only the nodes between it and
    the one before.
    """
    known = 0
    for number in range(len(values)):
        value = values[number]
        if np.isnan(value):
            for node in range(trees.starts[feature], trees.starts[feature + 1]):
                if trees.missing_right[node]:
                    left[number, trees.words[node]] &= trees.masks[node]
            continue
        place = known
        while place > 0 and values[order[place - 1]] > value:
            order[place] = order[place - 1]
            place -= 1
        order[place] = number
        known += 1
    remaining = trees.all_leaves.copy()
    node = trees.starts[feature]
    for place in range(known):
        number = order[place]
        while node < trees.starts[feature + 1] and trees.thresholds[node] <= values[number]:
            remaining[trees.words[node]] &= trees.masks[node]
            node += 1
        for word in range(len(remaining)):
            left[number, word] &= remaining[word]


@compiled
def leaf(trees: Trees, tree: int, words: Words, other_words: Words) -> Any:
    """Return the value of the first leaf of a tree that both arrays of words have."""
    word = trees.first[tree]
    common = words[word] & other_words[word]
    while common == 0:
        word += 1
        common = words[word] & other_words[word]
    return trees.leaves[WORD * word + np.int64(lowest_bit(common))]


@compiled
def probability(margin: np.float32) -> Any:
    """Return the score of a sum of leaves."""
    exponent = min(-margin, LARGEST_EXPONENT)
    return UNITY / (UNITY + np.float32(math.exp(exponent)))


@compiled
def score(trees: Trees, rows: Features) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return margin and score of each row of features, which share no values."""
    left = np.empty((len(rows), len(trees.all_leaves)), dtype=np.uint64)
    left[:] = trees.all_leaves
    order = np.empty(len(rows), dtype=np.int64)
    for feature in range(rows.shape[1]):
        exclude(trees, feature, rows[:, feature], left, order)
    margins = np.full(len(rows), trees.margin, dtype=np.float32)
    scores = np.empty(len(rows), dtype=np.float32)
    for row in range(len(rows)):
        for tree in range(len(trees.first) - 1):
            margins[row] += leaf(trees, tree, left[row], left[row])
        scores[row] = probability(margins[row])
    return margins, scores


@compiled
def choose(
    trees: Trees, events: Ints, counts: Ints, leptons: Floats, jets: Floats
) -> tuple[Ints, NDArray[np.float32]]:
    """Return each event's best candidate, the first of equal ones, and its score.

    The arguments are those of `candidates.describe`, in whose order candidates are numbered.
    """
    most = jets.shape[1]
    words = len(trees.all_leaves)
    with_lepton = np.empty((most, 2), dtype=np.float32)
    pairs = np.empty((most, most, 2), dtype=np.float32)
    triples = np.empty((most, most, most, 2), dtype=np.float32)
    pair_of = np.empty((most, most), dtype=np.int64)
    triple_of = np.empty((most, most, most), dtype=np.int64)
    largest_count = most * (most - 1) * (most - 2) // 6
    values = np.empty((len(GROUPS), largest_count), dtype=np.float32)
    order = np.empty(values.shape[1], dtype=np.int64)
    left = np.empty((TRIPLE + 1, values.shape[1], words), dtype=np.uint64)
    sizes = np.empty(len(left), dtype=np.int64)
    common = np.empty(words, dtype=np.uint64)
    best = np.empty(len(events), dtype=np.int64)
    scores = np.empty(len(events), dtype=np.float32)
    for place in range(len(events)):
        event = events[place]
        number, jet = counts[event], jets[event]
        share(number, leptons[event], jet, with_lepton, pairs, triples)
        pair_count = triple_count = 0
        for i in range(number):
            values[0, i], values[4, i] = with_lepton[i, 0], with_lepton[i, 1]
            for role in range(4):
                values[8 + role, i], values[12 + role, i] = jet[i, 0], jet[i, 7]
                values[16 + role, i] = jet[i, 8]
            for j in range(i):
                for feature in range(1, 4):
                    values[feature, pair_count] = pairs[i, j, 0]
                values[5, pair_count] = pairs[i, j, 1]
                pair_of[i, j] = pair_of[j, i] = pair_count
                pair_count += 1
                for k in range(j):
                    values[6, triple_count] = triples[i, j, k, 0]
                    values[7, triple_count] = triples[i, j, k, 1]
                    triple_of[i, j, k] = triple_of[i, k, j] = triple_of[j, k, i] = triple_count
                    triple_count += 1
        for group in range(len(left)):
            sizes[group] = number
            if group >= PAIRS:
                sizes[group] = triple_count if group == TRIPLE else pair_count
            for value in range(sizes[group]):
                for word in range(words):
                    left[group, value, word] = trees.all_leaves[word]
        for feature, group in enumerate(GROUPS):
            exclude(trees, feature, values[feature, : sizes[group]], left[group], order)
        candidate = 0
        largest = np.float32(-np.inf)
        best[place], scores[place] = 0, np.float32(-1)
        for w1 in range(number):
            for w2 in range(w1):
                for b_had in range(number):
                    if b_had in (w1, w2):
                        continue
                    first, second, third = left[0, w1], left[1, w2], left[2, b_had]
                    fourth, fifth = left[4, pair_of[w1, w2]], left[5, pair_of[w1, b_had]]
                    sixth, last = left[6, pair_of[w2, b_had]], left[7, triple_of[w1, w2, b_had]]
                    for word in range(words):
                        half = first[word] & second[word] & third[word] & fourth[word]
                        common[word] = half & fifth[word] & sixth[word] & last[word]
                    for b_lep in range(number):
                        if b_lep in (w1, w2, b_had):
                            continue
                        own = left[3, b_lep]
                        margin = trees.margin
                        for tree in range(len(trees.first) - 1):
                            margin += leaf(trees, tree, common, own)
                        if margin > largest:
                            # Different margins may have the same score, of which the first counts.
                            largest = margin
                            chance = probability(margin)
                            if chance > scores[place]:
                                best[place], scores[place] = candidate, chance
                        candidate += 1
    return best, scores


def _spans(left: list[int], right: list[int]) -> tuple[dict[int, tuple[int, int]], list[int]]:
    """Return the range of leaves below each node, and the leaves' nodes from left to right."""
    spans: dict[int, tuple[int, int]] = {}
    leaves: list[int] = []
    # Trees are deep: no recursion.  A node comes again after its children.
    waiting = [(0, False)]
    while waiting:
        node, done = waiting.pop()
        if left[node] == -1:
            spans[node] = (len(leaves), len(leaves) + 1)
            leaves.append(node)
        elif done:
            spans[node] = (spans[left[node]][0], spans[right[node]][1])
        else:
            waiting += [(node, True), (right[node], False), (left[node], False)]
    return spans, leaves


def _bits(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the words of a range of leaves, each with the bits of the range."""
    for word in range(start // WORD, (stop - 1) // WORD + 1):
        low, high = max(start - WORD * word, 0), min(stop - WORD * word, WORD)
        yield word, (1 << high) - (1 << low)


def _read(learner: dict[str, Any], margin: np.float32) -> Trees:
    """Return the trees of a model in XGBoost's format."""
    nodes: list[list[tuple[np.float32, int, int, bool]]] = [[] for _ in FEATURES]
    first, leaves, all_leaves = [0], [], []
    everything = (1 << WORD) - 1
    for tree in learner["gradient_booster"]["model"]["trees"]:
        left, value = tree["left_children"], tree["split_conditions"]
        spans, in_order = _spans(left, tree["right_children"])
        for node, child in enumerate(left):
            if child == -1:
                continue
            for word, bits in _bits(*spans[child]):
                missing_right = not tree["default_left"][node]
                entry = (np.float32(value[node]), first[-1] + word, everything ^ bits)
                nodes[tree["split_indices"][node]].append((*entry, missing_right))
        all_leaves += [bits for _, bits in _bits(0, len(in_order))]
        first.append(len(all_leaves))
        values = np.zeros(WORD * (first[-1] - first[-2]), dtype=np.float32)
        values[: len(in_order)] = [value[node] for node in in_order]
        leaves.append(values)
    ordered = [entry for of_feature in nodes for entry in sorted(of_feature)]
    thresholds, words, masks, missing = zip(*ordered, strict=True) if ordered else [()] * 4
    return Trees(
        np.cumsum([0, *map(len, nodes)]),
        np.array(thresholds, dtype=np.float32),
        np.array(words, dtype=np.int64),
        np.array(masks, dtype=np.uint64),
        np.array(missing, dtype=np.bool_),
        np.array(first, dtype=np.int64),
        np.concatenate(leaves),
        np.array(all_leaves, dtype=np.uint64),
        margin,
    )


def _random_events() -> Compiled:
    """Return events of four to six random jets, the second half with missing values."""
    rng = np.random.default_rng(1)
    shape = (CHECKED_EVENTS, MAX_JETS)
    pt, eta = 30 + rng.exponential(50, shape), rng.uniform(-2.4, 2.4, shape)
    phi, mass = rng.uniform(-np.pi, np.pi, shape), rng.uniform(3, 20, shape)
    x, y, z = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
    energy = np.sqrt(x**2 + y**2 + z**2 + mass**2)
    tag, gluon = rng.uniform(0, 1, shape), rng.uniform(-1, 1, shape)
    leading = np.stack([pt, eta, phi, x, y, z, energy, tag, gluon], axis=2)
    # The first jet is the lepton, too: the features need not be those of sane events.
    lepton = leading[:, 0, 1:7].copy()
    half = leading[CHECKED_EVENTS // 2 :]
    half[rng.random(half.shape) < MISSING] = np.nan
    jets = MIN_JETS + np.arange(CHECKED_EVENTS) % (MAX_JETS - MIN_JETS + 1)
    return Compiled(np.arange(CHECKED_EVENTS, dtype=np.uint64), jets, lepton, leading)


def _rows_at_thresholds(trees: Trees) -> Features:
    """Return rows with each threshold and the numbers next to it, and with missing values."""
    rng = np.random.default_rng(2)
    columns = []
    for start, stop in pairwise(trees.starts):
        thresholds = np.unique(trees.thresholds[start:stop])
        near = [np.nextafter(thresholds, np.float32(side)) for side in (-np.inf, np.inf)]
        values = np.concatenate([thresholds, *near, np.zeros(1, np.float32)])
        # XGBoost refuses infinite values.
        columns.append(rng.permutation(values[np.isfinite(values)]))
    rows = np.empty((max(CHECKED_ROWS, *map(len, columns)), len(columns)), dtype=np.float32)
    for feature, values in enumerate(columns):
        rows[:, feature] = np.resize(values, len(rows))
    # Rows are added for missing values, so that each threshold is there with a value.
    with_missing = rows[: 2 * CHECKED_ROWS].copy()
    with_missing[rng.random(with_missing.shape) < MISSING] = np.nan
    return np.concatenate([rows, with_missing, np.full((1, len(columns)), np.nan, np.float32)])


def _compare(booster: xgboost.Booster, trees: Trees) -> None:
    """Raise `UnknownModelError` where scores or choices are not XGBoost's."""
    events, everything = _random_events(), np.arange(CHECKED_EVENTS)
    candidates = events.features(everything)
    for name, rows in {
        "thresholds": _rows_at_thresholds(trees),
        "random events": candidates,
    }.items():
        parts = [
            score(trees, rows[start : start + CHECKED_ROWS])
            for start in range(0, len(rows), CHECKED_ROWS)
        ]
        margins, scores = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        expected = booster.inplace_predict(rows, predict_type="margin")
        for computed, reference in ((margins, expected), (scores, booster.inplace_predict(rows))):
            if not np.array_equal(computed, reference):
                different = np.count_nonzero(computed != reference)
                raise UnknownModelError(
                    f"{different} of {len(rows)} scores of rows at {name} differ from XGBoost's"
                )
    scores = booster.inplace_predict(candidates)
    starts = np.concatenate([[0], np.cumsum(events.counts)])
    first = first_of_largest(scores, starts)
    best, largest = choose(trees, everything, events.jets, events.lepton, events.leading)
    chosen = starts[:-1] + best
    if not (np.array_equal(chosen, first) and np.array_equal(largest, scores[first])):
        raise UnknownModelError("choices of random events' candidates differ from XGBoost's")


def _margin(base_score: str) -> np.float32:
    """Return the margin of a base score, which XGBoost writes as 5E-1 or [5E-1]."""
    try:
        base = np.float32(base_score.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise UnknownModelError(f"its base_score is {base_score}, not one number") from None
    # XGBoost does the same: zero and one have no margin.
    base = min(max(base, LEAST_BASE_SCORE), UNITY - LEAST_BASE_SCORE)
    return -np.float32(math.log(UNITY / base - UNITY))


def _known(learner: dict[str, Any]) -> Trees:
    """Return a model's trees; raise `UnknownModelError` where it is of another kind."""
    boosting, parameters = learner["gradient_booster"], learner["learner_model_param"]
    if boosting["name"] != "gbtree":
        raise UnknownModelError(f"its booster is {boosting['name']}, not gbtree")
    objective = learner["objective"]["name"]
    if objective != "binary:logistic":
        raise UnknownModelError(f"its objective is {objective}, not binary:logistic")
    classes, targets = int(parameters["num_class"]), int(parameters.get("num_target", 1))
    if classes > 1 or targets > 1:
        raise UnknownModelError(f"it has {classes} classes and {targets} targets, not two and one")
    if int(parameters["num_feature"]) != len(FEATURES):
        raise UnknownModelError(
            f"it takes {parameters['num_feature']} features, not {len(FEATURES)}"
        )
    trees = boosting["model"]["trees"]
    if not trees:
        raise UnknownModelError("it has no trees")
    if any(any(tree["split_type"]) or tree["categories"] for tree in trees):
        raise UnknownModelError("it splits by categories")
    return _read(learner, _margin(str(parameters["base_score"])))


def trees_of(booster: xgboost.Booster) -> Trees | None:
    """Return the trees of a model; None where they do not score exactly as XGBoost does.

    These are models that are not trees of numbers for two classes, or of a format that this
    code does not know.  All scores and choices are compared on random events, and on rows with
    missing values and with the values at and next to each threshold.  The reason for None is
    logged.
    """
    try:
        learner = json.loads(booster.save_raw("json"))["learner"]
        trees = _known(learner)
        _compare(booster, trees)
    except UnknownModelError as error:
        reason = str(error)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"its format is unknown ({type(error).__name__}: {error})"
    else:
        return trees
    log.warning("XGBoost itself scores a model, which takes longer: %s", reason)
    return None
