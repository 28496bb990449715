"""The badge of a release: an SVG with a title, and the JSON that badge services read."""

import json
from html import escape
from pathlib import Path

from shoppe_ci.gate.hops import ABSENT
from shoppe_ci.gate.record import Record, verified

SVG, ENDPOINT = "badge.svg", "badge.json"
GREEN, RED = "#2e7d32", "#c62828"
CHARACTER_WIDTH = 6.6
"""Of the font at 11 px, in px; texts are stretched to it, so that any font fits."""
PADDING = 10
HEIGHT = 20


def texts(record: Record) -> tuple[str, str]:
    """Return the badge's label and message."""
    label = f"coffea-shoppe {record.version}"
    if record.passed:
        crossed = [hop for hop in record.hops if hop.state != ABSENT]
        return label, f"AGC crosses {len(crossed)} of {len(record.hops)} services"
    return label, f"broken: {record.broken or 'run'}"


def svg(label: str, message: str, color: str) -> str:
    """Return a badge of two fields, with its text as the title for screen readers."""
    widths = [round(len(text) * CHARACTER_WIDTH) + PADDING for text in (label, message)]
    title = escape(f"{label}: {message}")
    fields, start = [], 0
    for text, width, fill in zip((label, message), widths, ("#444", color), strict=True):
        fields.append(
            f'<rect x="{start}" width="{width}" height="{HEIGHT}" fill="{fill}"/>'
            f'<text x="{start + width / 2}" y="14" textLength="{width - PADDING}">'
            f"{escape(text)}</text>"
        )
        start += width
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{start}" height="{HEIGHT}" '
        f'role="img" aria-label="{title}"><title>{title}</title>'
        '<g fill="#fff" text-anchor="middle" font-size="11" '
        f'font-family="Verdana,DejaVu Sans,sans-serif">{"".join(fields)}</g></svg>\n'
    )


def of(record: Record) -> str:
    """Return a record's badge as SVG."""
    return svg(*texts(record), GREEN if record.passed else RED)


def endpoint(label: str, message: str, color: str) -> dict[str, str | int]:
    """Return the four keys that badge services read from an address."""
    return {"schemaVersion": 1, "label": label, "message": message, "color": color}


def write(folder: Path) -> list[Path]:
    """Write the badge of a gate's record, after recomputing all digests; return its files.

    Raises `ShoppeError` if the record does not match its files, or its evidence is not the
    services' own.
    """
    record = verified(folder)
    paths = [folder / SVG, folder / ENDPOINT]
    paths[0].write_text(of(record))
    content = endpoint(*texts(record), GREEN if record.passed else RED)
    paths[1].write_text(json.dumps(content, indent=2) + "\n")
    return paths
