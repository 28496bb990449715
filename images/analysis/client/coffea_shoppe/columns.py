"""The cost of a delivery of columns, estimated before it is requested."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from coffea_shoppe.connections import TIMEOUT_S, request_json


@dataclass(frozen=True)
class Estimate:
    """The cost of a delivery."""

    files: int
    events: int
    read: int
    """Bytes of the files' columns, compressed."""
    output: int
    """Bytes of the results."""
    seconds: float
    """Wall time, with all transformers working on it."""
    basis: str
    """What the time and the size of the output are estimated from."""

    def __str__(self) -> str:
        size = f"{self.read / 1e6:,.1f} MB read, {self.output / 1e6:,.1f} MB delivered"
        head = f"{self.files:,} files, {self.events:,} events: {size}"
        return f"{head}, about {self.seconds:,.0f} s ({self.basis})"

    __repr__ = __str__


def estimate(files: Iterable[str], query: Any, *, codegen: str = "") -> Estimate:
    """Return the cost of a delivery; ServiceX opens some of the files for that.

    `query` is a query of the ServiceX client (`servicex.query`), or the text of a selection
    with its `codegen`.  Raises `TypeError` for anything else, and `FacilityError` with
    ServiceX's message if it would refuse the request.
    """
    if isinstance(query, str):
        if not codegen:
            raise TypeError(
                "estimate: codegen is missing, which a selection given as text needs, "
                "such as 'uproot-raw'"
            )
        text = query
    elif hasattr(query, "generate_selection_string"):
        text, codegen = query.generate_selection_string(), codegen or query.default_codegen
    else:
        raise TypeError(
            f"estimate: query is a {type(query).__name__}; give a query of the ServiceX client, "
            "such as servicex.query.UprootRaw(...)"
        )
    body = {
        "file-list": list(files),
        "selection": text,
        "codegen": codegen,
        "result-format": "parquet",
    }
    response = request_json(
        "servicex",
        "POST",
        "/servicex/estimate",
        name="ServiceX",
        json=body,
        timeout=2 * TIMEOUT_S,
    )
    return Estimate(**{name: response[name] for name in Estimate.__dataclass_fields__})
