"""Fixtures of all tests of ServiceX."""

from coffea_shoppe_servicex import isolation
from coffea_shoppe_servicex.estimate import PRELOADED
from servicex_fixtures import backend, clock, inputs, service

__all__ = ["backend", "clock", "inputs", "service"]

# As the API does before its first estimate: limits of memory are in addition to these modules.
isolation.preload(PRELOADED)
