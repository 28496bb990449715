"""Faults that a cluster's objects show are named by component and cause."""

from typing import Any

import pytest
from coffea_shoppe_preflight import objects
from coffea_shoppe_preflight.findings import Cause, Finding, broken, reference, verdict
from coffea_shoppe_preflight.settings import Settings
from coffea_shoppe_preflight.snapshot import ForbiddenError, Snapshot, UnreachableError, read

NOW = 1_795_000_000.0
"""Unix time; 2026-11-18T11:06:40Z."""
JUST_NOW, LONG_AGO, AHEAD = "2026-11-18T11:05:40Z", "2026-11-17T11:06:40Z", "2026-11-18T11:16:40Z"
SETTINGS = Settings(
    release="shoppe",
    namespace="hep",
    namespaces=["hep"],
    components=["mlflow"],
    definitions=sorted(objects.expected_definitions()),
)


def thing(name: str, component: str = "mlflow", **content: Any) -> dict[str, Any]:
    """Return an object of the release, as the API server lists it: without kind."""
    labels = {
        "app.kubernetes.io/name": component,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/instance": "shoppe",
        "app.kubernetes.io/part-of": "coffea-shoppe",
    }
    return {"metadata": {"name": name, "namespace": "hep", "labels": labels}, **content}


def event(kind: str, name: str, message: str, reason: str = "Failed") -> dict[str, Any]:
    return {
        "metadata": {"name": f"{name}.1"},
        "involvedObject": {"kind": kind, "name": name},
        "type": "Warning",
        "reason": reason,
        "message": message,
        "lastTimestamp": JUST_NOW,
    }


def claim(name: str, phase: str, storage_class: str | None = "fast") -> dict[str, Any]:
    spec = {"storageClassName": storage_class} if storage_class else {}
    return thing(name, spec=spec, status={"phase": phase})


def pod(container: dict[str, Any] | None = None, ready: bool = False) -> dict[str, Any]:
    """Return a pod with a container in some state; without one nothing is known of it."""
    spec = {"containers": [{"name": "server", "resources": {"limits": {"memory": "64Mi"}}}]}
    status: dict[str, Any] = {
        "phase": "Running",
        "conditions": [{"type": "Ready", "status": str(ready)}],
    }
    if container is not None:
        status["containerStatuses"] = [
            {"name": "server", "image": "ghcr.io/x/mlflow:1", "ready": ready, **container}
        ]
    return thing("shoppe-mlflow-0", spec=spec, status=status)


FAST = {"metadata": {"name": "fast"}}
DEFAULT = {
    "metadata": {"name": "fast", "annotations": {objects.DEFAULT_CLASS: "true"}},
}


@pytest.mark.parametrize(
    ("wish", "classes", "cause", "detail"),
    [
        ("slow", [FAST], Cause.NO_STORAGE_CLASS, "class 'slow'; the cluster has fast"),
        (None, [FAST], Cause.NO_STORAGE_CLASS, "none is the default; the cluster has fast"),
        (None, [], Cause.NO_STORAGE_CLASS, "none is the default; the cluster has none"),
        ("fast", [FAST], Cause.CLAIM_PENDING, "claim data: no space on any server"),
        (None, [DEFAULT], Cause.CLAIM_PENDING, "claim data: no space on any server"),
    ],
)
def test_a_claim_without_a_volume(
    wish: str | None, classes: list[Any], cause: Cause, detail: str
) -> None:
    events = [event("PersistentVolumeClaim", "data", "no space on any server")]
    snapshot = Snapshot(
        claims=[claim("data", "Pending", wish)], storage_classes=classes, events=events
    )
    (finding,) = objects.claims(snapshot, SETTINGS)
    assert (finding.component, finding.cause) == ("mlflow", cause)
    assert detail in finding.detail


def test_a_claim_with_a_volume_is_no_finding() -> None:
    snapshot = Snapshot(claims=[claim("data", "Bound")], storage_classes=[FAST])
    assert list(objects.claims(snapshot, SETTINGS)) == []


def test_classes_that_cannot_be_read_are_not_missing() -> None:
    unread = {"storage_classes": "HTTP status 403"}
    snapshot = Snapshot(claims=[claim("data", "Pending", "slow")], unread=unread)
    assert [each.cause for each in objects.claims(snapshot, SETTINGS)] == [Cause.CLAIM_PENDING]


def ended(reason: str = "Error", message: str = "", when: str = JUST_NOW) -> dict[str, Any]:
    return {"terminated": {"reason": reason, "exitCode": 1, "message": message, "finishedAt": when}}


