"""What rendered objects name, and whether it is there."""

import re
from collections.abc import Iterator
from typing import Any

import yaml
from rendering import NAMESPACE, Manifest, files, generated_secrets, pod_specs

PORTS = {"http": 80, "https": 443}
HOST = re.compile(
    rf"(?:\b(?P<scheme>[a-z]+)://)?\b(?P<name>[a-z0-9]+(?:-+[a-z0-9]+)*)\.(?P<namespace>{NAMESPACE}"
    r"(?:-dask)?)(?:\.svc)?(?:\.cluster\.local)?(?::(?P<port>\d+))?(?![-\w.])"
)
"""An address within the release, in any text."""
OF_THE_CLUSTER = ("kube-node-lease",)
"""Namespaces that every cluster has, and a release has objects in."""


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for value in node.values():
            yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)
    elif isinstance(node, str):
        yield node


class Release:
    """The objects of a rendered release, by kind, namespace and name."""

    def __init__(self, manifests: list[Manifest]) -> None:
        self.manifests = manifests
        self.objects = {(m["kind"], self.namespace(m), m["metadata"]["name"]): m for m in manifests}
        for name, keys in generated_secrets(manifests).items():
            self.objects["Secret", NAMESPACE, name] = {"data": keys}
        self.namespaces = {NAMESPACE, *OF_THE_CLUSTER} | {
            m["metadata"]["name"] for m in manifests if m["kind"] == "Namespace"
        }
        settings = self.settings("operator", "operator.yaml")
        made = [*(settings.get("objectStore") or {}).get("services", {}).values()]
        made += [settings[key] for key in ("keysSecret", "published") if key in settings]
        self.made = set(made)
        """Names of what the operator makes."""

    @staticmethod
    def namespace(manifest: Manifest) -> str:
        """Return where an object is; the release's own where it does not say so."""
        return str(manifest["metadata"].get("namespace", NAMESPACE))

    def text(self, component: str, file: str) -> str:
        """Return a file of a component's ConfigMap or Secret; "" where it is not there."""
        for manifest in self.manifests:
            labels = manifest["metadata"].get("labels", {})
            if (
                manifest["kind"] in ("ConfigMap", "Secret")
                and labels.get("app.kubernetes.io/component") == component
                and file in manifest["data"]
            ):
                return files(manifest)[file]
        return ""

    def settings(self, component: str, file: str) -> dict[str, Any]:
        """Return a component's settings; {} where it is not there."""
        return yaml.safe_load(self.text(component, file)) or {}

    def has(self, kind: str, namespace: str, name: str) -> bool:
        """Return whether there is such an object."""
        return (kind, namespace, name) in self.objects

    def dangling(self) -> list[str]:
        """Return what is named and not there, each with who names it."""
        references = [*self._namespaces(), *self._pods(), *self._roles(), *self._hosts()]
        return sorted({*references, *self._menu(), *self._services()})

    def _namespaces(self) -> Iterator[str]:
        for manifest in self.manifests:
            if self.namespace(manifest) not in self.namespaces:
                yield f"{manifest['metadata']['name']}: namespace {self.namespace(manifest)}"
        for namespace in self.settings("operator", "operator.yaml").get("userNamespaces", []):
            if namespace not in self.namespaces:
                yield f"operator: namespace {namespace}"

    def _secret(self, namespace: str, name: str, keys: list[str]) -> Iterator[str]:
        if name in self.made:
            return
        if not self.has("Secret", namespace, name):
            yield f"Secret {name}"
            return
        entries = self.objects["Secret", namespace, name]["data"]
        yield from (f"key {key} of Secret {name}" for key in keys if key not in entries)

    def _pods(self) -> Iterator[str]:
        workloads = {
            m["metadata"]["name"]: m
            for m in self.manifests
            if m["kind"] == "Pod" or {"template", "jobTemplate"} & _spec(m).keys()
        }
        for name, _, spec in pod_specs(self.manifests):
            namespace = self.namespace(workloads[name])
            account = spec.get("serviceAccountName")
            if account and not self.has("ServiceAccount", namespace, account):
                yield f"{name}: ServiceAccount {account}"
            for volume in spec.get("volumes", ()):
                # What a server may start without, it still misses.
                hook = workloads[name]["kind"] == "Pod"
                for problem in self._volume(namespace, volume, optional=hook):
                    yield f"{name}: {problem}"
            for container in [*spec["containers"], *spec.get("initContainers", [])]:
                for variable in container.get("env", ()):
                    if source := variable.get("valueFrom", {}).get("secretKeyRef"):
                        keys = [source["key"]]
                        for problem in self._secret(namespace, source["name"], keys):
                            yield f"{name}: {problem}"

    def _volume(self, namespace: str, volume: Manifest, *, optional: bool) -> Iterator[str]:
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        for source in sources:
            if (secret := source.get("secret")) and not (optional and secret.get("optional")):
                keys = [entry["key"] for entry in secret.get("items", ())]
                name = secret.get("secretName") or secret["name"]
                yield from self._secret(namespace, name, keys)
            if (config := source.get("configMap")) and not self.has(
                "ConfigMap", namespace, config["name"]
            ):
                yield f"ConfigMap {config['name']}"
            if (claim := source.get("persistentVolumeClaim")) and not self.has(
                "PersistentVolumeClaim", namespace, claim["claimName"]
            ):
                yield f"PersistentVolumeClaim {claim['claimName']}"

    def _roles(self) -> Iterator[str]:
        for manifest in self.manifests:
            where, name = self.namespace(manifest), manifest["metadata"]["name"]
            for rule in manifest.get("rules", ()):
                for resource in rule.get("resourceNames", ()):
                    kinds = {"deployments": "Deployment", "deployments/scale": "Deployment"}
                    kinds["secrets"] = "Secret"
                    kind = kinds.get(rule["resources"][0], rule["resources"][0])
                    if resource not in self.made and not self.has(kind, where, resource):
                        yield f"{name}: {kind} {resource}"
            if manifest["kind"] not in ("RoleBinding", "ClusterRoleBinding"):
                continue
            role = manifest["roleRef"]
            if not any(
                (role["kind"], namespace, role["name"]) in self.objects
                for namespace in {where, NAMESPACE}
            ):
                yield f"{name}: {role['kind']} {role['name']}"
            for subject in manifest["subjects"]:
                if not self.has(subject["kind"], subject["namespace"], subject["name"]):
                    yield f"{name}: {subject['kind']} {subject['name']}"

    def _hosts(self) -> Iterator[str]:
        for manifest in self.manifests:
            texts = list(_texts(manifest))
            if manifest["kind"] == "Secret":
                texts = list(files(manifest).values())
            for match in (match for text in texts for match in HOST.finditer(text)):
                if problem := self._host(**match.groupdict()):
                    yield f"{manifest['kind']} {manifest['metadata']['name']}: {problem}"

    def _host(self, scheme: str | None, name: str, namespace: str, port: str | None) -> str:
        service = self.objects.get(("Service", namespace, name))
        if service is None:
            return f"Service {name}.{namespace}"
        number = int(port) if port else PORTS.get(scheme or "")
        if number and number not in [entry["port"] for entry in service["spec"]["ports"]]:
            return f"port {number} of Service {name}.{namespace}"
        return ""

    def _menu(self) -> Iterator[str]:
        """Yield the hub's services that lead to Traefik, which has no such page."""
        routes = "".join(
            manifest["data"].get("routes.yaml", "")
            for manifest in self.manifests
            if manifest["kind"] == "ConfigMap"
        )
        hub = self.settings("hub", "settings.yaml")
        for name, service in hub.get("values", {}).get("hub", {}).get("services", {}).items():
            traefik = "-dask-traefik." in service.get("url", "")
            if traefik and f"PathPrefix(`/services/{name}/" not in routes:
                yield f"hub: page of {name}"
        for name in hub.get("names", {}).values():
            if name != hub["names"]["instance"] and not self.has("Service", NAMESPACE, name):
                yield f"hub: Service {name}"

    def _services(self) -> Iterator[str]:
        for manifest in self.manifests:
            if manifest["kind"] == "StatefulSet":
                name = manifest["spec"]["serviceName"]
                if not self.has("Service", self.namespace(manifest), name):
                    yield f"{manifest['metadata']['name']}: Service {name}"
            labels = manifest["metadata"].get("labels", {})
            database = labels.get("app.kubernetes.io/name") == "postgresql"
            if manifest["kind"] == "NetworkPolicy" and database:
                yield from self._clients(manifest)

    def _clients(self, policy: Manifest) -> Iterator[str]:
        key = "app.kubernetes.io/component"
        present = {pod["metadata"]["labels"][key] for _, pod, _ in pod_specs(self.manifests)}
        for rule in policy["spec"]["ingress"]:
            for peer in rule["from"]:
                component = peer["podSelector"]["matchLabels"][key]
                # The job that dumps the databases is there during an upgrade.
                if component not in {*present, "backup"}:
                    yield f"{policy['metadata']['name']}: component {component}"


def _spec(manifest: Manifest) -> Manifest:
    spec = manifest.get("spec")
    return spec if isinstance(spec, dict) else {}
