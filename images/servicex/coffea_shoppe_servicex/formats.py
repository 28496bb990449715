"""The formats of results."""

from typing import Literal

Format = Literal["parquet", "root-file", "root-rntuple"]
"""What a request's `result-format` may be."""
SUFFIXES: dict[str, str] = {
    "parquet": ".parquet",
    "root-file": ".root",
    "root-rntuple": ".root",
}
"""Suffix of a result's object name."""
