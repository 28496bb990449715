"""What a delivery of columns will cost, before it is asked for."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import requests

from coffea_shoppe.connections import TIMEOUT_S, FacilityError, connections, token


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
    address = connections().get("servicex", "")
    if not address:
        raise FacilityError("this facility has no ServiceX: ask its operators")
    text = query if isinstance(query, str) else query.generate_selection_string()
    body = {
        "file-list": list(files),
        "selection": text,
        "codegen": codegen or query.default_codegen,
        "result-format": "parquet",
    }
    try:
        answer = requests.post(
            f"{address.rstrip('/')}/servicex/estimate",
            json=body,
            headers={"Authorization": f"Bearer {token('servicex')}"},
            timeout=2 * TIMEOUT_S,
        )
        found = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise FacilityError(
            f"ServiceX at {address} does not answer ({type(error).__name__}); "
            "try again in a minute, then tell the facility's operators"
        ) from error
    if not answer.ok:
        raise FacilityError(f"ServiceX refused: {found.get('message', answer.status_code)}")
    return Estimate(**{name: found[name] for name in Estimate.__dataclass_fields__})
