"""The two models in the facility's Triton."""

from collections.abc import Callable, Mapping

import coffea_shoppe as shoppe

from agc import tracking
from agc.inference import PARITIES, ServedModels, Use
from agc.samples import InputError


def used(model: str) -> Use:
    """Return the use of a model since Triton loaded it."""
    use = shoppe.counts(model)
    return Use(model, use.version, use.requests, use.rows)


def serve(
    versions: Mapping[str, str], *, note: Callable[[str], None] = lambda _: None
) -> ServedModels:
    """Serve the registered models of a training, and wait until both are ready.

    `versions` are those of `tracking.log_training`, by parity.  Raises `FacilityError`
    with the reason where one cannot be served, and `InputError` where one is not registered.
    """
    if missing := [parity for parity in PARITIES if parity not in versions]:
        raise InputError(
            f"no model for {' and '.join(missing)} events is registered: is there an MLflow? "
            "Without one, score locally"
        )
    names = {}
    for parity in PARITIES:
        served = shoppe.serve(
            f"models:/{tracking.model_name(parity)}/{versions[parity]}", note=note
        )
        names[parity] = served.model
    return ServedModels(names, shoppe.triton, used)


def find(name: str) -> ServedModels:
    """Return the models NAME-even and NAME-odd that the facility serves for the user.

    Raises `InputError` where one of them is not served.
    """
    served = {model.name: model for model in shoppe.served()}
    names = {parity: f"{name}-{parity}" for parity in PARITIES}
    if missing := [
        model for model in names.values() if model not in served or not served[model].model
    ]:
        known = ", ".join(sorted(served)) or "none"
        raise InputError(
            f"not served: {', '.join(missing)} (yours: {known}); "
            f'coffea_shoppe.serve("models:/{missing[0]}/1") serves one'
        )
    return ServedModels({p: served[model].model for p, model in names.items()}, shoppe.triton, used)
