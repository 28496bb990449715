from typing import Any

import pytest
from rendering import containers, pod_specs


def test_every_server_is_restarted_when_it_hangs(manifests: list[Any]) -> None:
    # Init containers end by themselves, and Kubernetes takes no probes for them; jobs have
    # a deadline.
    servers = [m for m in manifests if m["kind"] not in ("Job", "CronJob", "Pod")]
    jobs = [m["spec"] for m in manifests if m["kind"] in ("Job", "Pod")]
    jobs += [m["spec"]["jobTemplate"]["spec"] for m in manifests if m["kind"] == "CronJob"]
    assert all(job["activeDeadlineSeconds"] > 0 for job in jobs)
    for name, _, spec in pod_specs(servers):
        for container in spec["containers"]:
            assert "livenessProbe" in container, f"{name}/{container['name']}"


def test_a_slow_start_is_not_a_hang(manifests: list[Any]) -> None:
    for name, container in containers(manifests):
        if "readinessProbe" in container and not name.endswith("/exporter"):
            assert "startupProbe" in container, name


def test_the_cache_starts_by_reading_through_itself(render: Any) -> None:
    found = dict(containers(render("xcache")))["shoppe-xcache/xcache"]
    command = " ".join(found["startupProbe"]["exec"]["command"])
    assert "xrdcp" in command
    assert "root://127.0.0.1:1094//root://127.0.0.1:1095//probe" in command


def test_a_dead_origin_restarts_no_cache(render: Any) -> None:
    values = {"instances": [{"name": "c", "preset": "cms"}]}
    found = dict(containers(render("xcache", values)))["shoppe-c/xcache"]
    for probe in ("livenessProbe", "readinessProbe"):
        assert "127.0.0.1:1094" in found[probe]["exec"]["command"]
        assert not any("fnal" in word for word in found[probe]["exec"]["command"])


@pytest.mark.parametrize(
    ("port", "entrypoints"), [("web", {"web"}), (8786, {"web", "tcp"})], ids=["one", "two"]
)
def test_traefik_keeps_the_connections_to_schedulers_when_it_is_replaced(
    render: Any, port: object, entrypoints: set[str]
) -> None:
    ports = {"tcp": {"port": port}}
    values = {
        "gateway": {"auth": {"type": "simple"}},
        "traefik": {"drainSeconds": 100, "service": {"ports": ports}},
    }
    rendered = render("dask-gateway", values)
    (spec,) = [spec for name, _, spec in pod_specs(rendered) if name.endswith("traefik")]
    (container,) = spec["containers"]
    drained = {
        arg.split(".")[1]: arg.rpartition("=")[2]
        for arg in container["args"]
        if "lifecycle.gracetimeout" in arg
    }
    assert drained == dict.fromkeys(entrypoints, "100s")
    assert spec["terminationGracePeriodSeconds"] > 100
