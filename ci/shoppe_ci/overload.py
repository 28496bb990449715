"""One user sends servers more than they should take, while another one uses them."""

import itertools
import json
import math
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoppe_ci import diagnostics
from shoppe_ci.cluster import Cluster
from shoppe_ci.probes import PAUSE_S
from shoppe_ci.release import NAMESPACE, RELEASE

RunCode = Callable[[Any, str], str]
"""Runs code in a user's kernel, and returns what it prints."""
HERE = Path(__file__).parent
LOOK_S = 2


@dataclass(frozen=True)
class Server:
    """A server that users' pods reach: its Service, and a request that it takes."""

    service: str
    port: int
    audience: str = ""
    """Whose token is sent: '' for none, `hub` for the server's own."""
    path: str = "/"
    method: str = "POST"
    namespace: str = NAMESPACE

    @property
    def host(self) -> str:
        """Return its name in the cluster."""
        return f"{RELEASE}-{self.service}.{self.namespace}"


DASK = f"{NAMESPACE}-dask"
SERVERS = {
    "proxy": Server("proxy-public", 80, path="/hub/login"),
    "hub": Server("hub", 8081, "hub", "/hub/api/users"),
    "traefik": Server(
        "dask-traefik",
        80,
        "hub",
        "/services/dask-gateway/api/v1/clusters/",
        namespace=DASK,
    ),
    "api": Server("api", 80, "api", "/serve"),
    "mlflow": Server("mlflow", 5000, "mlflow", "/api/2.0/mlflow/runs/search"),
    "servicex": Server("servicex", 5000, "servicex", "/servicex/transformation"),
    "s3-gateway": Server("servicex", 7000, path="/bucket/object", method="PUT"),
    "triton": Server("triton", 8000, "triton", "/v2/models/none/infer"),
    "triton-grpc": Server("triton", 8001, "triton", "/inference"),
    "objectstore": Server("objectstore", 7070, path="/bucket/object", method="PUT"),
    "xcache": Server("xcache", 8080, path="/absent", method="PUT"),
}
"""The gateway of Dask clusters is behind Traefik; so are the pages of services."""


def hosts(file_url: str) -> dict[str, str]:
    """Return what the probes take: the address of each server, and at the cache a file's."""
    addresses = {name: f"{server.host}:{server.port}" for name, server in SERVERS.items()}
    return addresses | {"xcache": f"{addresses['xcache']}//{file_url}"}


def flood_code(names: list[str], seconds: float) -> str:
    """Return code for the kernel of the user who floods."""
    targets = [
        {
            "name": name,
            "host": SERVERS[name].host,
            "port": SERVERS[name].port,
            "path": SERVERS[name].path,
            "method": SERVERS[name].method,
            "audience": SERVERS[name].audience,
        }
        for name in names
    ]
    return (
        "import json, os, subprocess, sys, coffea_shoppe as shoppe\n"
        f"open('/tmp/flood.py', 'w').write({(HERE / 'flood.py').read_text()!r})\n"
        f"targets = {targets!r}\n"
        "for target in targets:\n"
        "    audience = target.pop('audience')\n"
        "    kind, token = 'Bearer', ''\n"
        "    if audience == 'hub':\n"
        "        kind, token = 'token', os.environ['JUPYTERHUB_API_TOKEN']\n"
        "    elif audience:\n"
        "        token = shoppe.token(audience)\n"
        "    target['headers'] = {'Authorization': f'{kind} {token}'} if token else {}\n"
        f"command = [sys.executable, '/tmp/flood.py', json.dumps(targets), '{seconds}']\n"
        "done = subprocess.run(command, capture_output=True, text=True)\n"
        "print(done.stdout or done.stderr)\n"
    )


def probe_code(addresses: Mapping[str, str], seconds: float, *, until: str = "") -> str:
    """Return code for the kernel of the user who uses the servers meanwhile.

    It ends earlier when the home folder has a file `until`.
    """
    return (
        "import json, pathlib, subprocess, sys\n"
        f"open('/tmp/probes.py', 'w').write({(HERE / 'probes.py').read_text()!r})\n"
        f"command = [sys.executable, '/tmp/probes.py', {json.dumps(dict(addresses))!r}, "
        f"'{seconds}']\n"
        f"command += [str(pathlib.Path.home() / {until!r})] if {until!r} else []\n"
        "done = subprocess.run(command, capture_output=True, text=True)\n"
        "print(done.stdout or done.stderr)\n"
    )


