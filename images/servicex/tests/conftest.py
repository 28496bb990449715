"""Fixtures of all tests of ServiceX."""

from servicex_fixtures import backend, clock, inputs, service

__all__ = ["backend", "clock", "inputs", "service"]
