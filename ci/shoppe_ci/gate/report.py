"""The gate's report: a page that needs nothing else, and a result in JUnit's format."""

import base64
import shutil
from pathlib import Path
from xml.etree import ElementTree

import jinja2

from shoppe_ci.errors import ShoppeError
from shoppe_ci.gate import badge, record
from shoppe_ci.gate.hops import FAILED, NOT_REACHED
from shoppe_ci.gate.record import Record
from shoppe_ci.gate.results import ALONE, FACILITY
from shoppe_ci.paths import sha256

PAGE, JUNIT = "report.html", "junit.xml"
TEMPLATE = Path(__file__).with_name("report.html.j2")
PLOTS = ("plots/*.png", "features/mass_w1w2*.png", "fit/*postfit.png", "fit/pulls.png")
"""Patterns in the folder of the facility's results."""
LOG_LINES = 40
"""Last lines of each log of the broken service that the page shows."""
LOGS = "logs"
UNCROSSED = (FAILED, NOT_REACHED)
"""States of hops that the run did not cross."""


def clear(folder: Path) -> None:
    """Empty the folder of an earlier gate; raises `ShoppeError` if it has anything else."""
    if folder.exists() and any(folder.iterdir()):
        if not (folder / record.FILE).exists() and not (folder / record.MANIFESTS).exists():
            raise ShoppeError(
                f"{folder} is not empty, and not the result of a gate",
                "choose another folder with --output",
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)


def results(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each result in a gate's folder, by its path there."""
    return {
        str(path.relative_to(folder)): sha256(path)
        for part in (FACILITY, ALONE)
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }


def _plots(folder: Path) -> list[tuple[str, str]]:
    """Return title and data URL of the plots."""
    return [
        (path.stem, f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}")
        for pattern in PLOTS
        for path in sorted((folder / FACILITY).glob(pattern))
    ]


def _logs(outcome: Record, folder: Path) -> list[tuple[str, str]]:
    """Return the last lines of the logs of each service that is not proved."""
    shown = []
    missing = [hop.name for hop in outcome.hops if hop.state in UNCROSSED]
    for path in sorted((folder / LOGS).glob("*.log")):
        if any(name in path.name for name in missing):
            lines = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
            shown.append((path.name, "\n".join(lines)))
    return shown


def page(outcome: Record, folder: Path) -> str:
    """Return the report as one HTML page, with plots and badge inside."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    label, message = badge.texts(outcome)
    return environment.from_string(TEMPLATE.read_text()).render(
        record=outcome,
        label=label,
        message=message,
        plots=_plots(folder),
        logs=_logs(outcome, folder),
    )


def junit(outcome: Record) -> str:
    """Return the result in JUnit's format: a test case for each hop, the run and the results."""
    cases = [
        (hop.name, f"{hop.state}: {hop.reason}" if hop.state in UNCROSSED else "")
        for hop in outcome.hops
    ]
    cases += [("run", outcome.problem), ("results", "\n".join(outcome.differences))]
    suite = ElementTree.Element(
        "testsuite",
        name="gate",
        tests=str(len(cases)),
        failures=str(sum(bool(problem) for _, problem in cases)),
        time=str(outcome.seconds),
        timestamp=outcome.started,
    )
    for name, problem in cases:
        case = ElementTree.SubElement(suite, "testcase", classname="gate", name=name)
        if problem:
            failure = ElementTree.SubElement(case, "failure", message=problem.splitlines()[0])
            failure.text = problem
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def write(outcome: Record, folder: Path) -> None:
    """Write the page and JUnit's file into the gate's folder."""
    (folder / PAGE).write_text(page(outcome, folder))
    (folder / JUNIT).write_text(junit(outcome))