@dataclass(frozen=True)
class Use:
    """How a user's requests to a server went."""

    seconds: list[float]
    problems: list[str]
    successes: list[float]
    """When a request ended well, in seconds since the first."""

    @property
    def interruption(self) -> float:
        """Return the longest time between two successes, without the pause, in seconds."""
        pairs = itertools.pairwise(self.successes)
        return max((later - earlier for earlier, later in pairs), default=math.inf) - PAUSE_S

    @property
    def median(self) -> float:
        """Return the median duration of a request, in seconds."""
        return statistics.median(self.seconds)

    @property
    def slowest(self) -> float:
        """Return the longest duration of a request, in seconds."""
        return max(self.seconds)


def uses(printed: str) -> dict[str, Use]:
    """Return what the probes printed, by server."""
    grouped: dict[str, Use] = {}
    for server, start, seconds, problem in json.loads(printed.strip().splitlines()[-1]):
        use = grouped.setdefault(server, Use([], [], []))
        use.seconds.append(seconds)
        if problem:
            use.problems.append(problem)
        else:
            use.successes.append(start + seconds)
    return grouped


def lives(cluster: Cluster) -> dict[str, int]:
    """Return the restarts of each container of the facility's own pods, by pod and name."""
    return {
        f"{pod['metadata']['name']}/{state['name']}": state["restartCount"]
        for pod in diagnostics.pods(cluster)
        for state in pod["status"].get("containerStatuses", ())
    }


@contextmanager
def largest_memory(cluster: Cluster) -> Iterator[dict[str, float]]:
    """Yield the largest working set of each pod meanwhile, in MiB, as far as it is seen."""
    peaks: dict[str, float] = {}
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(LOOK_S):
            for pod, mebibytes in diagnostics.memory_mib(cluster).items():
                peaks[pod] = max(peaks.get(pod, 0.0), mebibytes)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        stop.set()
        thread.join(60)


@dataclass(frozen=True)
class Outcome:
    """What a flood did to the user who did not send it."""

    quiet: dict[str, Use]
    loaded: dict[str, Use]
    sent: dict[str, dict[str, Any]]
    """Server → kind → what was sent, and the responses."""
    restarted: dict[str, tuple[int, int]]
    """Container → restarts before and afterwards, where they differ."""
    memory: dict[str, float]
    """Pod → largest working set meanwhile, MiB."""


def measure(
    cluster: Cluster,
    run_code: RunCode,
    *,
    sender: Any,
    user: Any,
    addresses: Mapping[str, str],
    names: list[str],
    seconds: float,
) -> Outcome:
    """Have `sender` flood the servers `names` while `user` uses those of `addresses`."""
    quiet = uses(run_code(user, probe_code(addresses, min(seconds, 15))))
    before = lives(cluster)
    with largest_memory(cluster) as memory, ThreadPoolExecutor(1) as pool:
        flooding = pool.submit(run_code, sender, flood_code(names, seconds))
        time.sleep(2)  # the connections are made
        loaded = uses(run_code(user, probe_code(addresses, seconds)))
        sent = flooding.result()
    after = lives(cluster)
    restarted = {
        name: (before[name], after.get(name, -1))
        for name in before
        if after.get(name, -1) != before[name] and not name.startswith(("jupyter-", "dask-"))
    }
    return Outcome(quiet, loaded, json.loads(sent.strip().splitlines()[-1]), restarted, memory)


def rows(outcome: Outcome) -> dict[str, str]:
    """Return a line for each server: its requests in the quiet and in the flood."""
    lines = {}
    for server, quiet in outcome.quiet.items():
        loaded = outcome.loaded[server]
        failed = f", {len(loaded.problems)} FAILED" if loaded.problems else ""
        lines[server] = (
            f"quiet {quiet.median * 1e3:.0f} ms, overload {loaded.median * 1e3:.0f} ms "
            f"({loaded.median / quiet.median:.1f}x), slowest {loaded.slowest:.2f} s "
            f"of {len(loaded.seconds)}{failed}"
        )
    return lines
