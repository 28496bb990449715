"""Runs the gate on a facility in a cluster of this command, with the services' own counters."""

import json
import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import yaml
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import USER_LABEL

from shoppe_ci import (
    analysis,
    counters,
    diagnostics,
    facility,
    images,
    origin,
    release,
    shell,
    toolchain,
)
from shoppe_ci import cluster as clusters
from shoppe_ci.analysis import Outcome
from shoppe_ci.cluster import Cluster
from shoppe_ci.counters import Reading
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User
from shoppe_ci.gate import badge, hops, notebook, record, report, results
from shoppe_ci.gate.hops import HOPS, PROVED, Proof
from shoppe_ci.gate.record import Image, Record
from shoppe_ci.gate.results import FACILITY
from shoppe_ci.paths import sha256
from shoppe_ci.progress import step
from shoppe_ci.wait import eventually

USER = "gate"
RUNS = 3
"""Runs in MLflow that the notebook logs at least: training, selection and fit."""
SETTLE_S = 60
"""A cache reports files some seconds after they are closed."""
Readings = dict[str, Reading | str]


@dataclass(frozen=True)
class _Ended:
    """How the notebook's run ended."""

    outcome: Outcome | None
    problem: str


def _read_all(cluster: Cluster) -> Readings:
    """Return each hop's counters now, or why they cannot be read."""
    readings: Readings = {}
    for hop in HOPS:
        try:
            readings[hop.name] = counters.read(cluster, hop.endpoint)
        except ShoppeError as error:
            readings[hop.name] = error.problem.splitlines()[0]
    return readings


def _prove(
    before: Readings, after: Readings, required: dict[str, float], *, finished: bool
) -> list[Proof]:
    return [
        hops.prove(hop, before[hop.name], after[hop.name], required, finished=finished)
        for hop in HOPS
    ]


def _settled(
    cluster: Cluster, before: Readings, required: dict[str, float], *, finished: bool
) -> list[Proof]:
    """Return the proofs, as soon as all hops are proved or what is reported late has arrived."""
    proofs: list[Proof] = []

    def all_proved() -> bool:
        proofs[:] = _prove(before, _read_all(cluster), required, finished=finished)
        return all(proof.state == PROVED for proof in proofs)

    try:
        eventually(
            all_proved, "all services have counted", timeout=SETTLE_S if finished else 0, every=2
        )
    except ShoppeError:
        # The proofs say what was not counted.
        return proofs
    return proofs


def published_images(engine: Engine, folder: Path) -> dict[str, Image]:
    """Save the manifests of all images that the charts name, and return the images."""
    port = clusters.ensure_registry(engine)
    target = folder / record.MANIFESTS
    target.mkdir(exist_ok=True)
    published = {}
    for name, image in images.declared().items():
        if not image.values:
            continue
        reference = images.reference(name)
        manifest = images.manifest(name, port)
        if manifest is None:
            raise ShoppeError(f"the registry has no image {reference}", "run `ci/shoppe up` first")
        path = target / f"{name}.json"
        path.write_bytes(manifest)
        published[name] = Image(reference, f"sha256:{sha256(path)}")
    return published


def foreign_images(cluster: Cluster, published: dict[str, Image], folder: Path) -> list[str]:
    """Return the pods of the facility that run another image than the published one.

    Servers of other users may run an older one: an upgrade does not stop them.
    """
    digests = {image.digest for image in published.values()}
    for name in published:
        manifest = json.loads((folder / record.MANIFESTS / f"{name}.json").read_text())
        # A node names an image by its manifest or by its configuration.
        digests.add(manifest["config"]["digest"])
    return [
        f"pod {pod['metadata']['name']} runs {state['imageID']}, which is no image of this release"
        for pod in diagnostics.pods(cluster)
        if pod["metadata"]["labels"].get(USER_LABEL) in (None, resource_name(USER))
        for state in pod["status"].get("containerStatuses", ())
        if state["imageID"] and state["imageID"].rpartition("@")[2] not in digests
    ]


