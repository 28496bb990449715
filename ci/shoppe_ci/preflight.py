"""`ci/shoppe doctor --cluster`: what a cluster lacks for a release that is not installed yet."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import kubernetes.config
import yaml
from coffea_shoppe_preflight import before_install, objects
from coffea_shoppe_preflight.bounded import Check, run_all
from coffea_shoppe_preflight.findings import Finding, broken, verdict
from coffea_shoppe_preflight.settings import Settings
from coffea_shoppe_preflight.snapshot import ApiServer, Snapshot, read

from shoppe_ci import release
from shoppe_ci.errors import ShoppeError

SETTINGS = "preflight.yaml"
"""The key of the ConfigMap with the preflight's settings."""
TIMEOUT_S = 120
"""For all requests together."""
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """Lines for the administrator, and whether the release can be installed."""

    lines: list[str]
    passed: bool


def settings_of(manifests: list[Manifest]) -> Settings:
    """Return what the preflight of a rendered release would look at."""
    (text,) = (
        manifest["data"][SETTINGS]
        for manifest in manifests
        if manifest["kind"] == "ConfigMap" and SETTINGS in (manifest.get("data") or {})
    )
    return Settings.model_validate(yaml.safe_load(text))


def _checks(
    manifests: list[Manifest], settings: Settings, snapshot: Snapshot, server: ApiServer
) -> Iterator[Check]:
    """Yield what is checked in the cluster."""
    chart = yaml.safe_load((release.UMBRELLA / "Chart.yaml").read_text())

    def version() -> Iterator[Finding]:
        content, _ = server.get("/version")
        yield from before_install.kubernetes(content["gitVersion"], chart["kubeVersion"])

    namespace = settings.namespace
    rights = partial(before_install.rights, manifests, namespace, server.get, server.create)
    storage = partial(before_install.storage, manifests, snapshot)
    definitions = partial(before_install.definitions, manifests, snapshot, settings)
    quotas = partial(before_install.quotas, manifests, snapshot, settings)
    yield Check("cluster", "the version", version)
    yield Check("cluster", "the storage classes", storage)
    yield Check("operator", "the definitions of resources", definitions)
    yield Check("cluster", "the quotas", quotas)
    yield Check("nodes", "the clocks", partial(objects.clocks, snapshot, settings))
    yield Check("cluster", "the rights to install", rights)
    yield Check("dns", "the pods of DNS", partial(before_install.dns, server.get))


def examine(
    *values: release.Values,
    kubeconfig: Path | None,
    name: str,
    namespace: str,
    registry: bool,
) -> Outcome:
    """Compare a cluster with what a release with these values needs.

    Without a kubeconfig file it is the cluster that kubectl uses.  With `registry` this machine
    looks for each image.  Raises `ShoppeError` where Helm refuses the values, or there is no
    cluster.
    """

    def render(*more: release.Values) -> list[Manifest]:
        text = release.render(*values, *more, release=name, namespace=namespace)
        return [manifest for manifest in yaml.load_all(text, yaml.CSafeLoader) if manifest]

    manifests = render()
    # The preflight's settings say what the release has; where it is off, its objects do not count.
    settings = settings_of(render({"preflight": {"enabled": True}}))
    try:
        server = ApiServer(str(kubeconfig or ""))
        snapshot = read(server.get, settings.namespaces, cluster_wide=True)
    except (kubernetes.config.ConfigException, OSError) as error:
        raise ShoppeError(
            f"no cluster responds: {error}", "set KUBECONFIG, or --kubeconfig"
        ) from error
    checks = list(_checks(manifests, settings, snapshot, server))
    if registry:
        checks += [
            Check(component, image, partial(before_install.image, component, image))
            for image, component in before_install.images(manifests).items()
        ]
    findings = run_all(checks, TIMEOUT_S)
    components = ["cluster", "nodes", "dns", *settings.components]
    lines = verdict(components, findings, snapshot.unread)
    return Outcome(lines, passed=not broken(findings))
