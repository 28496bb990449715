"""What a cluster lacks for a release that is not installed yet: from its rendered manifests."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import requests
from kubernetes.utils.quantity import parse_quantity

from coffea_shoppe_preflight import objects
from coffea_shoppe_preflight.findings import Cause, Finding
from coffea_shoppe_preflight.settings import Settings
from coffea_shoppe_preflight.snapshot import AbsentError, ForbiddenError, Object, Snapshot

WORKLOADS = ("Deployment", "StatefulSet")
WITH_PODS = (*WORKLOADS, "DaemonSet", "Job", "CronJob")
REGISTRY_TIMEOUT_S = 10
MANIFEST_TYPES = ", ".join(
    f"application/vnd.{kind}+json"
    for kind in (
        "oci.image.index.v1", "oci.image.manifest.v1",
        "docker.distribution.manifest.list.v2", "docker.distribution.manifest.v2",
    )
)  # fmt: skip
DNS_SERVICE = "/api/v1/namespaces/kube-system/services/kube-dns"
DNS_PODS = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns"


def bytes_or_cores(quantity: str | int | float) -> float:
    """Return a quantity of Kubernetes as a number: bytes, CPU cores, or pods."""
    return float(parse_quantity(quantity))


def kubernetes(version: str, required: str) -> Iterator[Finding]:
    """Compare the API server's version, v1.36.3, with the chart's kubeVersion, >=1.29.0-0."""
    have, need = (
        tuple(int(number) for number in re.findall(r"\d+", text)[:2])
        for text in (version, required)
    )
    if have < need:
        yield Finding("cluster", Cause.OLD_KUBERNETES, f"{version}; the chart requires {required}")


def storage(manifests: Iterable[Object], snapshot: Snapshot) -> Iterator[Finding]:
    """Yield claims for which the cluster has no storage class."""
    for manifest in manifests:
        claims = []
        if manifest["kind"] == "PersistentVolumeClaim":
            claims = [manifest]
        elif manifest["kind"] == "StatefulSet":
            claims = manifest["spec"].get("volumeClaimTemplates") or []
        for claim in claims:
            wish = claim["spec"].get("storageClassName")
            if problem := objects.storage_class_problem(wish, snapshot):
                detail = f"claim {claim['metadata']['name']} needs {problem}"
                yield Finding(objects.component(manifest), Cause.NO_STORAGE_CLASS, detail)


def definitions(
    manifests: Iterable[Object], snapshot: Snapshot, settings: Settings
) -> Iterator[Finding]:
    """Yield definitions of an older release, and those that neither is there nor will be."""
    created = {m["metadata"]["name"] for m in manifests if m["kind"] == "CustomResourceDefinition"}
    others = [thing for thing in snapshot.definitions if not _of_this_release(thing, settings)]
    rest = replace(snapshot, definitions=others)
    for finding in objects.definitions(rest, settings):
        if finding.cause == Cause.CRD_OLD or finding.detail not in created:
            yield finding


def _of_this_release(definition: Object, settings: Settings) -> bool:
    notes = definition["metadata"].get("annotations") or {}
    return (
        notes.get("meta.helm.sh/release-name") == settings.release
        and notes.get("meta.helm.sh/release-namespace") == settings.namespace
    )


def needs(
    manifests: Iterable[Object], namespace: str, of_release: str, default_class: str
) -> dict[str, float]:
    """Return what the pods of a namespace use of a ResourceQuota: names of its `hard`.

    `of_release` is the namespace of manifests that name none, `default_class` the StorageClass of
    claims that name none.
    """
    total: dict[str, float] = defaultdict(float)
    for manifest in manifests:
        if manifest["metadata"].get("namespace", of_release) != namespace:
            continue
        replicas = manifest.get("spec", {}).get("replicas", 1)
        claims = [manifest] if manifest["kind"] == "PersistentVolumeClaim" else []
        if manifest["kind"] == "StatefulSet":
            claims = (manifest["spec"].get("volumeClaimTemplates") or []) * replicas
        for claim in claims:
            size = bytes_or_cores(claim["spec"]["resources"]["requests"]["storage"])
            of_class = claim["spec"].get("storageClassName") or default_class
            for prefix in ("", f"{of_class}.storageclass.storage.k8s.io/"):
                total[f"{prefix}persistentvolumeclaims"] += 1
                total[f"{prefix}requests.storage"] += size
        if manifest["kind"] not in WORKLOADS:
            continue
        total["pods"] += replicas
        for container in manifest["spec"]["template"]["spec"]["containers"]:
            for kind, amounts in (container.get("resources") or {}).items():
                for resource, amount in (amounts or {}).items():
                    total[f"{kind}.{resource}"] += replicas * bytes_or_cores(amount)
    return total


def quotas(manifests: list[Object], snapshot: Snapshot, settings: Settings) -> Iterator[Finding]:
    """Yield quotas that leave too little for the release's pods and volumes.

    One that is for some pods only (`scopes`) says nothing of the release as a whole.
    """
    for quota in snapshot.quotas:
        spec = quota.get("spec") or {}
        if spec.get("scopes") or spec.get("scopeSelector"):
            continue
        name, namespace = quota["metadata"]["name"], quota["metadata"]["namespace"]
        default_class = objects.default_class(snapshot)
        wish = needs(manifests, namespace, settings.namespace, default_class)
        hard, used = quota["status"].get("hard") or {}, quota["status"].get("used") or {}
        for resource, most in hard.items():
            # A quota of `cpu` limits requests.
            key = f"requests.{resource}" if resource in ("cpu", "memory") else resource
            needed = wish.get(key, 0.0)
            free = bytes_or_cores(most) - bytes_or_cores(used.get(resource, 0))
            if needed > max(free, 0):
                detail = f"{namespace}/{name} leaves {free:g} of {resource}, {needed:g} are needed"
                yield Finding("cluster", Cause.QUOTA_EXCEEDED, detail)


def rights(
    manifests: Iterable[Object],
    namespace: str,
    get: Callable[[str], tuple[Object, Any]],
    review: Callable[[str, Object], Object],
) -> Iterator[Finding]:
    """Yield kinds of objects that this user may not create, or that the cluster does not know."""
    known: dict[str, dict[str, tuple[str, bool]]] = {}
    # The release itself is a Secret.
    kinds = {("v1", "Secret", namespace): "helm"}
    for manifest in manifests:
        its = manifest["metadata"].get("namespace", namespace)
        kinds[(manifest["apiVersion"], manifest["kind"], its)] = objects.component(manifest)
    for (version, kind, its), component in kinds.items():
        if version not in known:
            known[version] = _resources(version, get)
        if kind not in known[version]:
            detail = f"the cluster does not know {kind} of {version}"
            yield Finding(component, Cause.CRD_MISSING, detail)
            continue
        resource, namespaced = known[version][kind]
        attributes = {
            "group": version.rpartition("/")[0],
            "resource": resource,
            "verb": "create",
            **({"namespace": its} if namespaced else {}),
        }
        answer = review(
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            },
        )
        if not answer["status"]["allowed"]:
            where = f"in {its}" if namespaced else "in the cluster"
            yield Finding("cluster", Cause.INSTALL_RIGHT, f"to create {resource} {where}")


def _resources(
    version: str, get: Callable[[str], tuple[Object, Any]]
) -> dict[str, tuple[str, bool]]:
    """Return kind → plural, and whether it is in namespaces, of a version of the API."""
    prefix = "/apis" if "/" in version else "/api"
    try:
        content, _ = get(f"{prefix}/{version}")
    except AbsentError:
        return {}
    return {
        entry["kind"]: (entry["name"], entry["namespaced"])
        for entry in content["resources"]
        if "/" not in entry["name"]
    }


def dns(get: Callable[[str], tuple[Object, Any]]) -> Iterator[Finding]:
    """Look for a ready pod of the cluster's DNS, where it is kube-dns and may be looked at."""
    try:
        get(DNS_SERVICE)
        content, _ = get(DNS_PODS)
    except (AbsentError, ForbiddenError):
        return
    if not any(objects.ready(pod) for pod in content["items"]):
        yield Finding("dns", Cause.DNS_AWAY, "kube-system has no ready pod with k8s-app=kube-dns")


