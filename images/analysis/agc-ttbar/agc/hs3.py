"""Export of the statistical model to HS3, the common format of the field's fitting tools.

Source: https://hep-statistics-serialization-standard.github.io.  No library converts pyhf's
JSON to HS3 yet, so this module does, for the modifiers that cabinetry creates.
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
    """Return a name that every tool accepts: letters, digits and underscores."""
    return re.sub(r"\W+", "_", label).strip("_")


def _modifier(modifier: Mapping[str, Any], bins: int) -> dict[str, Any]:
    """Return a modifier in HS3's form; raises `ValueError` for an unknown type."""
    kind, data, name = modifier["type"], modifier["data"], named(modifier["name"])
    result: dict[str, Any] = {"name": name, "type": kind}
    if kind == "normfactor":
        return result | {"parameter": name}
    result["constraint"] = "Gauss"
    if kind == "normsys":
        return result | {"parameter": name, "data": {"hi": data["hi"], "lo": data["lo"]}}
    if kind == "histosys":
        hi, lo = ({"contents": data[f"{side}_data"]} for side in ("hi", "lo"))
        return result | {"parameter": name, "data": {"hi": hi, "lo": lo}}
    if kind == "staterror":
        return result | {"parameters": [f"{name}_{number}" for number in range(bins)]}
    raise ValueError(f"{modifier['name']}: the modifier {kind!r} is not known here")


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    contents, modifiers = sample["data"], sample["modifiers"]
    errors = next((m["data"] for m in modifiers if m["type"] == "staterror"), [0.0] * len(contents))
    return {
        "name": named(sample["name"]),
        "data": {"contents": contents, "errors": errors},
        "modifiers": [_modifier(modifier, len(contents)) for modifier in modifiers],
    }


def document(
    workspace: Mapping[str, Any],
    axes: Mapping[str, Mapping[str, Any]],
    *,
    fitted: Mapping[str, float],
) -> dict[str, Any]:
    """Return an HS3 document of a HistFactory workspace (pyhf's JSON).

    `axes` are the channels' axes in HS3's form (name and edges), `fitted` the parameters' best
    values by cabinetry's labels, which become a second parameter point beside the nominal one.
    Raises `ValueError` for modifiers that are not known here.
    """
    (measurement,) = workspace["measurements"]
    poi = measurement["config"]["poi"]
    free = {entry["name"]: entry for entry in measurement["config"]["parameters"]}
    distributions: list[dict[str, Any]] = []
    nominal: dict[str, float] = {}
    bounds: dict[str, tuple[float, float]] = {}
    for channel in workspace["channels"]:
        label = channel["name"]
        samples = [_sample(sample) for sample in channel["samples"]]
        kind = {"type": "histfactory_dist", "name": named(label)}
        distributions.append({**kind, "axes": [dict(axes[label])], "samples": samples})
        for modifier in (entry for sample in samples for entry in sample["modifiers"]):
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
        raise ValueError(f"the fit and the model have different parameters: {odd}")
    data = [
        {
            "type": "binned",
            "name": f"{named(observation['name'])}_data",
            "axes": [dict(axes[observation["name"]])],
            "contents": observation["data"],
        }
        for observation in workspace["observations"]
    ]
    limits = [{"name": name, "min": low, "max": high} for name, (low, high) in bounds.items()]
    return {
        "metadata": {
            "hs3_version": VERSION,
            "packages": [{"name": "coffea-shoppe-agc", "version": version("coffea-shoppe-agc")}],
        },
        "distributions": distributions,
        "data": data,
        "likelihoods": [
            {
                "name": LIKELIHOOD,
                "distributions": [entry["name"] for entry in distributions],
                "data": [f"{entry['name']}_data" for entry in distributions],
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
    """Return an axis in HS3's form: by its number of bins where all have the same width."""
    edges = np.asarray(edges, dtype=float)
    if np.allclose(np.diff(edges), edges[1] - edges[0]):
        return {
            "name": name,
            "min": float(edges[0]),
            "max": float(edges[-1]),
            "nbins": len(edges) - 1,
        }
    return {"name": name, "edges": edges.tolist()}