@pytest.mark.parametrize(
    ("container", "cause", "detail"),
    [
        (
            {"state": {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}},
            Cause.IMAGE_MISSING,
            "ghcr.io/x/mlflow:1",
        ),
        (
            {"state": {"waiting": {"reason": "ErrImagePull"}}},
            Cause.IMAGE_MISSING,
            "ErrImagePull",
        ),
        (
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": ended("OOMKilled"),
            },
            Cause.OUT_OF_MEMORY,
            "whose limit is 64Mi",
        ),
        (
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": ended(message="PANIC: could not write: No space left on device"),
            },
            Cause.VOLUME_FULL,
            "could not write",
        ),
        (
            {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": ended(message="KeyError: 'host'", when=LONG_AGO),
            },
            Cause.CRASHING,
            "KeyError",
        ),
        (
            {"state": {"waiting": {"reason": "CreateContainerConfigError", "message": "no key"}}},
            Cause.SECRET_MISSING,
            "no key",
        ),
        ({"state": {"running": {}}}, Cause.NOT_READY, "shoppe-mlflow-0"),
    ],
)
def test_a_container_that_does_not_run(
    container: dict[str, Any], cause: Cause, detail: str
) -> None:
    (finding,) = objects.pods(Snapshot(pods=[pod(container)], now=NOW), SETTINGS)
    assert (finding.component, finding.cause) == ("mlflow", cause)
    assert detail in finding.detail


def test_a_kill_for_memory_counts_for_a_while() -> None:
    """The pod is ready again: what happened yesterday is no fault of today."""
    for when, causes in ((JUST_NOW, [Cause.OUT_OF_MEMORY]), (LONG_AGO, [])):
        container = {"state": {"running": {}}, "lastState": ended("OOMKilled", when=when)}
        snapshot = Snapshot(pods=[pod(container, ready=True)], now=NOW)
        assert [each.cause for each in objects.pods(snapshot, SETTINGS)] == causes