def images(manifests: Iterable[Object]) -> dict[str, str]:
    """Return image → component, for all images of the release's workloads and jobs."""
    references = {}
    for manifest in manifests:
        if manifest["kind"] in WITH_PODS:
            job = manifest["spec"].get("jobTemplate") or manifest
            spec = job["spec"]["template"]["spec"]
            for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
                references[container["image"]] = objects.component(manifest)
    return references


def image(component: str, reference: str, scheme: str = "https") -> Iterator[Finding]:
    """Look for an image in its registry, from this machine and without credentials.

    A registry that wants credentials says nothing of the image; then there is no finding.
    """
    registry, _, name = reference.partition("/")
    name, _, version = name.partition("@") if "@" in name else name.rpartition(":")
    url = f"{scheme}://{registry}/v2/{name}/manifests/{version}"
    headers = {"Accept": MANIFEST_TYPES}
    try:
        response = requests.head(url, headers=headers, timeout=REGISTRY_TIMEOUT_S)
        challenge = response.headers.get("WWW-Authenticate", "")
        if response.status_code == 401 and challenge.startswith("Bearer "):
            headers["Authorization"] = f"Bearer {_anonymous_token(challenge)}"
            response = requests.head(url, headers=headers, timeout=REGISTRY_TIMEOUT_S)
    except requests.RequestException as error:
        yield Finding(component, Cause.IMAGE_MISSING, f"{registry} does not respond: {error}")
        return
    if response.status_code == 404:
        yield Finding(component, Cause.IMAGE_MISSING, f"{registry} has no {reference}")


def _anonymous_token(challenge: str) -> str:
    """Return the token that a registry gives to everybody; '' if it gives none.

    Source: the distribution specification.
    """
    fields = dict(re.findall(r'(\w+)="([^"]*)"', challenge))
    if not (realm := fields.pop("realm", "")):
        return ""
    response = requests.get(realm, params=fields, timeout=REGISTRY_TIMEOUT_S)
    try:
        content = response.json() if response.ok else {}
    except ValueError:
        return ""
    return str(content.get("token") or content.get("access_token") or "")
