"""The cluster, as the services need it; its client's errors become ours."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from coffea_shoppe_contract import identity
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity
from urllib3.exceptions import HTTPError

from coffea_shoppe_operator.errors import telling
from coffea_shoppe_operator.models import PodLimits, Replicas

TIMEOUT_S = 20
COMPONENT = "app.kubernetes.io/component"


_telling = telling("the cluster", ApiException, HTTPError, OSError)


def _limit(container: client.V1Container, resource: str) -> float:
    """Return what a container may take of a resource; 0 where nothing says so."""
    return float(parse_quantity((container.resources.limits or {}).get(resource, 0)))


def _or_none(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a call gives, or None where it finds nothing."""
    try:
        return call(*arguments, _request_timeout=TIMEOUT_S)
    except ApiException as error:
        if error.status == 404:
            return None
        raise


def _put(create: Callable[..., Any], replace: Callable[..., Any], body: dict[str, Any]) -> None:
    """Make an object, or give an old one this content."""
    name, namespace = (body["metadata"][key] for key in ("name", "namespace"))
    try:
        create(namespace, body, _request_timeout=TIMEOUT_S)
    except ApiException as error:
        if error.status != 409:
            raise
        replace(name, namespace, body, _request_timeout=TIMEOUT_S)


class Storage:
    """Reads and writes Kubernetes objects; writes nothing that is there already."""

    def __init__(self) -> None:
        config.load_incluster_config()
        self.core = client.CoreV1Api()
        self.custom = client.CustomObjectsApi()
        self.apps = client.AppsV1Api()
        self.networking = client.NetworkingV1Api()

    @_telling
    def read_secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """Return what a Secret holds, or None where there is none."""
        found = _or_none(self.core.read_namespaced_secret, name, namespace)
        if found is None:
            return None
        return {key: base64.b64decode(value) for key, value in (found.data or {}).items()}

    @_telling
    def write_secret(self, wanted: dict[str, Any]) -> None:
        """Make a Secret, or give an old one the wanted content."""
        encoded = {key: base64.b64encode(value).decode() for key, value in wanted["data"].items()}
        create, replace = self.core.create_namespaced_secret, self.core.replace_namespaced_secret
        _put(create, replace, {**wanted, "data": encoded})

    @_telling
    def delete_secret(self, namespace: str, name: str) -> None:
        """Remove a Secret; one that is gone already is no error."""
        _or_none(self.core.delete_namespaced_secret, name, namespace)

    @_telling
    def read_policy(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a NetworkPolicy's spec, or None where there is none."""
        found = _or_none(self.networking.read_namespaced_network_policy, name, namespace)
        if found is None:
            return None
        spec: dict[str, Any] = self.networking.api_client.sanitize_for_serialization(found.spec)
        return spec

    @_telling
    def write_policy(self, wanted: dict[str, Any]) -> None:
        """Make a NetworkPolicy, or give an old one the wanted spec."""
        api = self.networking
        create, replace = (
            api.create_namespaced_network_policy,
            api.replace_namespaced_network_policy,
        )
        _put(create, replace, wanted)

    @_telling
    def delete_policy(self, namespace: str, name: str) -> None:
        """Remove a NetworkPolicy; one that is gone already is no error."""
        _or_none(self.networking.delete_namespaced_network_policy, name, namespace)

    @_telling
    def read_replicas(self, namespace: str, name: str) -> Replicas | None:
        """Return the replicas of a Deployment, or None where there is none."""
        found = _or_none(self.apps.read_namespaced_deployment, name, namespace)
        if found is None:
            return None
        told = found.metadata.annotations or {}
        return Replicas(found.spec.replicas, found.status.ready_replicas or 0, told)

    @_telling
    def write_replicas(self, namespace: str, name: str, count: int) -> None:
        """Ask for so many replicas of a Deployment."""
        self.apps.patch_namespaced_deployment_scale(
            name, namespace, {"spec": {"replicas": count}}, _request_timeout=TIMEOUT_S
        )

    @_telling
    def read_published(self, namespace: str, name: str) -> dict[str, Any]:
        """Return the published documents, parsed; empty where there are none."""
        found = _or_none(self.core.read_namespaced_config_map, name, namespace)
        held = (found.data or {}) if found else {}
        return {key: json.loads(text) for key, text in held.items()}

    @_telling
    def write_published(
        self, namespace: str, name: str, documents: Mapping[str, Any], labels: Mapping[str, str]
    ) -> None:
        """Publish the documents."""
        body = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
            "data": {key: json.dumps(value, sort_keys=True) for key, value in documents.items()},
        }
        create = self.core.create_namespaced_config_map
        _put(create, self.core.replace_namespaced_config_map, body)

    def _pods(self, namespace: str, labels: Mapping[str, str]) -> list[client.V1Pod]:
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        found = self.core.list_namespaced_pod(
            namespace,
            label_selector=selector,
            field_selector="status.phase!=Succeeded,status.phase!=Failed",
            _request_timeout=TIMEOUT_S,
        )
        return [pod for pod in found.items if not pod.metadata.deletion_timestamp]

    @_telling
    def has_pods(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Return whether a namespace has pods with these labels that neither ended nor end."""
        return bool(self._pods(namespace, labels))

    @_telling
    def read_pods(self, namespace: str, labels: Mapping[str, str]) -> list[PodLimits]:
        """Return what the pods with these labels may take, those that ended or end left out."""
        return [
            PodLimits(
                component=pod.metadata.labels.get(COMPONENT, ""),
                cores=sum(_limit(container, "cpu") for container in pod.spec.containers),
                memory=sum(_limit(container, "memory") for container in pod.spec.containers),
            )
            for pod in self._pods(namespace, labels)
        ]

    @_telling
    def delete_pods(self, namespace: str, labels: Mapping[str, str]) -> None:
        """Stop all pods with these labels; one that is gone already is no error."""
        for pod in self._pods(namespace, labels):
            _or_none(self.core.delete_namespaced_pod, pod.metadata.name, namespace)

    @_telling
    def read_user(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a FacilityUser, or None where there is none."""
        return self._read(identity.USERS, namespace, name)

    @_telling
    def read_model(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a ServedModel, or None where there is none."""
        return self._read(identity.MODELS, namespace, name)

    def _read(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
        where = (identity.GROUP, identity.VERSION, namespace, plural, name)
        found: dict[str, Any] | None = _or_none(self.custom.get_namespaced_custom_object, *where)
        return found

    @_telling
    def list_models(self, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the ServedModels with these labels."""
        found = self.custom.list_namespaced_custom_object(
            *(identity.GROUP, identity.VERSION, namespace, identity.MODELS),
            label_selector=",".join(f"{key}={value}" for key, value in labels.items()),
            _request_timeout=TIMEOUT_S,
        )
        items: list[dict[str, Any]] = found["items"]
        return items

    @_telling
    def write_model(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Make a ServedModel, or give an old one the wanted spec; return it."""
        metadata = wanted["metadata"]
        where = (identity.GROUP, identity.VERSION, metadata["namespace"], identity.MODELS)
        found: dict[str, Any]
        try:
            found = self.custom.create_namespaced_custom_object(
                *where, wanted, _request_timeout=TIMEOUT_S
            )
        except ApiException as error:
            if error.status != 409:
                raise
            found = self.custom.patch_namespaced_custom_object(
                *where, metadata["name"], {"spec": wanted["spec"]}, _request_timeout=TIMEOUT_S
            )
        return found

    @_telling
    def delete_model(self, namespace: str, name: str) -> bool:
        """Remove a ServedModel; return whether there was one."""
        where = (identity.GROUP, identity.VERSION, namespace, identity.MODELS, name)
        return _or_none(self.custom.delete_namespaced_custom_object, *where) is not None
