"""Killing any one pod during the analysis is survived or reported."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from agc import histograms
from shoppe_ci import analysis, release
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError

pytestmark = pytest.mark.part("chaos")

VICTIMS = {
    "hub": ("shoppe", "app.kubernetes.io/component=hub"),
    "proxy": ("shoppe", "app.kubernetes.io/component=proxy"),
    "gateway": ("shoppe", "app.kubernetes.io/component=gateway"),
    "controller": ("shoppe", "app.kubernetes.io/component=controller"),
    "traefik": ("shoppe-dask", "app.kubernetes.io/component=traefik"),
    "xcache": ("shoppe", "app.kubernetes.io/component=xcache"),
    "worker": ("shoppe-dask", "app.kubernetes.io/component=dask-worker"),
}


@pytest.fixture(scope="module")
def inputs(data_origin: Cluster) -> dict[str, Any]:
    """Enough events for a run that lasts while a pod is killed."""
    return analysis.published(data_origin, analysis.synthetic(60_000))


@pytest.fixture(scope="module")
def undisturbed(
    data_origin: Cluster, inputs: Any, tmp_path_factory: pytest.TempPathFactory
) -> histograms.Histograms:
    folder = tmp_path_factory.mktemp("undisturbed")
    analysis.run_agc(data_origin, name="chaos", inputs=inputs, results=folder)
    return histograms.load(folder / "histograms.root")


def kill(cluster: Cluster, victim: str, killed: list[str]) -> None:
    """Kill the first pod of a kind that is seen running, a little later."""
    namespace, selector = VICTIMS[victim]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        pods = cluster.get("pods", "-n", namespace, "-l", selector)["items"]
        workers = cluster.get("pods", "-n", "shoppe-dask", "-l", VICTIMS["worker"][1])["items"]
        running = [p for p in workers if p["status"]["phase"] == "Running"]
        if pods and len(running) >= 2:
            time.sleep(3)  # into the processing
            name = pods[0]["metadata"]["name"]
            cluster.kubectl("-n", namespace, "delete", "pod", name, "--grace-period=0", "--force")
            killed.append(name)
        time.sleep(0.5)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_killed_pod_is_survived_or_reported(
    victim: str, data_origin: Cluster, inputs: Any, undisturbed: Any, tmp_path: Path
) -> None:
    killed: list[str] = []
    killer = threading.Thread(target=kill, args=(data_origin, victim, killed))
    killer.start()
    try:
        analysis.run_agc(data_origin, name="chaos", inputs=inputs, results=tmp_path)
        outcome = "survived"
    except ShoppeError as error:
        # The user must be told in words; a hanging run would end in a time-out.
        outcome = error.problem
        assert "longer than" not in outcome
    killer.join()
    assert killed, f"no pod of {victim} was killed"
    release.wait_ready(data_origin)
    print(f"{victim}: {outcome.splitlines()[0]}")
    if outcome == "survived":
        found = histograms.load(tmp_path / "histograms.root")
        for key, histogram in undisturbed.items():
            np.testing.assert_allclose(found[key].values(), histogram.values(), rtol=1e-10)
    # Whatever happened, the next run is as good as any.
    again = tmp_path / "again"
    analysis.run_agc(data_origin, name="chaos", inputs=inputs, results=again)
    found = histograms.load(again / "histograms.root")
    np.testing.assert_allclose(
        found["4j2b_ttbar"].values(), undisturbed["4j2b_ttbar"].values(), rtol=1e-10
    )
