"""Benchmarks of `ci/shoppe bench`."""

import json
import shutil
import time
import uuid
from pathlib import Path
from typing import Any

from shoppe_ci import analysis, diagnostics, origin, overload, release, shell
from shoppe_ci.cluster import Cluster
from shoppe_ci.facility import User
from shoppe_ci.paths import cache
from shoppe_ci.wait import eventually

BENCH_NAME = "bench"
FLOOD_S = 20
"""Of each server."""
COPIES = 28
"""Number of copies of the synthetic samples: reading them takes over a minute on two cores."""


AGC_EVENTS = 400_000
AGC_FILES = {
    "37 branches": (),
    "947 branches": ("--like", "nano"),
    "947 branches, RNTuple": ("--like", "nano", "--container", "rntuple"),
}
"""Options of `agc synth` for each file that is measured; 947 branches are what real files have."""
KINDS = {"plain": "no assignment", "assigned": "jets assigned"}


def agc(
    models: Path | None = None, upstream: Path | None = None, events: int = AGC_EVENTS
) -> dict[str, str]:
    """Return the analysis' CPU seconds by stage, beside uproot's and upstream's.

    `upstream` is a checkout of upstream's repository.
    """
    files = [f"{label}={_large(events, *options)}" for label, options in AGC_FILES.items()]
    program: list[str | Path] = ["python", "-m", "agc.benchmark"]
    program += [f"--file={file}" for file in files]
    extra = [f"--models={models}"] * bool(models) + [f"--upstream={upstream}"] * bool(upstream)
    single = _measured(["taskset", "-c", "0", *program, *extra])
    double = _measured([*program, "--workers=2"])
    rows: dict[str, str] = {}
    for label, figures in single["files"].items():
        for kind, title in KINDS.items():
            rows |= _agc_rows(f"{label}, {title}", figures["events"], figures[kind])
        both = double[label]
        rows[f"{label}, {KINDS['plain']}, two workers"] = (
            f"{both['cpu']:.2f} CPU s, {both['events'] / both['wall'] / 1e3:.0f} kHz of wall time"
        )
    rows["nodes of the two models"] = " and ".join(str(count) for count in single["nodes"])
    return rows


def _agc_rows(label: str, events: int, figures: dict[str, Any]) -> dict[str, str]:
    """Return the rows of one file: `figures` has CPU seconds of `agc.benchmark`."""

    def rate(seconds: float) -> str:
        return f"{seconds:.2f} CPU s, {events / seconds / 1e3:.1f} kHz"

    run, read = figures["run"], figures["read"]
    rows = {f"{label}: ours": f"{rate(run)}; {read / run:.2f} of uproot's read rate"}
    rows[f"{label}: uproot"] = rate(read)
    if "upstream" in figures:
        upstream = figures["upstream"]
        rows[f"{label}: upstream"] = f"{rate(upstream)}; ours is {upstream / run:.1f} times as fast"
    stages = (f"{name} {seconds:.2f}" for name, seconds in figures["stages"].items())
    rows[f"{label}: CPU s by stage"] = ", ".join(stages)
    return rows


def scale() -> dict[str, str]:
    """Return the analysis' cost by number of workers and size of the input, and its parts."""
    figures = _measured(["python", "-m", "agc.benchmark_scale", _large(200_000)])
    rows = {}
    for workers, runs in figures["runs"].items():
        for size, run in runs.items():
            rate = run["events"] / run["seconds"]
            rows[f"{workers} worker(s), input {size}x"] = (
                f"{run['events']} events in {run['seconds']:.2f} s, {rate:.0f} events/s, "
                f"workers idle {run['idle']:.0%}"
            )
        fit = figures["fits"][workers]
        rows[f"{workers} worker(s), cost against size"] = (
            f"{fit['start']:.2f} s + {fit['slope']:.3f} s per 1x, off by {fit['missed']:.0%} "
            f"at most; grows with the power {fit['exponent']:.2f}"
        )
    parts = (f"{name} {share:.1%}" for name, share in figures["parts"].items())
    rows["where one process spends its time"] = ", ".join(parts)
    needed = figures["needed"]
    rows["for 200 Gbps at this rate"] = (
        f"{needed['size']:.0f} bytes an event, {needed['core']:.3f} Gbps a core: "
        f"{needed['cores']:.0f} cores, {needed['caches']:.0f} XCaches"
    )
    return rows


