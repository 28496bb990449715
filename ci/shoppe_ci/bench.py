"""Measurements that a reader can repeat."""

import json
import time
from pathlib import Path

import nbformat

from shoppe_ci import analysis, diagnostics, release, shell
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User
from shoppe_ci.kernel import NotebookError
from shoppe_ci.wait import eventually

BENCH_NAME = "bench"


def agc(models: Path | None = None) -> dict[str, str]:
    """Return the analysis' rates on one core, and uproot's read rates of the same branches."""
    path = next(
        where for where, *_ in analysis.synthetic(200_000) if "ttbar__nominal" in where.name
    )
    program: list[str | Path] = ["taskset", "-c", "0", "python", "-m", "agc.benchmark", path]
    single = {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    # Progress bars come first.
    text = shell.run(program + ([models] if models else []), env=single)
    found = json.loads(text.splitlines()[-1])
    return {
        "events": str(found["events"]),
        "in-process run, events/s on one core": f"{found['run']:.0f}",
        "uproot reads the same branches, events/s": f"{found['read']:.0f}",
        "share of the read rate": f"{found['run'] / found['read']:.2f}",
        "with jets assigned, events/s on one core": f"{found['run_ml']:.0f}",
        "uproot reads the branches of that, events/s": f"{found['read_ml']:.0f}",
        "share of the read rate with jets assigned": f"{found['run_ml'] / found['read_ml']:.3f}",
        "nodes of the two models": " and ".join(str(count) for count in found["nodes"]),
    }


def install(cluster: Cluster) -> dict[str, str]:
    """Return the times of install, spawn and Dask cluster start, and the idle memory.

    The release is removed and installed anew: never do this to one that is in use.
    """
    release.uninstall(cluster)
    # Users' servers are not the release's: they outlive it, and would count as idle memory.
    users = f"{diagnostics.OURS},app.kubernetes.io/component=singleuser-server"
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
    dask = float(_run(user, source).split()[0])
    user.stop()
    return {
        "install to ready": f"{ready:.1f} s",
        "idle memory of the release": f"{idle:.0f} MiB",
        "spawn, first": f"{first:.1f} s",
        "spawn, again": f"{again:.1f} s",
        "Dask cluster with 2 workers": f"{dask:.1f} s",
    }


def models(cluster: Cluster) -> dict[str, str]:
    """Return the times of scoring rows by Triton, beside XGBoost in the user's own process."""
    user, _ = analysis.log_in(cluster, BENCH_NAME)
    source = "import subprocess; print(subprocess.run(['python', '-m', 'agc.benchmark_models'],\n"
    source += "    check=True, capture_output=True, text=True).stdout)"
    found = json.loads(_run(user, source).strip().splitlines()[-1])
    user.stop()
    rows = {}
    for one in found:
        local = one["local"]
        told = [f"local {local:.2f} ms ({one['rows'] / local:.0f} k rows/s)"]
        told += [f"{way} {one[way]:.2f} ms ({one[way] / local:.2f}x)" for way in ("gRPC", "HTTP")]
        rows[f"{one['model']}, {one['rows']} rows"] = ", ".join(told)
    return rows


def _run(user: User, source: str) -> str:
    """Run code in a kernel of the user's server and return what it printed."""
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source)]
    try:
        user.run_notebook(notebook)
    except NotebookError as failed:
        raise ShoppeError(failed.problem) from failed
    return "".join(out.text for out in notebook.cells[0].outputs if out.output_type == "stream")
