"""A library that is not installed is named with the extra that brings it."""

import importlib
import sys

import pytest
from coffea_shoppe import MissingExtraError
from coffea_shoppe.extras import extra


def test_the_extra_of_a_missing_library_is_named() -> None:
    with (
        pytest.raises(MissingExtraError, match=r"f\(\) needs nowhere: pip install .*\[s3\]"),
        extra("s3", user="f()"),
    ):
        importlib.import_module("nowhere")


def test_a_library_that_is_installed_is_imported() -> None:
    with extra("s3", user="f()"):
        import json
    assert json is sys.modules["json"]
