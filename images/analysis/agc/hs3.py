"""The statistical model in HS3's form, the common one of the field's fitting tools.

HistFactory's words and those of HS3 (https://hep-statistics-serialization-standard.github.io)
say the same.  The libraries that know HS3 read it and do not make it of pyhf's JSON, so
this does, for the modifiers that cabinetry makes.
"""

import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import numpy as np

VERSION = "0.2"
LIKELIHOOD, DOMAIN, NOMINAL, FITTED = "likelihood", "parameters", "nominal", "fitted"
NUISANCE = (-5.0, 5.0)
STATISTICS = (1e-10, 10.0)
"""Bounds of the parameters of systematic uncertainties and of bins' statistics, as pyhf's."""


def named(label: str) -> str:
    """Return a name that every tool takes: letters, digits and underscores."""
    return re.sub(r"\W+", "_", label).strip("_")


def _modifier(modifier: Mapping[str, Any], bins: int) -> dict[str, Any]:
    """Return a modifier in HS3's words; raises `ValueError` for a type that is not known here."""
    kind, data, name = modifier["type"], modifier["data"], named(modifier["name"])
    told: dict[str, Any] = {"name": name, "type": kind}
    if kind == "normfactor":
        return told | {"parameter": name}
    told["constraint"] = "Gauss"
    if kind == "normsys":
        return told | {"parameter": name, "data": {"hi": data["hi"], "lo": data["lo"]}}
    if kind == "histosys":
        hi, lo = ({"contents": data[f"{side}_data"]} for side in ("hi", "lo"))
        return told | {"parameter": name, "data": {"hi": hi, "lo": lo}}
    if kind == "staterror":
        return told | {"parameters": [f"{name}_{number}" for number in range(bins)]}
    raise ValueError(f"{modifier['name']}: a modifier {kind!r} is not known here")


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    contents, modifiers = sample["data"], sample["modifiers"]
    errors = next((m["data"] for m in modifiers if m["type"] == "staterror"), [0.0] * len(contents))
    return {
        "name": named(sample["name"]),
        "data": {"contents": contents, "errors": errors},
        "modifiers": [_modifier(one, len(contents)) for one in modifiers],
    }


def document(
    whole: Mapping[str, Any],
    axes: Mapping[str, Mapping[str, Any]],
    *,
    fitted: Mapping[str, float],
) -> dict[str, Any]:
    """Return an HS3 document of a HistFactory workspace (pyhf's JSON).

    `axes` are the channels' axes in HS3's words (name and edges), `fitted` the
    parameters' best values by cabinetry's labels, which become a second parameter point
    beside the nominal one.  Raises `ValueError` for what HS3 would hold and this does not.
    """
    (measurement,) = whole["measurements"]
    poi = measurement["config"]["poi"]
    free = {one["name"]: one for one in measurement["config"]["parameters"]}
    distributions: list[dict[str, Any]] = []
    nominal: dict[str, float] = {}
    bounds: dict[str, tuple[float, float]] = {}
    for channel in whole["channels"]:
        label = channel["name"]
        samples = [_sample(sample) for sample in channel["samples"]]
        kind = {"type": "histfactory_dist", "name": named(label)}
        distributions.append({**kind, "axes": [dict(axes[label])], "samples": samples})
        for modifier in (one for sample in samples for one in sample["modifiers"]):
            if "parameters" in modifier:
                nominal |= dict.fromkeys(modifier["parameters"], 1.0)
                bounds |= dict.fromkeys(modifier["parameters"], STATISTICS)
            elif modifier["type"] == "normfactor":
                own = free[modifier["parameter"]]
                nominal[modifier["parameter"]] = float(own["inits"][0])
                bounds[modifier["parameter"]] = tuple(own["bounds"][0])
            else:
                nominal[modifier["parameter"]] = 0.0
                bounds[modifier["parameter"]] = NUISANCE
    best = {named(label): value for label, value in fitted.items()}
    if best.keys() != nominal.keys():
        odd = ", ".join(sorted(best.keys() ^ nominal.keys()))
        raise ValueError(f"the fit and the model have other parameters: {odd}")
    data = [
        {
            "type": "binned",
            "name": f"{named(one['name'])}_data",
            "axes": [dict(axes[one["name"]])],
            "contents": one["data"],
        }
        for one in whole["observations"]
    ]
    limits = [{"name": name, "min": low, "max": high} for name, (low, high) in bounds.items()]
    return {
        "metadata": {
            "hs3_version": VERSION,
            "packages": [{"name": "coffea-shoppe", "version": version("coffea-shoppe")}],
        },
        "distributions": distributions,
        "data": data,
        "likelihoods": [
            {
                "name": LIKELIHOOD,
                "distributions": [one["name"] for one in distributions],
                "data": [f"{one['name']}_data" for one in distributions],
            }
        ],
        "domains": [{"type": "product_domain", "name": DOMAIN, "axes": limits}],
        "parameter_points": [
            {"name": name, "parameters": [{"name": key, "value": v} for key, v in point.items()]}
            for name, point in ((NOMINAL, nominal), (FITTED, best))
        ],
        "analyses": [
            {
                "name": measurement["name"],
                "likelihood": LIKELIHOOD,
                "domains": [DOMAIN],
                "parameters_of_interest": [named(poi)],
                "init": NOMINAL,
            }
        ],
    }


def axis(name: str, edges: Any) -> dict[str, Any]:
    """Return an axis in HS3's words: by its number of bins where all are equally wide."""
    edges = np.asarray(edges, dtype=float)
    if np.allclose(np.diff(edges), edges[1] - edges[0]):
        return {
            "name": name,
            "min": float(edges[0]),
            "max": float(edges[-1]),
            "nbins": len(edges) - 1,
        }
    return {"name": name, "edges": edges.tolist()}