def test_a_pod_that_waits_for_its_claim_is_not_named_twice() -> None:
    waiting = pod()
    waiting["spec"]["volumes"] = [
        {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
    ]
    for phase, causes in (("Pending", []), ("Bound", [Cause.NOT_READY])):
        snapshot = Snapshot(pods=[waiting], claims=[claim("data", phase)], now=NOW)
        assert [each.cause for each in objects.pods(snapshot, SETTINGS)] == causes


def test_pods_of_users_and_of_other_releases_do_not_count() -> None:
    of_user, of_other = pod(), pod()
    of_user["metadata"]["labels"][objects.USER] = "ann"
    of_other["metadata"]["labels"][objects.INSTANCE] = "other"
    assert list(objects.pods(Snapshot(pods=[of_user, of_other], now=NOW), SETTINGS)) == []
    assert len(list(objects.pods(Snapshot(pods=[pod()], now=NOW), SETTINGS))) == 1


def test_pods_that_only_keep_room_for_users_may_wait() -> None:
    waiting = pod()
    waiting["metadata"]["labels"][objects.COMPONENT] = objects.PLACEHOLDER
    assert list(objects.pods(Snapshot(pods=[waiting], now=NOW), SETTINGS)) == []


def failed(owner: str, uid: str = "1", phase: str = "Failed") -> dict[str, Any]:
    """Return a pod that ended just now."""
    over = pod({"state": ended()})
    over["status"]["phase"] = phase
    owners = [{"kind": owner, "name": "o", "uid": uid}]
    over["metadata"] |= {"ownerReferences": owners, "creationTimestamp": JUST_NOW}
    return over


def test_pods_that_were_replaced_do_not_count() -> None:
    running = pod({"state": {"running": {}}}, ready=True)
    evicted = failed("ReplicaSet")
    job, again = failed("Job", "2"), failed("Job", "2", "Succeeded")
    old = failed("Job", "3")
    old["metadata"]["creationTimestamp"] = LONG_AGO
    snapshot = Snapshot(pods=[running, evicted, job, again, old], now=NOW)
    assert list(objects.pods(snapshot, SETTINGS)) == []
    snapshot = Snapshot(pods=[running, job], now=NOW)
    assert [each.cause for each in objects.pods(snapshot, SETTINGS)] == [Cause.CRASHING]


def test_a_pod_that_fits_nowhere() -> None:
    waiting = pod()
    waiting["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "message": "Insufficient memory"}
    ]
    (finding,) = objects.pods(Snapshot(pods=[waiting], now=NOW), SETTINGS)
    assert finding == Finding(
        "mlflow", Cause.UNSCHEDULABLE, "pod shoppe-mlflow-0: Insufficient memory"
    )


QUOTA = 'pods "shoppe-mlflow-6b" is forbidden: exceeded quota: small, requested: pods=1'


def workload(created: int, **status: Any) -> dict[str, Any]:
    status = {"replicas": created, "updatedReplicas": created, **status}
    return thing("shoppe-mlflow", spec={"replicas": 1}, status=status)


def test_an_update_that_does_not_go_on() -> None:
    """The pods of before run on, so the release looks as if it worked."""
    late = {"type": "Progressing", "status": "False", "message": "deadline exceeded"}
    stuck = workload(1, updatedReplicas=0, conditions=[late])
    (finding,) = objects.workloads(Snapshot(deployments=[stuck], now=NOW), SETTINGS)
    assert finding == Finding(
        "mlflow", Cause.UPDATE_REFUSED, "Deployment shoppe-mlflow: deadline exceeded"
    )
    failure = {"type": "ReplicaFailure", "status": "True", "message": QUOTA}
    refused = workload(1, updatedReplicas=0, conditions=[failure])
    (finding,) = objects.workloads(Snapshot(deployments=[refused], now=NOW), SETTINGS)
    assert finding.cause == Cause.QUOTA_EXCEEDED
    going_on = workload(2, updatedReplicas=1)
    assert list(objects.workloads(Snapshot(deployments=[going_on], now=NOW), SETTINGS)) == []


def test_a_quota_that_is_exceeded() -> None:
    failure = {"type": "ReplicaFailure", "status": "True", "message": QUOTA}
    snapshot = Snapshot(deployments=[workload(0, conditions=[failure])], now=NOW)
    (finding,) = objects.workloads(snapshot, SETTINGS)
    assert (finding.component, finding.cause) == ("mlflow", Cause.QUOTA_EXCEEDED)
    events = [event("StatefulSet", "shoppe-mlflow", QUOTA, "FailedCreate")]
    snapshot = Snapshot(stateful_sets=[workload(0)], events=events, now=NOW)
    assert [each.cause for each in objects.workloads(snapshot, SETTINGS)] == [Cause.QUOTA_EXCEEDED]


def test_a_workload_that_is_scaled_to_nothing() -> None:
    stopped = {**workload(0), "spec": {"replicas": 0}}
    (finding,) = objects.workloads(Snapshot(deployments=[stopped], now=NOW), SETTINGS)
    assert finding == Finding("mlflow", Cause.NOT_READY, "Deployment shoppe-mlflow is scaled to 0")
    stopped["metadata"]["labels"][objects.COMPONENT] = "transformer"
    assert list(objects.workloads(Snapshot(deployments=[stopped], now=NOW), SETTINGS)) == []


def test_a_workload_that_has_its_pods_is_no_finding() -> None:
    events = [event("StatefulSet", "shoppe-mlflow", QUOTA, "FailedCreate")]
    snapshot = Snapshot(stateful_sets=[workload(1)], events=events, now=NOW)
    assert list(objects.workloads(snapshot, SETTINGS)) == []


def definition(name: str, *, without: str = "") -> dict[str, Any]:
    """Return this release's definition, or one that lacks a field of the spec."""
    from coffea_shoppe_operator import models

    (wish,) = (each for each in models.definitions() if each["metadata"]["name"] == name)
    (version,) = wish["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]
    spec = schema["properties"]["spec"]
    fields = {key: value for key, value in spec["properties"].items() if key != without}
    properties = {**schema["properties"], "spec": {**spec, "properties": fields}}
    version = {**version, "schema": {"openAPIV3Schema": {**schema, "properties": properties}}}
    return {**wish, "spec": {**wish["spec"], "versions": [version]}}


USERS, MODELS = "facilityusers.coffea-shoppe.dev", "servedmodels.coffea-shoppe.dev"


@pytest.mark.parametrize(
    ("present", "findings"),
    [
        ([definition(USERS), definition(MODELS)], []),
        ([definition(USERS)], [Finding("operator", Cause.CRD_MISSING, MODELS)]),
        (
            [definition(USERS, without="username"), definition(MODELS)],
            [Finding("operator", Cause.CRD_OLD, f"{USERS} lacks spec.username")],
        ),
    ],
)
def test_definitions_of_resources(present: list[Any], findings: list[Finding]) -> None:
    assert list(objects.definitions(Snapshot(definitions=present), SETTINGS)) == findings


def lease(renewed: str) -> dict[str, Any]:
    return {"metadata": {"name": "worker-1"}, "spec": {"renewTime": renewed}}


def test_a_node_whose_clock_is_ahead() -> None:
    (finding,) = objects.clocks(Snapshot(leases=[lease(AHEAD)], now=NOW), SETTINGS)
    assert finding == Finding("nodes", Cause.CLOCK_SKEW, "that of node worker-1 is 600 s ahead")
    assert list(objects.clocks(Snapshot(leases=[lease(JUST_NOW)], now=NOW), SETTINGS)) == []


def policy(selector: dict[str, Any], name: str = "deny-all") -> dict[str, Any]:
    return {"metadata": {"name": name, "namespace": "hep"}, "spec": {"podSelector": selector}}


@pytest.mark.parametrize(
    ("selector", "in_the_way"),
    [
        ({}, True),
        ({"matchLabels": {objects.NAME: "mlflow"}}, True),
        ({"matchLabels": {objects.NAME: "triton"}}, False),
        ({"matchExpressions": [{"key": objects.NAME, "operator": "In", "values": ["x"]}]}, False),
        ({"matchExpressions": [{"key": "x", "operator": "DoesNotExist"}]}, True),
    ],
)
def test_a_foreign_policy_in_the_way(selector: dict[str, Any], in_the_way: bool) -> None:
    snapshot = Snapshot(pods=[pod(ready=True)], policies=[policy(selector)])
    name = objects.policy_in_the_way(snapshot, SETTINGS, "mlflow")
    assert name == ("NetworkPolicy hep/deny-all" if in_the_way else "")


def test_a_policy_is_not_blamed_for_pods_that_are_not_ready() -> None:
    snapshot = Snapshot(pods=[pod(ready=False)], policies=[policy({})])
    assert objects.policy_in_the_way(snapshot, SETTINGS, "mlflow") == ""


def test_the_releases_own_policies_are_not_in_the_way() -> None:
    own = thing("shoppe-mlflow", spec={"podSelector": {}})
    snapshot = Snapshot(pods=[pod(ready=True)], policies=[own])
    assert objects.policy_in_the_way(snapshot, SETTINGS, "mlflow") == ""


def test_what_may_not_be_read_is_said_and_the_rest_is_read() -> None:
    def get(path: str) -> tuple[dict[str, Any], dict[str, str]]:
        if "storageclasses" in path or "hep-dask/events" in path:
            raise ForbiddenError("HTTP status 403")
        return {"items": [{"path": path}]}, {"Date": "Wed, 18 Nov 2026 11:06:40 GMT"}

    snapshot = read(get, ["hep", "hep-dask"], cluster_wide=True)
    assert [each["path"] for each in snapshot.pods] == [
        "/api/v1/namespaces/hep/pods",
        "/api/v1/namespaces/hep-dask/pods",
    ]
    refusal = "HTTP status 403"
    assert snapshot.unread == {"storage_classes": refusal, "events in hep-dask": refusal}
    assert snapshot.now == NOW
    assert set(read(get, ["hep"], cluster_wide=False).unread) == {
        *("storage_classes", "definitions", "leases"),
    }


def test_an_api_server_that_is_away_is_asked_once() -> None:
    paths = []

    def get(path: str) -> tuple[dict[str, Any], dict[str, str]]:
        paths.append(path)
        raise UnreachableError("timed out")

    with pytest.raises(UnreachableError):
        read(get, ["hep", "hep-dask"], cluster_wide=True)
    assert len(paths) == 1


def test_lists_that_take_too_long_stay_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 25))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    snapshot = read(lambda path: ({"items": [{}]}, {}), ["hep"], cluster_wide=False)
    assert (len(snapshot.pods), len(snapshot.claims), len(snapshot.events)) == (1, 1, 0)
    assert snapshot.unread["events in hep"] == "all lists together took over 60 s"


