"""Kubernetes objects; errors of its client become `StorageError`."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any

from coffea_shoppe_contract.resources import API_GROUP, API_VERSION, FACILITY_USERS, SERVED_MODELS
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.utils.quantity import parse_quantity
from urllib3.exceptions import HTTPError

from coffea_shoppe_operator.adapters.dask import PodLimits
from coffea_shoppe_operator.errors import translate_errors
from coffea_shoppe_operator.models import Replicas

TIMEOUT_S = 20
COMPONENT = "app.kubernetes.io/component"


_translated = translate_errors("the cluster", ApiException, HTTPError, OSError)


def _limit(container: client.V1Container, resource: str) -> float:
    """Return a container's limit of a resource; 0 where none is set."""
    return float(parse_quantity((container.resources.limits or {}).get(resource, 0)))


def _or_none(call: Callable[..., Any], *arguments: Any) -> Any:
    """Return the result of a call, or None where the object does not exist."""
    try:
        return call(*arguments, _request_timeout=TIMEOUT_S)
    except ApiException as error:
        if error.status == 404:
            return None
        raise


def _put(create: Callable[..., Any], replace: Callable[..., Any], body: dict[str, Any]) -> None:
    """Create an object, or replace an existing one."""
    name, namespace = (body["metadata"][key] for key in ("name", "namespace"))
    try:
        create(namespace, body, _request_timeout=TIMEOUT_S)
    except ApiException as error:
        if error.status != 409:
            raise
        replace(name, namespace, body, _request_timeout=TIMEOUT_S)


