"""Handlers of Kubernetes' events: parse the resource, call a service, return the status."""

import argparse
import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import kopf
from coffea_shoppe_contract import listening
from coffea_shoppe_contract.confinement import UNSUPPORTED, is_supported
from coffea_shoppe_contract.resources import API_GROUP, API_VERSION, FACILITY_USERS, SERVED_MODELS
from prometheus_client import start_http_server
from pydantic import BaseModel, ValidationError

from coffea_shoppe_operator import boosters, composition, services
from coffea_shoppe_operator.clients.triton import Triton
from coffea_shoppe_operator.conditions import ready
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.measurements import Measurements
from coffea_shoppe_operator.metrics import Metrics
from coffea_shoppe_operator.models import FacilityUser, ServedModel, Settings
from coffea_shoppe_operator.scaling import Scaling
from coffea_shoppe_operator.schema import first_problem
from coffea_shoppe_operator.service_buckets import ServiceBuckets
from coffea_shoppe_operator.serving import UNAVAILABLE, Serving
from coffea_shoppe_operator.storage import Storage

LOG = logging.getLogger(__name__)
INTERVAL_S = 30
"""Interval of reconciling a user: manual changes are reverted, tokens renewed."""
RETRY_S = 5
WORKERS = 16
"""Threads of the handlers, which mostly wait: for services, for the inspection of a model, of which
there is one at a time, and for their turns.  Models that wait must not keep users waiting."""
SCALE_S = 15
"""Interval of scaling Triton."""
RESOURCE = (API_GROUP, API_VERSION, FACILITY_USERS)
MODELS = (API_GROUP, API_VERSION, SERVED_MODELS)


Resource = TypeVar("Resource", FacilityUser, ServedModel)


class Cluster(Protocol):
    """What reads resources and writes their status; `storage.Storage` is the real one."""

    def read_resource(  # noqa: D102
        self, namespace: str, plural: str, name: str
    ) -> dict[str, Any] | None: ...
    def write_status(  # noqa: D102
        self, namespace: str, plural: str, name: str, status: dict[str, Any]
    ) -> None: ...


class Turns(Generic[Resource]):
    """Gives the handlers of a resource their turns, each with the resource as it is then.

    kopf runs a timer beside the handlers of changes, and each has the resource of its own start.
    Side by side they would undo each other's work: the timer would serve a version again that
    its user has just replaced, or renew the keys of a user who is being deleted.
    """

    def __init__(self, cluster: Cluster, kind: type[Resource], plural: str) -> None:
        self.cluster, self.plural = cluster, plural
        self.kind: type[Resource] = kind
        self._locks: dict[str, threading.Lock] = {}

    def _lock(self, metadata: kopf.Meta) -> threading.Lock:
        return self._locks.setdefault(metadata["uid"], threading.Lock())

    @contextmanager
    def take(self, metadata: kopf.Meta, *, wait: bool) -> Iterator[Resource | None]:
        """Yield the resource as the API server has it, which no other handler changes meanwhile.

        Yields None if it is gone or being deleted, or, without `wait`, if another handler has
        its turn, which does the same work.
        """
        lock = self._lock(metadata)
        if not lock.acquire(blocking=wait):
            yield None
            return
        try:
            namespace, name = metadata["namespace"], metadata["name"]
            body = self.cluster.read_resource(namespace, self.plural, name)
            gone = body is None or body["metadata"].get("deletionTimestamp")
            yield None if body is None or gone else parse(self.kind, body)
        finally:
            lock.release()

    @contextmanager
    def take_last(self, metadata: kopf.Meta) -> Iterator[None]:
        """Wait for the turn in which a deleted resource is removed."""
        with self._lock(metadata):
            yield
        self._locks.pop(metadata["uid"], None)

    def report(self, metadata: kopf.Meta, old: BaseModel, new: BaseModel) -> None:
        """Write the status, if it is another; within the turn, so that the next one reads it."""
        if new != old:
            status = services.as_patch(new)
            namespace, name = metadata["namespace"], metadata["name"]
            self.cluster.write_status(namespace, self.plural, name, status)


def parse(kind: type[Resource], body: Mapping[str, Any]) -> Resource:
    """Parse a resource; raises `kopf.PermanentError` for an invalid one: a retry is useless."""
    try:
        return kind.parse(dict(body))
    except ValidationError as error:
        raise kopf.PermanentError(
            f"invalid {kind.__name__}: {first_problem(error)}; correct the resource"
        ) from error


