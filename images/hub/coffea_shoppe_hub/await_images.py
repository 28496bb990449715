"""Command of the hook before an installation or upgrade: waits until nodes have users' images.

The pods of a DaemonSet pull the images, and are ready when they have them.
"""

import argparse
import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import ClientError
from kubernetes_asyncio.client import ApiClient, AppsV1Api, CoreV1Api
from kubernetes_asyncio.client.exceptions import ApiException
from kubespawner.clients import load_config

POLL_S = 2.0
Object = dict[str, Any]


@dataclass(frozen=True)
class Progress:
    """How far the nodes are."""

    nodes: int
    """That are for users' servers; without those that have no room, where these are left out."""
    ready: int
    """Of them, that have all images."""
    waiting: tuple[str, ...]
    """What the others wait for, with the name of the node where it is known."""

    @property
    def ended(self) -> bool:
        """Whether all nodes have the images."""
        return self.ready >= self.nodes

    def __str__(self) -> str:
        """Return the line of the log."""
        lines = [f"{self.ready} of {self.nodes} nodes have the images", *self.waiting]
        return "\n  ".join(lines)


def _condition(pod: Object, kind: str) -> Object:
    conditions = pod["status"].get("conditions") or []
    return next((each for each in conditions if each["type"] == kind), {})


def _unscheduled(pod: Object) -> bool:
    return _condition(pod, "PodScheduled").get("status") == "False"


def _waits_for(pod: Object) -> Iterator[str]:
    """Yield why a pod is not ready."""
    where = pod["spec"].get("nodeName") or pod["metadata"]["name"]
    if _unscheduled(pod):
        yield f"{where}: {_condition(pod, 'PodScheduled').get('message', 'no room')}"
    status = pod["status"]
    for container in [
        *(status.get("initContainerStatuses") or []),
        *(status.get("containerStatuses") or []),
    ]:
        state = (container.get("state") or {}).get("waiting")
        # Containers that wait for their turn say no more than the one before them.
        if state and state.get("reason") != "PodInitializing":
            reason = ": ".join(filter(None, [state.get("reason"), state.get("message")]))
            yield f"{where}: {container['image']}: {reason}"


def progress(daemon_set: Object, pods: list[Object], *, all_nodes: bool) -> Progress | None:
    """Return how far the nodes are; None where the cluster has not counted them yet.

    Without `all_nodes`, nodes that have no room for their pod are left out.
    """
    status = daemon_set.get("status") or {}
    if status.get("observedGeneration", 0) < daemon_set["metadata"].get("generation", 0):
        return None
    nodes = int(status.get("desiredNumberScheduled") or 0)
    if len(pods) < nodes:
        return Progress(nodes, 0, (f"{nodes - len(pods)} pods to be created",))
    left_out = [pod for pod in pods if _unscheduled(pod) and not all_nodes]
    others = [pod for pod in pods if pod not in left_out]
    ready = [pod for pod in others if _condition(pod, "Ready").get("status") == "True"]
    waiting = [line for pod in others if pod not in ready for line in _waits_for(pod)]
    return Progress(nodes - len(left_out), len(ready), tuple(waiting))


async def _look(
    client: ApiClient, name: str, namespace: str, *, all_nodes: bool
) -> Progress | None:
    answer = await AppsV1Api(client).read_namespaced_daemon_set(name, namespace)
    daemon_set: Object = client.sanitize_for_serialization(answer)
    labels = daemon_set["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    listed = await CoreV1Api(client).list_namespaced_pod(namespace, label_selector=selector)
    pods = client.sanitize_for_serialization(listed.items)
    return progress(daemon_set, pods, all_nodes=all_nodes)


async def wait(name: str, namespace: str, timeout: float, scheduling_timeout: float) -> None:
    """Wait until all nodes have the images, and print each change.

    After `scheduling_timeout` seconds nodes without room for their pod are left out, unless it is
    negative.  Raises `TimeoutError` with what is missing after `timeout` seconds.
    """
    load_config()
    start = time.monotonic()
    last_line = ""
    async with ApiClient() as client:
        while True:
            passed = time.monotonic() - start
            all_nodes = scheduling_timeout < 0 or passed < scheduling_timeout
            try:
                now = await _look(client, name, namespace, all_nodes=all_nodes)
                text = str(now) if now else f"DaemonSet {name} has no nodes yet"
            except (ApiException, ClientError, OSError) as error:
                now, text = None, f"Kubernetes' API server: {error}"
            if text != last_line:
                print(text, flush=True)
                last_line = text
            if now and now.ended:
                return
            if passed > timeout:
                raise TimeoutError(text)
            await asyncio.sleep(POLL_S)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; exit with what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the DaemonSet")
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--timeout", type=float, default=1800, help="in seconds")
    parser.add_argument(
        "--scheduling-timeout",
        type=float,
        default=10,
        help="seconds after which nodes without room are left out; -1: none is",
    )
    options = parser.parse_args(arguments)
    try:
        asyncio.run(
            wait(options.name, options.namespace, options.timeout, options.scheduling_timeout)
        )
    except TimeoutError as error:
        raise SystemExit(
            f"after {options.timeout:g} s: {error}\n"
            "remedy: mend what these nodes wait for, raise jupyterhub.prePuller.hook.timeout, or"
            " set jupyterhub.prePuller.hook.enabled to false"
        ) from None


if __name__ == "__main__":
    main()