def _large(events: int, *options: str) -> Path:
    """Return a synthetic file of nominal ttbar, written with options of `agc synth`."""
    ((path, *_),) = analysis.synthetic(events, "--sample", "ttbar", *options)
    return path


def _measured(program: list[str | Path]) -> dict[str, Any]:
    """Return the last line that a benchmark of the analysis prints, after its progress bars."""
    single = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    figures: dict[str, Any] = json.loads(shell.run(program, env=single).splitlines()[-1])
    return figures


def install(cluster: Cluster) -> dict[str, str]:
    """Return the times of install, spawn and Dask cluster start, and the idle memory.

    The release is removed and reinstalled: never do this to one that is in use.
    """
    release.uninstall(cluster)
    # Users' servers are not removed with the release, and would count as idle memory.
    users = f"{diagnostics.PART_OF},app.kubernetes.io/component=singleuser-server"
    cluster.kubectl("delete", "pods", "-n", release.NAMESPACE, "-l", users)
    gone = "the old pods are gone"
    eventually(lambda: not diagnostics.pods(cluster), gone, timeout=180, every=1)
    start = time.monotonic()
    release.install(cluster, release.UMBRELLA, release.demo_values())
    ready = time.monotonic() - start
    time.sleep(30)  # idle: what the start allocated has settled
    idle = sum(diagnostics.memory_mib(cluster).values())
    user, first = analysis.log_in(cluster, BENCH_NAME)
    user.stop()
    again = user.spawn()
    source = (
        "import time; from dask_gateway import Gateway\n"
        "start = time.time(); cluster = Gateway().new_cluster(); cluster.scale(2)\n"
        "client = cluster.get_client(); client.wait_for_workers(2, timeout=120)\n"
        "print(time.time() - start); client.close(); cluster.shutdown()"
    )
    dask = float(analysis.run_code(user, source).split()[0])
    user.stop()
    return {
        "install to ready": f"{ready:.1f} s",
        "idle memory of the release": f"{idle:.0f} MiB",
        "spawn, first": f"{first:.1f} s",
        "spawn, again": f"{again:.1f} s",
        "Dask cluster with 2 workers": f"{dask:.1f} s",
    }


def models(cluster: Cluster) -> dict[str, str]:
    """Return the times of scoring rows, and rates of the analysis, by Triton and without it."""
    user, _ = analysis.log_in(cluster, BENCH_NAME)
    figures = _benchmark_models(user)
    rows = {}
    for request in figures["requests"]:
        local = request["local"]
        texts = [f"local {local:.2f} ms ({request['rows'] / local:.0f} k rows/s)"]
        texts += [
            f"{way} {request[way]:.2f} ms ({request[way] / local:.2f}x)" for way in ("gRPC", "HTTP")
        ]
        rows[f"{request['model']}, {request['rows']} rows"] = ", ".join(texts)
    rates = figures["analysis"]
    texts = [f"{name} {rate:.0f}" for name, rate in rates.items()]
    shares = [f"{rates['Triton'] / rates[way]:.2f} of {way}" for way in ("XGBoost", "local")]
    rows["the analysis, events/s in one process"] = (
        f"{', '.join(texts)}; Triton {' and '.join(shares)}"
    )
    try:
        for count in (1, 2):
            _scale_triton(cluster, count)
            together = _benchmark_models(user, "together")["rows"]
            rows[f"8 clients at once, {count} replica(s)"] = f"{together / 1e3:.0f} k rows/s"
    finally:
        _scale_triton(cluster, 1)
    user.stop()
    return rows


def _scale_triton(cluster: Cluster, count: int) -> None:
    """Scale Triton to a number of replicas, until the next upgrade."""
    name = f"deployment/{release.RELEASE}-triton"
    cluster.kubectl("-n", release.NAMESPACE, "scale", name, f"--replicas={count}")
    release.wait_ready(cluster)