def register(
    registry: kopf.OperatorRegistry,
    facility: services.Facility,
    cluster: Cluster,
    metrics: Metrics,
) -> None:
    """Add the handlers of one facility to a registry."""
    turns = Turns(cluster, FacilityUser, FACILITY_USERS)

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        prefix = f"operator.{API_GROUP}"
        settings.persistence.finalizer = f"{prefix}/finalizer"
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=prefix)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=prefix)
        settings.posting.enabled = False
        # One namespace, and a resource that exists from the start: listing namespaces and
        # CRDs would need further rights.
        settings.scanning.disabled = True
        # Reopen a watch after five minutes, and (kopf's default) after 70 seconds without a
        # bookmark: the API server may have dropped it unnoticed.
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 330
        settings.execution.max_workers = WORKERS
        facility.keys(time.time())

    @kopf.on.resume(*RESOURCE, registry=registry)
    @kopf.on.create(*RESOURCE, registry=registry)
    @kopf.on.update(*RESOURCE, registry=registry)
    def reconcile(meta: kopf.Meta, **_: Any) -> None:
        reconcile_user(facility, turns, metrics, meta, wait=True)

    @kopf.on.timer(*RESOURCE, interval=INTERVAL_S, initial_delay=INTERVAL_S, registry=registry)
    def reconcile_again(meta: kopf.Meta, **_: Any) -> None:
        reconcile_user(facility, turns, metrics, meta, wait=False)

    @kopf.on.delete(*RESOURCE, registry=registry)
    def remove(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        with turns.take_last(body.metadata):
            remove_user(facility, metrics, body, patch)


@contextmanager
def retried(metrics: Metrics, task: str) -> Iterator[None]:
    """Have kopf retry a handler for which a service is away; count it as a failure of a task."""
    try:
        yield
    except StorageError as error:
        metrics.failures.labels(task).inc()
        raise kopf.TemporaryError(str(error), delay=RETRY_S) from error


def reconcile_user(
    facility: services.Facility,
    turns: Turns[FacilityUser],
    metrics: Metrics,
    metadata: kopf.Meta,
    *,
    wait: bool,
) -> None:
    """Provision what a user's resource asks for, and write its status."""
    with retried(metrics, "reconcile"), turns.take(metadata, wait=wait) as user:
        if user is None:
            return
        with metrics.seconds.time():
            status = facility.reconcile(user, time.time())
        turns.report(metadata, user.status, status)
        metrics.record(user.name, status.conditions)


def remove_user(
    facility: services.Facility, metrics: Metrics, body: kopf.Body, patch: kopf.Patch
) -> None:
    """Remove a user whose resource is deleted; on failure the resource's status says why."""
    with retried(metrics, "remove"):
        try:
            facility.remove(FacilityUser.parse(dict(body)), time.time())
        except StorageError as error:
            condition = ready(False, "Removing", f"the user cannot be removed yet: {error}")
            patch.status["conditions"] = [condition.model_dump(by_alias=True)]
            raise
    metrics.forget(body.metadata["name"])


def register_models(
    registry: kopf.OperatorRegistry, serving: Serving, cluster: Cluster, metrics: Metrics
) -> None:
    """Add the handlers of served models to a registry."""
    turns = Turns(cluster, ServedModel, SERVED_MODELS)

    @kopf.on.resume(*MODELS, registry=registry)
    @kopf.on.create(*MODELS, registry=registry)
    @kopf.on.update(*MODELS, registry=registry)
    def serve(meta: kopf.Meta, **_: Any) -> None:
        serve_model(serving, turns, metrics, meta, wait=True)

    @kopf.on.timer(*MODELS, interval=INTERVAL_S, initial_delay=INTERVAL_S, registry=registry)
    def serve_again(meta: kopf.Meta, **_: Any) -> None:
        serve_model(serving, turns, metrics, meta, wait=False)

    @kopf.on.delete(*MODELS, registry=registry)
    def unserve(body: kopf.Body, **_: Any) -> None:
        with retried(metrics, "serve"), turns.take_last(body.metadata):
            serving.remove(ServedModel.parse(dict(body)), time.time())


def serve_model(
    serving: Serving,
    turns: Turns[ServedModel],
    metrics: Metrics,
    metadata: kopf.Meta,
    *,
    wait: bool,
) -> None:
    """Serve what a resource asks for, and write its status."""
    with retried(metrics, "serve"), turns.take(metadata, wait=wait) as model:
        if model is None:
            return
        status = serving.reconcile(model, time.time())
        turns.report(metadata, model.status, status)
        (condition,) = status.conditions
        if condition.reason == UNAVAILABLE:
            raise StorageError(condition.message)


def run_periodically(
    task: str, work: Callable[[], None], metrics: Metrics, *, every: float
) -> None:
    """Call `work` every `every` seconds, also after errors; never returns."""
    while True:
        try:
            work()
        except StorageError as error:
            metrics.failures.labels(task).inc()
            logging.warning("%s: %s", task, error)
            time.sleep(RETRY_S)
        except Exception:
            # An uncaught exception would end this thread unnoticed, and its work would stop.
            metrics.failures.labels(task).inc()
            logging.exception("%s: retry in %s s", task, every)
            time.sleep(every)
        else:
            time.sleep(every)


def start_periodic_task(
    task: str, work: Callable[[], None], metrics: Metrics, *, every: float
) -> None:
    """Start `run_periodically` in a daemon thread."""
    options = {"every": every}
    threading.Thread(
        target=run_periodically, args=(task, work, metrics), kwargs=options, daemon=True, name=task
    ).start()


def main() -> None:
    """Run the operator until the pod ends."""
    parser = argparse.ArgumentParser(description="The operator of a Coffea Shoppe facility.")
    parser.add_argument("--settings", type=Path, default=Path("/etc/coffea-shoppe/operator.yaml"))
    parser.add_argument("--port", type=int, default=8080, help="of the liveness probe")
    parser.add_argument("--metrics-port", type=int, default=9090, help="for Prometheus")
    options = parser.parse_args()
    settings = Settings.load(options.settings)
    # The default registry includes kopf's logins to the cluster.
    registry = kopf.get_default_registry()
    cluster, metrics, clients = Storage(), Metrics(), composition.Clients.of(settings)
    store = clients.object_store
    artifact_bucket = settings.mlflow.bucket if settings.mlflow else ""
    measurements = Measurements(store, artifact_bucket=artifact_bucket) if store else None
    adapters = composition.adapters(settings, cluster, clients)
    facility = services.Facility(settings, cluster, adapters, measurements)
    register(registry, facility, cluster, metrics)
    if settings.triton and clients.mlflow and store:
        triton = Triton(settings.triton)
        serving = Serving(
            settings,
            settings.triton,
            keys=facility.keys,
            users=cluster,
            registry=clients.mlflow,
            repository=store,
            server=triton,
            inspect=partial(boosters.inspect, require_landlock=settings.triton.require_landlock),
        )
        if not is_supported():
            LOG.warning(
                "no model is served, because %s"
                if settings.triton.require_landlock
                else "users' models are read with access to the operator's keys, because %s",
                UNSUPPORTED,
            )
        register_models(registry, serving, cluster, metrics)
        if name := settings.triton.deployment:
            scaling = Scaling(settings, name, keys=facility.keys, cluster=cluster, server=triton)

            def scale() -> None:
                scaling.reconcile(time.time())

            start_periodic_task("scale", scale, metrics, every=SCALE_S)
    start_http_server(options.metrics_port, addr=listening.every_address())
    kopf.configure(verbose=False)
    # These log every probe, and a line per user every half minute; errors are still logged.
    for name in ("aiohttp.access", "kopf.objects"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if settings.object_store and store:
        buckets = ServiceBuckets(settings, settings.object_store, cluster, store)
        start_periodic_task("services", buckets.reconcile, metrics, every=INTERVAL_S)
    if measurements:
        start_periodic_task("measure", measurements.measure, metrics, every=INTERVAL_S)
    asyncio.run(
        kopf.operator(
            registry=registry,
            standalone=True,
            namespaces=[settings.namespace],
            # kopf would take an empty host for localhost; that of the pod has all its addresses.
            liveness_endpoint=f"http://{socket.gethostname()}:{options.port}/healthz",
        )
    )


if __name__ == "__main__":
    main()
