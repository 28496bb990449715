"""Diagnostics: what is saved on a failure, and the output of `status` and `logs`."""

import json
from pathlib import Path
from typing import Any

from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError

PART_OF = "app.kubernetes.io/part-of=coffea-shoppe"


def pods(cluster: Cluster) -> list[dict[str, Any]]:
    """Return all pods of the facility, including those of users and Dask clusters."""
    items: list[dict[str, Any]] = cluster.get("pods", "-A", "-l", PART_OF)["items"]
    return items


def is_ready(pod: dict[str, Any]) -> bool:
    """Return whether all containers of a pod are ready; those of a new pod are not yet known."""
    states = pod["status"].get("containerStatuses", [])
    return bool(states) and all(state["ready"] for state in states)


def _attempt(cluster: Cluster, *words: str) -> str:
    try:
        return cluster.kubectl(*words, timeout=60)
    except ShoppeError as error:
        return f"({error.problem})\n"


def dump(cluster: Cluster, folder: Path) -> Path:
    """Write events, pod states and all logs into a folder; never raises for a missing pod."""
    folder.mkdir(parents=True, exist_ok=True)
    events = _attempt(cluster, "get", "events", "-A", "--sort-by=.lastTimestamp")
    (folder / "events.txt").write_text(events)
    (folder / "pods.txt").write_text(_attempt(cluster, "get", "pods", "-A", "-o", "wide"))
    (folder / "describe.txt").write_text(_attempt(cluster, "describe", "pods", "-A", "-l", PART_OF))
    for pod in pods(cluster):
        meta = pod["metadata"]
        where = ["-n", meta["namespace"], meta["name"], "--all-containers", "--timestamps"]
        (folder / f"{meta['name']}.log").write_text(_attempt(cluster, "logs", *where))
        restarted = any(s["restartCount"] for s in pod["status"].get("containerStatuses", []))
        if restarted:
            previous = _attempt(cluster, "logs", *where, "--previous")
            (folder / f"{meta['name']}.previous.log").write_text(previous)
    return folder


def status(cluster: Cluster) -> tuple[list[tuple[str, str, str]], bool]:
    """Return (namespace, pod, state) of each pod, and whether all of them are ready."""
    rows, healthy = [], True
    for pod in pods(cluster):
        states = pod["status"].get("containerStatuses", [])
        ready = is_ready(pod)
        healthy &= ready
        reasons = {
            next(iter(state["state"].values())).get("reason", "")
            for state in states
            if not state["ready"]
        }
        text = "ready" if ready else " ".join(filter(None, [pod["status"]["phase"], *reasons]))
        rows.append((pod["metadata"]["namespace"], pod["metadata"]["name"], text))
    return sorted(rows), healthy


def memory_mib(cluster: Cluster) -> dict[str, float]:
    """Return the working set of each pod in MiB, as the kubelet counts it."""
    node = f"{cluster.name}-control-plane"
    text = cluster.kubectl("get", "--raw", f"/api/v1/nodes/{node}/proxy/stats/summary")
    names = {pod["metadata"]["name"] for pod in pods(cluster)}
    return {
        pod["podRef"]["name"]: pod.get("memory", {}).get("workingSetBytes", 0) / 2**20
        for pod in json.loads(text)["pods"]
        if pod["podRef"]["name"] in names
    }