class Storage:
    """Reads and writes Kubernetes objects."""

    def __init__(self) -> None:
        config.load_incluster_config()
        self.core = client.CoreV1Api()
        self.custom = client.CustomObjectsApi()
        self.apps = client.AppsV1Api()
        self.networking = client.NetworkingV1Api()

    @_translated
    def read_secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        """Return the files of a Secret, or None where there is none."""
        secret = _or_none(self.core.read_namespaced_secret, name, namespace)
        if secret is None:
            return None
        return {key: base64.b64decode(value) for key, value in (secret.data or {}).items()}

    @_translated
    def write_secret(self, secret: dict[str, Any]) -> None:
        """Create or replace a Secret."""
        encoded = {key: base64.b64encode(value).decode() for key, value in secret["data"].items()}
        create, replace = self.core.create_namespaced_secret, self.core.replace_namespaced_secret
        _put(create, replace, {**secret, "data": encoded})

    @_translated
    def delete_secret(self, namespace: str, name: str) -> None:
        """Delete a Secret; a missing one is not an error."""
        _or_none(self.core.delete_namespaced_secret, name, namespace)

    @_translated
    def read_policy(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a NetworkPolicy's spec, or None where there is none."""
        policy = _or_none(self.networking.read_namespaced_network_policy, name, namespace)
        if policy is None:
            return None
        spec: dict[str, Any] = self.networking.api_client.sanitize_for_serialization(policy.spec)
        return spec

    @_translated
    def write_policy(self, policy: dict[str, Any]) -> None:
        """Create or replace a NetworkPolicy."""
        api = self.networking
        create, replace = (
            api.create_namespaced_network_policy,
            api.replace_namespaced_network_policy,
        )
        _put(create, replace, policy)

    @_translated
    def delete_policy(self, namespace: str, name: str) -> None:
        """Delete a NetworkPolicy; a missing one is not an error."""
        _or_none(self.networking.delete_namespaced_network_policy, name, namespace)

    @_translated
    def read_replicas(self, namespace: str, name: str) -> Replicas | None:
        """Return the replicas of a Deployment, or None where there is none."""
        deployment = _or_none(self.apps.read_namespaced_deployment, name, namespace)
        if deployment is None:
            return None
        annotations = deployment.metadata.annotations or {}
        ready = deployment.status.ready_replicas or 0
        return Replicas(deployment.spec.replicas, ready, annotations)

    @_translated
    def write_replicas(self, namespace: str, name: str, count: int) -> None:
        """Set the number of replicas of a Deployment."""
        self.apps.patch_namespaced_deployment_scale(
            name, namespace, {"spec": {"replicas": count}}, _request_timeout=TIMEOUT_S
        )

    @_translated
    def read_published(self, namespace: str, name: str) -> dict[str, Any]:
        """Return the published documents, parsed; empty where there are none."""
        published = _or_none(self.core.read_namespaced_config_map, name, namespace)
        documents = (published.data or {}) if published else {}
        return {key: json.loads(text) for key, text in documents.items()}

    @_translated
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
        pods = self.core.list_namespaced_pod(
            namespace,
            label_selector=selector,
            field_selector="status.phase!=Succeeded,status.phase!=Failed",
            _request_timeout=TIMEOUT_S,
        )
        return [pod for pod in pods.items if not pod.metadata.deletion_timestamp]

    @_translated
    def has_pods(self, namespace: str, labels: Mapping[str, str]) -> bool:
        """Return whether a namespace has running pods with these labels."""
        return bool(self._pods(namespace, labels))

    @_translated
    def read_pods(self, namespace: str, labels: Mapping[str, str]) -> list[PodLimits]:
        """Return the limits of the running pods with these labels."""
        return [
            PodLimits(
                component=pod.metadata.labels.get(COMPONENT, ""),
                cores=sum(_limit(container, "cpu") for container in pod.spec.containers),
                memory=sum(_limit(container, "memory") for container in pod.spec.containers),
            )
            for pod in self._pods(namespace, labels)
        ]

    @_translated
    def delete_pods(self, namespace: str, labels: Mapping[str, str]) -> None:
        """Delete all pods with these labels; a missing one is not an error."""
        for pod in self._pods(namespace, labels):
            _or_none(self.core.delete_namespaced_pod, pod.metadata.name, namespace)

    def read_user(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a FacilityUser, or None where there is none."""
        return self.read_resource(namespace, FACILITY_USERS, name)

    def read_model(self, namespace: str, name: str) -> dict[str, Any] | None:
        """Return a ServedModel, or None where there is none."""
        return self.read_resource(namespace, SERVED_MODELS, name)

    @_translated
    def read_resource(self, namespace: str, plural: str, name: str) -> dict[str, Any] | None:
        """Return a custom resource, or None where there is none."""
        path = (API_GROUP, API_VERSION, namespace, plural, name)
        resource: dict[str, Any] | None = _or_none(self.custom.get_namespaced_custom_object, *path)
        return resource

    @_translated
    def write_status(self, namespace: str, plural: str, name: str, status: dict[str, Any]) -> None:
        """Merge a custom resource's status; a missing resource is not an error."""
        path = (API_GROUP, API_VERSION, namespace, plural, name)
        patch = self.custom.patch_namespaced_custom_object_status
        _or_none(patch, *path, {"status": status})

    def list_models(self, namespace: str, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the ServedModels with these labels."""
        return self.list_resources(namespace, SERVED_MODELS, labels)

    @_translated
    def list_resources(
        self, namespace: str, plural: str, labels: Mapping[str, str] | None = None
    ) -> list[dict[str, Any]]:
        """Return the custom resources of a kind with these labels."""
        listing = self.custom.list_namespaced_custom_object(
            *(API_GROUP, API_VERSION, namespace, plural),
            label_selector=",".join(f"{key}={value}" for key, value in (labels or {}).items()),
            _request_timeout=TIMEOUT_S,
        )
        resources: list[dict[str, Any]] = listing["items"]
        return resources

    @_translated
    def write_model(self, model: dict[str, Any]) -> dict[str, Any]:
        """Create a ServedModel, or replace the spec of an existing one; return it."""
        metadata = model["metadata"]
        path = (API_GROUP, API_VERSION, metadata["namespace"], SERVED_MODELS)
        written: dict[str, Any]
        try:
            written = self.custom.create_namespaced_custom_object(
                *path, model, _request_timeout=TIMEOUT_S
            )
        except ApiException as error:
            if error.status != 409:
                raise
            written = self.custom.patch_namespaced_custom_object(
                *path, metadata["name"], {"spec": model["spec"]}, _request_timeout=TIMEOUT_S
            )
        return written

    def delete_model(self, namespace: str, name: str) -> bool:
        """Delete a ServedModel; return whether there was one."""
        return self.delete_resource(namespace, SERVED_MODELS, name)

    @_translated
    def delete_resource(self, namespace: str, plural: str, name: str) -> bool:
        """Delete a custom resource; return whether there was one."""
        path = (API_GROUP, API_VERSION, namespace, plural, name)
        return _or_none(self.custom.delete_namespaced_custom_object, *path) is not None
