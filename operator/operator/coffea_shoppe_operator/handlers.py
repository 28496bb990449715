"""Kubernetes' events: parse the resource, call a service, write the status."""

import argparse
import asyncio
import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kopf
from coffea_shoppe_contract import identity
from prometheus_client import start_http_server
from pydantic import ValidationError

from coffea_shoppe_operator import builders, services
from coffea_shoppe_operator.deliveries import ServiceX
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.health import Health
from coffea_shoppe_operator.metrics import Metrics
from coffea_shoppe_operator.mlflow import Mlflow
from coffea_shoppe_operator.models import FacilityUser, ServedModel, Settings
from coffea_shoppe_operator.objectstore import ObjectStore
from coffea_shoppe_operator.scaling import Scaling
from coffea_shoppe_operator.serving import UNAVAILABLE, Serving
from coffea_shoppe_operator.storage import Storage
from coffea_shoppe_operator.triton import Triton

INTERVAL_S = 30
"""A user is looked at so often: what was changed by hand is mended, tokens are renewed."""
RETRY_S = 5
SCALE_S = 15
"""Replicas are looked at so often."""
RESOURCE = (identity.GROUP, identity.VERSION, identity.USERS)
MODELS = (identity.GROUP, identity.VERSION, identity.MODELS)


def register(
    registry: kopf.OperatorRegistry, facility: services.Facility, metrics: Metrics
) -> None:
    """Add the handlers of one facility to a registry."""

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        prefix = f"operator.{identity.GROUP}"
        settings.persistence.finalizer = f"{prefix}/finalizer"
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=prefix)
        settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=prefix)
        settings.posting.enabled = False
        # One namespace and a resource that is there from the start: no right to list
        # namespaces and CRDs is needed.
        settings.scanning.disabled = True
        # A watch is made anew after five minutes at most, and (kopf's default) where not
        # even a bookmark has come for 70 seconds: the API server dropped it unnoticed.
        settings.watching.server_timeout = 300
        settings.watching.client_timeout = 330
        settings.execution.max_workers = 4
        facility.keys(time.time())

    @kopf.on.resume(*RESOURCE, registry=registry)
    @kopf.on.create(*RESOURCE, registry=registry)
    @kopf.on.update(*RESOURCE, registry=registry)
    @kopf.on.timer(*RESOURCE, interval=INTERVAL_S, initial_delay=INTERVAL_S, registry=registry)
    def reconcile(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        if body.metadata.get("deletionTimestamp"):
            return
        try:
            user = FacilityUser.parse(dict(body))
        except ValidationError as error:
            raise kopf.PermanentError(f"this is no FacilityUser: {error}") from error
        try:
            with metrics.seconds.time():
                status = facility.reconcile(user, time.time())
        except StorageError as error:
            metrics.failures.labels("reconcile").inc()
            raise kopf.TemporaryError(str(error), delay=RETRY_S) from error
        metrics.seen(user.name, status.conditions)
        if status != user.status:
            patch.status.update(services.as_patch(status))

    @kopf.on.delete(*RESOURCE, registry=registry)
    def remove(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        remove_user(facility, metrics, body, patch)


def remove_user(
    facility: services.Facility, metrics: Metrics, body: kopf.Body, patch: kopf.Patch
) -> None:
    """Undo a user whose resource is deleted; while that cannot be done, it says why."""
    try:
        facility.remove(FacilityUser.parse(dict(body)), time.time())
    except StorageError as error:
        metrics.failures.labels("remove").inc()
        waits = builders.ready(False, "Removing", f"what the user had cannot go: {error}")
        patch.status["conditions"] = [waits.model_dump(by_alias=True)]
        raise kopf.TemporaryError(str(error), delay=RETRY_S) from error
    metrics.gone(body.metadata["name"])


def register_models(registry: kopf.OperatorRegistry, serving: Serving, metrics: Metrics) -> None:
    """Add the handlers of served models to a registry."""

    @kopf.on.resume(*MODELS, registry=registry)
    @kopf.on.create(*MODELS, registry=registry)
    @kopf.on.update(*MODELS, registry=registry)
    @kopf.on.timer(*MODELS, interval=INTERVAL_S, initial_delay=INTERVAL_S, registry=registry)
    def serve(body: kopf.Body, patch: kopf.Patch, **_: Any) -> None:
        if body.metadata.get("deletionTimestamp"):
            return
        try:
            model = ServedModel.parse(dict(body))
        except ValidationError as error:
            raise kopf.PermanentError(f"this is no ServedModel: {error}") from error
        status = serving.reconcile(model, time.time())
        if status != model.status:
            patch.status.update(services.as_patch(status))
        (condition,) = status.conditions
        if condition.reason == UNAVAILABLE:
            metrics.failures.labels("serve").inc()
            raise kopf.TemporaryError(condition.message, delay=RETRY_S)

    @kopf.on.delete(*MODELS, registry=registry)
    def unserve(body: kopf.Body, **_: Any) -> None:
        try:
            serving.remove(ServedModel.parse(dict(body)), time.time())
        except StorageError as error:
            metrics.failures.labels("serve").inc()
            raise kopf.TemporaryError(str(error), delay=RETRY_S) from error


def keep(what: str, work: Callable[[], None], metrics: Metrics, *, every: float) -> None:
    """Do some work again and again, for ever, whatever becomes of it."""
    while True:
        try:
            work()
        except StorageError as error:
            metrics.failures.labels(what).inc()
            logging.warning("%s: %s", what, error)
            time.sleep(RETRY_S)
        except Exception:
            # Nobody would miss a thread that has ended; what it does not do any more, they do.
            metrics.failures.labels(what).inc()
            logging.exception("%s: tried again in %s s", what, every)
            time.sleep(every)
        else:
            time.sleep(every)


def start_keeping(what: str, work: Callable[[], None], metrics: Metrics, *, every: float) -> None:
    """Do so in a thread that ends with the process."""
    options = {"every": every}
    threading.Thread(
        target=keep, args=(what, work, metrics), kwargs=options, daemon=True, name=what
    ).start()


def main() -> None:
    """Run the operator until the pod ends."""
    parser = argparse.ArgumentParser(description="The operator of a Coffea Shoppe facility.")
    parser.add_argument("--settings", type=Path, default=Path("/etc/coffea-shoppe/operator.yaml"))
    parser.add_argument("--port", type=int, default=8080, help="of the liveness probe")
    parser.add_argument("--metrics-port", type=int, default=9090, help="for Prometheus")
    options = parser.parse_args()
    settings = Settings.load(options.settings)
    # The default one knows how to log in at the cluster.
    registry = kopf.get_default_registry()
    objects = ObjectStore(settings.object_store) if settings.object_store else None
    workspaces = Mlflow(settings.mlflow) if settings.mlflow else None
    cluster, metrics = Storage(), Metrics()
    facility = services.Facility(
        settings,
        cluster,
        objects,
        workspaces,
        deliveries=ServiceX(settings.service_x) if settings.service_x else None,
        health=Health(),
    )
    register(registry, facility, metrics)
    if settings.triton and workspaces and objects:
        triton = Triton(settings.triton)
        serving = Serving(
            settings,
            settings.triton,
            keys=facility.keys,
            users=cluster,
            registry=workspaces,
            repository=objects,
            server=triton,
        )
        register_models(registry, serving, metrics)
        if name := settings.triton.deployment:
            scaling = Scaling(settings, name, keys=facility.keys, cluster=cluster, server=triton)

            def scale() -> None:
                scaling.look(time.time())

            start_keeping("scale", scale, metrics, every=SCALE_S)
    start_http_server(options.metrics_port)
    kopf.configure(verbose=False)
    # Probes, and a line for each user every half minute; what goes wrong is logged.
    for name in ("aiohttp.access", "kopf.objects"):
        logging.getLogger(name).setLevel(logging.WARNING)
    start_keeping("services", facility.keep_services, metrics, every=INTERVAL_S)
    start_keeping("measure", facility.measure, metrics, every=INTERVAL_S)
    asyncio.run(
        kopf.operator(
            registry=registry,
            standalone=True,
            namespaces=[settings.namespace],
            liveness_endpoint=f"http://0.0.0.0:{options.port}/healthz",
        )
    )


if __name__ == "__main__":
    main()
