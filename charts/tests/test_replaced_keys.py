"""Each key that the facility fills is refused if it is set, or may be set on purpose."""

from collections.abc import Iterator
from typing import Any

import yaml
from rendering import CHARTS

UMBRELLA = CHARTS / "coffea-shoppe"
MAY_BE_SET = (
    # Variables of users' code.
    "global.environment.",
    "jupyterhub.singleuser.environment.",
    # Menu entries, which an administrator may remove; validation.yaml names those that are needed.
    "jupyterhub.hub.services.",
    # A gateway with another login, and Traefik with further pages.
    "dask-gateway.gateway.auth.jupyterhub.apiUrl",
    "dask-gateway.traefik.authorize",
    "dask-gateway.traefik.pages",
    # Switches of what users get from the operator.
    "dask-gateway.gateway.backend.userSecrets",
    "dask-gateway.gateway.limits.facilityUsers",
    "jupyterhub.hub.facilityUsers.enabled",
    "servicex.transformer.dedicated.userSecrets",
    # Databases, stores, a cache and a namespace of one service only.
    "mlflow.artifactRoot.s3.bucket",
    "mlflow.artifactRoot.s3.existingSecret",
    "mlflow.backendStore.existingDatabaseSecret",
    "postgresql.databases",
    "postgresql.networkPolicy.clients",
    "servicex.objectStore.bucket",
    "servicex.objectStore.endpoint",
    "servicex.objectStore.existingSecret",
    "servicex.postgres.existingDatabaseSecret",
    "servicex.transformer.cachePrefix",
    "servicex.transformer.dedicated.namespace",
    # validation.yaml compares it with global.services.jupyterhub.subdomainHost.
    "jupyterhub.hub.config.JupyterHub.subdomain_host",
)
"""Keys, or their beginnings, which an administrator may set in addition to global.services."""


def texts(values: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield the dotted path and the text of each text in values."""
    if isinstance(values, dict):
        for key, value in values.items():
            yield from texts(value, f"{path}.{key}".removeprefix("."))
    elif isinstance(values, str):
        yield path, values


def replaced() -> set[str]:
    """Return the keys that the umbrella refuses."""
    text = (UMBRELLA / "templates" / "_replaced.tpl").read_text()
    _, _, body = text.partition('{{- define "shoppe.facility.replaced" -}}')
    return set(yaml.safe_load(body.partition("{{- end -}}")[0]))


def filled() -> set[str]:
    """Return the keys that the umbrella fills.

    A service that is added later needs no line here: keys of a chart of which none is refused, and
    of the operator's adapter, are left out.
    """
    charts = {"global", *(key.partition(".")[0] for key in replaced())}
    calls = ("shoppe.facility.", ".Values.global.")
    values = yaml.safe_load((UMBRELLA / "values.yaml").read_text())
    return {
        path
        for path, text in texts(values)
        if path.partition(".")[0] in charts
        and not path.startswith("operator.services.")
        and any(call in text for call in calls)
    }


def test_each_key_that_the_facility_fills_is_refused_or_may_be_set() -> None:
    assert replaced() <= filled()
    others = filled() - replaced()
    assert [path for path in sorted(others) if not path.startswith(MAY_BE_SET)] == []
    unused = [key for key in MAY_BE_SET if not any(path.startswith(key) for path in others)]
    assert unused == []
