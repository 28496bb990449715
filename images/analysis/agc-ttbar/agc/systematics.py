"""Systematic variations: of jets' transverse momenta, and of event weights."""

from functools import cache
from typing import Any

import awkward as ak
import correctionlib
import numpy as np
from correctionlib import schemav2 as schema
from numpy.typing import NDArray

from agc.draws import normal
from agc.samples import InputError

JET_SCALE = 1.03
JET_RESOLUTION = 0.05

KINEMATIC = ("nominal", "pt_scale_up", "pt_res_up")
"""The passes over jets; all others vary the weight of the nominal pass."""

BTAG_JETS = 4
DIRECTIONS = ("up", "down")


def event_numbers(events: ak.Array, first: int | None = None) -> ak.Array:
    """Return run, block and number of events, which `draws` takes.

    The block is the luminosity block.  Where files have none it is the event's entry in its
    file; `first` is the entry of the first event.  Raises `InputError` where neither is known.
    """
    if "luminosityBlock" in events.fields:
        block = events.luminosityBlock
    elif first is not None:
        block = np.arange(first, first + len(events))
    else:
        raise InputError(
            "the events have no luminosityBlock, and their entries in the file are not known: "
            "read the files directly"
        )
    return ak.zip({"run": events.run, "block": block, "event": events.event})


def draws(events: ak.Array, position: ak.Array) -> ak.Array:
    """Return each jet's number from N(0, 1), by which `pt_res_up` smears it.

    `events` are `event_numbers`, `position` the jets' positions in their events.
    """
    run, block, event = (
        np.asarray(ak.flatten(ak.broadcast_arrays(events[name], position)[0]))
        for name in ("run", "block", "event")
    )
    drawn = normal(run, block, event, np.asarray(ak.flatten(position)))
    return ak.unflatten(drawn, ak.num(position))


def jet_pt(pt: Any, variation: str, drawn: Any = None) -> Any:
    """Return jets' transverse momenta (GeV) under a kinematic variation.

    `pt_res_up` smears each jet by a factor from N(1, 0.05), in float64; it needs `draws`.  Both
    arrays are of awkward, or both of NumPy.
    """
    if variation == "nominal":
        return pt
    if variation == "pt_scale_up":
        return pt * np.float32(JET_SCALE)
    if variation == "pt_res_up" and drawn is not None:
        return pt * (1 + JET_RESOLUTION * drawn)
    raise ValueError(f"unknown kinematic variation {variation!r}; there are {KINEMATIC}")


@cache
def corrections() -> correctionlib.highlevel.CorrectionSet:
    """Return the weights as a correction set with the correction `event_systematics`.

    Its inputs are the variation's name, the direction, and one jet's transverse
    momentum in GeV; unknown variations have weight one.
    """

    def slope(sign: str) -> schema.Formula:
        return schema.Formula(
            nodetype="formula",
            expression=f"1.0 {sign} 0.075 * x / 50.0",
            parser="TFormula",
            variables=["pt"],
        )

    def directions(up: object, down: object) -> dict[str, object]:
        content = [{"key": "up", "value": up}, {"key": "down", "value": down}]
        return {"nodetype": "category", "input": "direction", "content": content, "default": 1.0}

    content = [{"key": "scale_var", "value": directions(1.025, 0.975)}]
    content.append({"key": "btag_var", "value": directions(slope("+"), slope("-"))})
    correction = schema.Correction(
        name="event_systematics",
        version=1,
        inputs=[
            schema.Variable(name="syst_name", type="string"),
            schema.Variable(name="direction", type="string"),
            schema.Variable(name="pt", type="real"),
        ],
        output=schema.Variable(name="weight", type="real"),
        data=schema.Category.model_validate(
            {"nodetype": "category", "input": "syst_name", "content": content, "default": 1.0}
        ),
    )
    corrections_set = schema.CorrectionSet(schema_version=2, corrections=[correction])
    return correctionlib.CorrectionSet.from_string(corrections_set.model_dump_json())


def weight_variations(
    process: str, leading_pt: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return the factors on the events' weights by variation.

    `leading_pt` (events, 4) has the transverse momenta (GeV) of each event's first selected
    jets.  W+jets has a scale variation, too.
    """
    evaluate = corrections()["event_systematics"].evaluate
    factors = {}
    for jet in range(BTAG_JETS):
        pt = np.ascontiguousarray(leading_pt[:, jet])
        for direction in DIRECTIONS:
            factors[f"btag_var_{jet}_{direction}"] = evaluate("btag_var", direction, pt)
    if process == "wjets":
        for direction in DIRECTIONS:
            factor = evaluate("scale_var", direction, 0.0)
            factors[f"scale_var_{direction}"] = np.full(len(leading_pt), factor)
    return factors