def _programs(cluster: Cluster) -> dict[str, str]:
    """Return the versions of what the release ran on."""
    version = json.loads(cluster.kubectl("version", "-o", "json"))
    helm = shell.run([toolchain.program("helm"), "version", "--template", "{{.Version}}"])
    return {
        "Kubernetes": version["serverVersion"]["gitVersion"],
        "Helm": helm.strip(),
        "cores": str(os.cpu_count()),
    }


def _analyse(cluster: Cluster, inputs: dict[str, Any], folder: Path) -> _Ended:
    """Run the notebook as a new server of the gate's user."""
    try:
        user = User(cluster.url, USER)
        user.login(facility.password(cluster))
        user.stop()
        outcome = analysis.run_agc(
            cluster,
            name=USER,
            inputs=inputs,
            results=folder / FACILITY,
            source="servicex",
            assignment="served",
            settle=False,
        )
    except ShoppeError as error:
        return _Ended(None, error.problem)
    return _Ended(outcome, "")


def _broken(proofs: Sequence[Proof], ended: _Ended, differences: Sequence[str]) -> str:
    """Return what a failed run is due to; '' if it passed."""
    if hop := hops.broken(proofs, finished=ended.outcome is not None):
        return hop.title
    return "results" if differences else "run" if ended.problem else ""


def run(engine: Engine, cluster: Cluster, folder: Path, *, events: int) -> Record:
    """Run the gate and write record, report and badge into a folder, which is emptied.

    The facility and the origin of its input run already.
    """
    start, began = monotonic(), datetime.now(tz=UTC)
    report.clear(folder)
    chart = release.package(folder)
    published = published_images(engine, folder)
    samples = analysis.synthetic(events)
    below = f"gate-{uuid.uuid4().hex[:8]}/"
    try:
        with step("publishing the input on the origin"):
            # New names, which no cache knows.
            inputs = analysis.published(cluster, samples, below=below)
        before = _read_all(cluster)
        ended = _analyse(cluster, inputs, folder)
        finished = ended.outcome is not None
        required = _required(samples, ended.outcome)
        proofs = _settled(cluster, before, required, finished=finished)
    finally:
        origin.remove(cluster, below)
    differences: list[str] = []
    figures: dict[str, Any] = {}
    if ended.outcome:
        try:
            results.analyse_alone(samples, folder)
            comparison = results.compare(folder)
            differences = comparison.differences
            if not any(comparison.fits):
                differences = [*differences, "there is no fit"]
            figures = results.figures(ended.outcome.report, comparison)
        except ShoppeError as error:
            differences = [f"the results cannot be compared: {error.problem}"]
    differences = differences + foreign_images(cluster, published, folder)
    outcome = Record(
        version=yaml.safe_load((release.UMBRELLA / "Chart.yaml").read_text())["version"],
        commit=notebook.commit(),
        grade=record.SERVER,
        facility=cluster.url,
        started=began.isoformat(timespec="seconds"),
        seconds=round(monotonic() - start, 1),
        chart=chart.name,
        chart_digest=record.chart_digest(chart),
        programs=_programs(cluster),
        images=published,
        hops=proofs,
        differences=differences,
        files=report.results(folder),
        sections=notebook.sections(folder / FACILITY / analysis.NOTEBOOK.name),
        results=figures,
        problem=ended.problem,
        broken=_broken(proofs, ended, differences),
    )
    if not outcome.passed:
        diagnostics.dump(cluster, folder / report.LOGS)
    record.write(outcome, folder)
    report.write(outcome, folder)
    badge.write(folder)
    return outcome


def _required(samples: Sequence[analysis.Sample], outcome: Outcome | None) -> dict[str, float]:
    """Return by how much the services' counters must increase."""
    inferences = 0
    if outcome:
        inferences = sum(use["requests"] for use in outcome.report["served"].values())
    return {
        "one": 1,
        "files": len(samples),
        "samples": len({sample[1:3] for sample in samples}),
        "runs": RUNS,
        "inferences": max(inferences, 1),
    }
