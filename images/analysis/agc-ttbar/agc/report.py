"""Time and resources of a run, as JSON and as an HTML page.

The JSON uses the AGC's own name of a quantity where it has one (`walltime`,
`num_workers`, `entries`, `bytesread`, `processtime`, `chunksize`).
"""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from agc import histograms
from agc.run import Report

Rows = Sequence[tuple[str, ...]]


@dataclass(frozen=True)
class Share:
    """Sums over the chunks of one sample, or on one worker."""

    name: str
    chunks: int
    events: int
    wall: float
    """Seconds, summed over the chunks."""
    cpu: float

    @property
    def rate(self) -> float:
        """Return the events per second of processing."""
        return self.events / self.wall if self.wall else 0.0


def shares(report: Report, key: Callable[[Any], str]) -> list[Share]:
    """Return the sums over the chunks with the same key, sorted by key."""
    sums = []
    for name in sorted({key(chunk) for chunk in report.chunks}):
        chunks = [chunk for chunk in report.chunks if key(chunk) == name]
        events = sum(chunk.events for chunk in chunks)
        wall = sum(chunk.stop - chunk.start for chunk in chunks)
        sums.append(Share(name, len(chunks), events, wall, sum(chunk.cpu for chunk in chunks)))
    return sums


def busy(report: Report) -> float:
    """Return the share of the workers' time in which they processed chunks."""
    total = sum(chunk.stop - chunk.start for chunk in report.chunks)
    return total / (report.seconds * report.workers) if report.seconds else 0.0


def as_json(report: Report) -> dict[str, Any]:
    """Return time, resources and yields of a run."""
    return {
        "walltime": report.seconds,
        "processtime": sum(chunk.stop - chunk.start for chunk in report.chunks),
        "cputime": sum(chunk.cpu for chunk in report.chunks),
        "num_workers": report.workers,
        "worker_names": sorted({chunk.worker for chunk in report.chunks}),
        "busy": busy(report),
        "entries": sum(report.events.values()),
        "rate": report.rate,
        "bytesread": report.bytes_read,
        "chunksize": report.chunk_size,
        "source": report.source,
        "delivered": report.delivered,
        "deliverytime": report.delivery_seconds,
        "candidates": report.candidates,
        "served": {parity: asdict(use) for parity, use in report.served.items()},
        "notes": report.notes,
        "btag": report.btag,
        "events": report.events,
        "yields": histograms.counts(report.histograms),
        "chunks": [asdict(chunk) for chunk in report.chunks],
    }


def _timeline(report: Report) -> str:
    """Return a timeline of each worker's chunks, as SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    with plt.style.context("default"):
        workers = sorted({chunk.worker for chunk in report.chunks})
        samples = sorted({chunk.dataset for chunk in report.chunks})
        first = min(chunk.start for chunk in report.chunks)
        figure, axes = plt.subplots(figsize=(9, 1.6 + 0.4 * len(workers)))
        for number, sample in enumerate(samples):
            chunks = [chunk for chunk in report.chunks if chunk.dataset == sample]
            axes.barh(
                [workers.index(chunk.worker) for chunk in chunks],
                [chunk.stop - chunk.start for chunk in chunks],
                left=[chunk.start - first for chunk in chunks],
                color=f"C{number}",
                edgecolor="white",
                linewidth=0.5,
                label=sample,
            )
        axes.set_yticks(range(len(workers)), workers)
        axes.invert_yaxis()
        axes.set_xlabel("time since the first chunk began [s]")
        figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
        figure.set_layout_engine("constrained")
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg")
        plt.close(figure)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _table(head: Sequence[str], rows: Rows) -> str:
    def line(cells: Sequence[str], kind: str) -> str:
        return "<tr>" + "".join(f"<{kind}>{escape(cell)}</{kind}>" for cell in cells) + "</tr>"

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { border-bottom: 1px solid #ddd; padding: .2rem .8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; }
svg { max-width: 100%; height: auto; }
"""


def as_html(report: Report) -> str:
    """Return a self-contained page: totals, timeline, samples, workers, and yields."""
    megabytes = report.bytes_read / 1e6
    wall = f"{report.seconds:.2f} s"
    cpu = sum(chunk.cpu for chunk in report.chunks)
    totals = [
        ("events", f"{sum(report.events.values()):,}"),
        ("wall time", wall),
        ("CPU time in chunks", f"{cpu:.2f} s"),
        ("workers", str(report.workers)),
        ("busy time of workers", f"{busy(report):.0%}"),
        ("rate", f"{report.rate:,.0f} events/s"),
        ("read", f"{megabytes:,.1f} MB, {megabytes / report.seconds:,.1f} MB/s"),
        ("chunks", f"{len(report.chunks)} of at most {report.chunk_size:,} events"),
    ]

    if report.btag:
        totals.append(("b tag", report.btag))
    if report.candidates:
        totals.append(("assignments of jets scored", f"{report.candidates:,}"))
    for use in report.served.values():
        use_counts = f"{use.requests:,} requests, {use.rows:,} rows"
        totals.append((f"Triton: {use.model}, version {use.version}", use_counts))

    def rows(shares_of_run: Sequence[Share]) -> Rows:
        return [
            (
                share.name,
                str(share.chunks),
                f"{share.events:,}",
                f"{share.wall:.2f}",
                f"{share.cpu:.2f}",
                f"{share.rate:,.0f}",
            )
            for share in shares_of_run
        ]

    head = ("chunks", "events", "wall [s]", "CPU [s]", "events/s")
    samples = shares(report, lambda chunk: str(chunk.dataset))
    workers = shares(report, lambda chunk: str(chunk.worker))
    yields = [
        (name, f"{value:,.1f}") for name, value in histograms.counts(report.histograms).items()
    ]
    parts = [
        "<h1>The AGC ttbar analysis: time and resources</h1>",
        _table(("", ""), totals),
        *(f"<p><strong>Note:</strong> {escape(note)}</p>" for note in report.notes),
        "<h2>Timeline of the workers</h2>",
        _timeline(report) if report.chunks else "<p>No chunk was processed.</p>",
        "<h2>Samples</h2>",
        _table(("sample", *head), rows(samples)),
        "<h2>Workers</h2>",
        _table(("worker", *head), rows(workers)),
        "<h2>Yields</h2>",
        _table(("histogram", "sum"), yields),
    ]
    page = f"<title>AGC run</title><style>{STYLE}</style>"
    return f'<!doctype html><html lang="en"><meta charset="utf-8">{page}{"".join(parts)}</html>\n'


def save(report: Report, path: Path) -> list[Path]:
    """Write the JSON file, and the page beside it; return both paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(as_json(report), indent=2) + "\n")
    page = path.with_suffix(".html")
    page.write_text(as_html(report))
    return [path, page]
