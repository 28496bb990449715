"""The two models in the facility's Triton: registered ones served, or those already there."""

from collections.abc import Callable, Mapping

import coffea_shoppe as shoppe

from agc import tracking
from agc.inference import PARITIES, ServedModels, Use
from agc.samples import InputError


def used(model: str) -> Use:
    """Return what Triton has counted of a model since it was loaded."""
    found = shoppe.counts(model)
    return Use(model, found.version, found.requests, found.rows)


def serve(
    versions: Mapping[str, str], *, note: Callable[[str], None] = lambda _: None
) -> ServedModels:
    """Serve the registered models of a training, and wait until both are.

    `versions` are those of `tracking.log_training`, by parity.  Raises `FacilityError`
    with the reason where one cannot be served, `InputError` where none is registered.
    """
    if missing := [parity for parity in PARITIES if parity not in versions]:
        raise InputError(
            f"no model for {' and '.join(missing)} events is registered: is there an MLflow? "
            "Without one, score locally"
        )
    names = {}
    for parity in PARITIES:
        one = shoppe.serve(f"models:/{tracking.model_name(parity)}/{versions[parity]}", note=note)
        names[parity] = one.model
    return ServedModels(names, shoppe.triton, used)


def find(name: str) -> ServedModels:
    """Return the models NAME-even and NAME-odd that the facility serves for me.

    Raises `InputError` where one of them is not served.
    """
    mine = {one.name: one for one in shoppe.served()}
    wanted = {parity: f"{name}-{parity}" for parity in PARITIES}
    if missing := [one for one in wanted.values() if one not in mine or not mine[one].model]:
        known = ", ".join(sorted(mine)) or "none"
        raise InputError(
            f"not served: {', '.join(missing)} (yours: {known}); "
            f'coffea_shoppe.serve("models:/{missing[0]}/1") serves one'
        )
    return ServedModels({p: mine[one].model for p, one in wanted.items()}, shoppe.triton, used)
