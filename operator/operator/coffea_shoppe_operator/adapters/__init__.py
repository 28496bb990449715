"""One adapter per service: its settings, its quota, and how an owner gets and loses it.

An adapter imports no client; it states what it needs of one as a protocol.  A module whose
`SERVICE` is a `base.Service` adds a service without further changes of the operator.
"""

import functools
import importlib
import pkgutil

from coffea_shoppe_operator.adapters.base import Service


@functools.cache
def discovered() -> dict[str, Service]:
    """Return the `SERVICE` of each module that has one, by the service's name."""
    modules = [
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
    ]
    services = [module.SERVICE for module in modules if hasattr(module, "SERVICE")]
    return {service.name: service for service in services}