def _benchmark_models(user: User, *words: str) -> dict[str, Any]:
    """Return the output of the benchmark of models in the user's pod."""
    command = ["python", "-m", "agc.benchmark_models", *words]
    source = (
        f"import subprocess\ndone = subprocess.run({command}, capture_output=True, text=True)\n"
    )
    source += "assert not done.returncode, done.stderr[-2000:]\nprint(done.stdout)"
    # The escape sequence of a progress bar may precede it.
    last = analysis.run_code(user, source).strip().splitlines()[-1]
    figures: dict[str, Any] = json.loads(last[last.index("{") :])
    return figures


def servicex(cluster: Cluster, copies: int = COPIES) -> dict[str, str]:
    """Compare ServiceX with direct reading, both with an empty cache.

    The origin has the same events under two names, so that neither side finds in the
    cache what the other has read.
    """
    origin.install(cluster)
    run = f"bench{uuid.uuid4().hex[:6]}"
    rows, walls = {}, {}
    try:
        inputs = {side: _copies(cluster, f"{run}{side}-", copies) for side in ("a", "b")}
        for label, side, source in (
            ("by ServiceX", "a", "servicex"),
            ("the same again", "a", "servicex"),
            ("directly", "b", "direct"),
        ):
            folder = cache("bench", run) / label.replace(" ", "-")
            outcome = analysis.run_agc(
                cluster, name=BENCH_NAME, inputs=inputs[side], results=folder, source=source
            )
            report = outcome.report
            walls[label] = report["walltime"]
            texts = [f"{sum(report['events'].values())} events in {report['walltime']:.1f} s"]
            if report["source"] == "servicex":
                texts.append(f"of which delivery {report['deliverytime']:.1f} s")
                texts.append(f"{report['delivered']} files, {report['bytesread'] / 1e6:.1f} MB")
            texts.append(f"XCache sent {outcome.sent / 1e6:.1f} MB")
            texts.append(f"fetched {outcome.from_origin / 1e6:.1f} MB")
            rows[label] = ", ".join(texts)
    finally:
        for path in cluster.data.glob(f"{run}*"):
            shutil.rmtree(path, ignore_errors=True)
    direct = walls["directly"]
    rows["(ServiceX then coffea) / coffea"] = f"{walls['by ServiceX'] / direct:.2f}"
    rows["the same with the results kept"] = f"{walls['the same again'] / direct:.2f}"
    rows["the client's polling"] = "each 5 s: up to 10 s of every delivery"
    return rows


def overloaded(cluster: Cluster) -> dict[str, str]:
    """Return how a user's requests to each server go while another user floods that server.

    The servers are flooded one after another, then all at once.
    """
    origin.install(cluster)
    path, *_ = analysis.synthetic()[0]
    addresses = overload.hosts(origin.publish(cluster, path))
    user, _ = analysis.log_in(cluster, BENCH_NAME)
    sender, _ = analysis.log_in(cluster, f"{BENCH_NAME}-flood")

    def flooded(*names: str) -> dict[str, str]:
        watched = {name: addresses[name] for name in names}
        outcome = overload.measure(
            cluster,
            analysis.run_code,
            sender=sender,
            user=user,
            addresses=watched,
            names=list(names),
            seconds=FLOOD_S,
        )
        rows = overload.rows(outcome)
        if outcome.restarted:
            rows["restarted"] = ", ".join(outcome.restarted)
        return rows

    rows: dict[str, str] = {}
    for name in overload.SERVERS:
        rows |= {f"{label}, flooded alone": text for label, text in flooded(name).items()}
    together = flooded(*overload.SERVERS)
    user.stop()
    sender.stop()
    return rows | {f"{label}, all flooded": text for label, text in together.items()}


def _copies(cluster: Cluster, below: str, copies: int) -> dict[str, Any]:
    """Return a list of inputs: the synthetic samples, many times under other names."""
    return analysis.as_fileset(
        (origin.publish(cluster, path, below=f"{below}{number:03d}-"), process, variation, events)
        for number in range(copies)
        for path, process, variation, events in analysis.synthetic()
    )