def test_what_may_not_be_checked_is_neither_broken_nor_working() -> None:
    unknown = Finding("operator", Cause.UNCHECKED, "a right: HTTP status 403")
    _, blind = verdict(["mlflow"], [], {"pods in hep": "HTTP status 403"})[::-1]
    assert blind == "? mlflow not checked: its pods were not read"
    (line,) = verdict(["operator"], [unknown], {})
    assert line.startswith("? operator not checked: this may not be looked at: a right: HTTP")
    assert not broken([unknown])
    assert broken([unknown, Finding("nodes", Cause.CLOCK_SKEW, "n1")])


def test_the_verdict_has_a_line_for_each_component() -> None:
    findings = [
        Finding("postgresql", Cause.PASSWORD_REFUSED, "database mlflow:\n  no"),
        Finding("nodes", Cause.CLOCK_SKEW, "n1"),
    ]
    repeated = [*findings, findings[0]]
    works, refused, nodes, unread = verdict(["servicex", "postgresql"], repeated, {"events": "no"})
    assert works == "✓ servicex works"
    assert refused.startswith("✗ postgresql broken: password is refused: database mlflow: no → use")
    assert nodes.startswith("✗ nodes broken: clock is wrong: n1 → ")
    assert unread == "? events not read: no"


def test_each_cause_has_its_own_title_and_a_row_of_the_reference() -> None:
    assert len({cause.title for cause in Cause}) == len(Cause)
    page = reference()
    for cause in Cause:
        assert f"| {cause.symptom} | {cause.title} | {cause.remedy} |" in page
