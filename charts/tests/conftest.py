"""What all tests of the charts may use."""

from chart_fixtures import manifests, render, running_mlflow

__all__ = ["manifests", "render", "running_mlflow"]

collect_ignore = ["toy"]
"""Files of a service that `test_toy_service.py` adds to a copy of the tree."""
