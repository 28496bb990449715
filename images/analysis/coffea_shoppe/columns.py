"""What a delivery of columns will cost, before it is asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from coffea_shoppe.connections import TIMEOUT_S, ask


@dataclass(frozen=True)
class Estimate:
    """What a delivery will cost."""

    files: int
    events: int
    read: int
    """Bytes of the files' columns, compressed."""
    output: int
    """Bytes of the results."""
    seconds: float
    """With all transformers at work on it."""
    basis: str
    """What time and output are known from."""

    def __str__(self) -> str:
        size = f"{self.read / 1e6:,.1f} MB read, {self.output / 1e6:,.1f} MB delivered"
        head = f"{self.files:,} files, {self.events:,} events: {size}"
        return f"{head}, about {self.seconds:,.0f} s ({self.basis})"

    __repr__ = __str__


def estimate(files: Iterable[str], query: Any, *, codegen: str = "") -> Estimate:
    """Return what a delivery will cost; some of the files are looked into.

    `query` is one of the ServiceX client's (`servicex.query`), or the text of a selection
    with its `codegen`.  Raises `FacilityError` with ServiceX's words where it would be
    refused.
    """
    text = query if isinstance(query, str) else query.generate_selection_string()
    body = {
        "file-list": list(files),
        "selection": text,
        "codegen": codegen or query.default_codegen,
        "result-format": "parquet",
    }
    found = ask(
        "servicex",
        "POST",
        "/servicex/estimate",
        name="ServiceX",
        json=body,
        timeout=2 * TIMEOUT_S,
    )
    return Estimate(**{name: found[name] for name in Estimate.__dataclass_fields__})
