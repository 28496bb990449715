"""Kubernetes objects against the schemas of the API, without a cluster.

Built-in kinds have the schemas of `kubernetes_validate`; custom kinds have that of their
CustomResourceDefinition.  An unknown field is a problem, as for `kubectl --validate=strict`.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft4Validator, Draft202012Validator
from jsonschema.protocols import Validator
from kubernetes_validate import utils
from referencing import Registry, Resource
from referencing.jsonschema import Schema, SchemaRegistry
from shoppe_ci import engine
from shoppe_ci.paths import CHARTS

Manifest = Mapping[str, Any]

_ACCEPTED = yaml.safe_load((CHARTS / "coffea-shoppe" / "Chart.yaml").read_text())["kubeVersion"]
VERSIONS = [
    _ACCEPTED.removeprefix(">=").removesuffix("-0"),
    engine.pins()["kubernetes"]["version"],
]
"""Of Kubernetes: the oldest that the charts accept, and that of the tests' cluster.

kubernetes-validate has both minor versions; of one that it lacks, its newest older one counts.
"""
DEFINITIONS = "https://kubernetes.io/api/_definitions.json"
OBJECT_META = f"{DEFINITIONS}#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
OPEN = "x-kubernetes-preserve-unknown-fields"
FREE_TEXT = ("annotations", "data")
"""Built-in kinds' maps of any text, where each rendering has other secrets and checksums."""


def check(manifests: Iterable[Manifest], definitions: Collection[Manifest] = ()) -> None:
    """Fail a test whose objects the API would refuse."""
    refused = [refusal for manifest in manifests for refusal in refusals(manifest, definitions)]
    if refused:
        raise AssertionError("\n".join(["Kubernetes would refuse these objects:", *refused]))


def refusals(manifest: Manifest, definitions: Collection[Manifest] = ()) -> list[str]:
    """Return what the API of the supported versions refuses in an object, each with its field.

    `definitions` are the CustomResourceDefinitions that the cluster has.
    """
    custom = _custom_schema(manifest, definitions)
    schema = None if custom is None else json.dumps(custom)
    content = json.dumps(_significant(manifest, () if custom else FREE_TEXT), sort_keys=True)
    name = f"{manifest['kind']} {manifest['metadata'].get('name', '(no name)')}"
    return [
        f"{name}: {refusal} (Kubernetes {version})"
        for version in map(_bundled, VERSIONS)
        for refusal in _refusals(content, schema, version)
    ]


@cache
def _bundled(version: str) -> str:
    """Return the newest version whose schemas there are, and that is not above `version`."""
    known: list[str] = utils.all_versions()
    usable = [other for other in known if _minor(other) <= _minor(version)]
    if not usable:
        raise ValueError(f"kubernetes-validate knows {known[0]} and newer, not {version}")
    return max(usable, key=_minor)


def _minor(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.removeprefix("v").split(".")[:2])


def _significant(node: Any, free: Collection[str], key: str = "") -> Any:
    """Return what a schema can object to: no nulls, which the API drops, and no free text."""
    if isinstance(node, Mapping):
        return {
            name: "" if key in free and isinstance(value, str) else _significant(value, free, name)
            for name, value in node.items()
            if value is not None
        }
    return [_significant(entry, free) for entry in node] if isinstance(node, list) else node


# Most objects are in many renderings; each is checked once.
@cache
def _refusals(manifest: str, custom: str | None, version: str) -> tuple[str, ...]:
    content = json.loads(manifest)
    if custom is None:
        validator = _built_in(content["kind"], content["apiVersion"], version)
    else:
        validator = _custom(custom, version)
    if validator is None:
        return (f"there is no kind {content['kind']} in {content['apiVersion']}",)
    errors = validator.iter_errors(content)
    return tuple(f"{error.json_path}: {error.message}" for error in errors)


@cache
def _registry(version: str) -> SchemaRegistry:
    definitions: Schema = _contents("_definitions.json", version)
    return Resource.from_contents(definitions) @ Registry()


def _contents(file: str, version: str) -> Any:
    folder = f"kubernetes-json-schema/v{version}-local-strict"
    return utils.schema_contents(f"{folder}/{file}", version)


@cache
def _built_in(kind: str, api: str, version: str) -> Validator | None:
    """Return the validator of a built-in kind; None where Kubernetes has no such kind."""
    group, _, group_version = api.rpartition("/")
    # The files are named by the first part of the group: deployment-apps-v1.json.
    parts = [kind.lower(), *filter(None, [group.partition(".")[0]]), group_version]
    try:
        schema = _contents(f"{'-'.join(parts)}.json", version)
    except FileNotFoundError:
        return None
    kinds = schema.get("x-kubernetes-group-version-kind", [])
    if {"group": group, "version": group_version, "kind": kind} not in kinds:
        return None
    return Draft202012Validator(schema, registry=_registry(version))


@cache
def _custom(schema: str, version: str) -> Validator:
    # Of Draft 4, as in OpenAPI 3.0, is a boolean `exclusiveMinimum`.
    return Draft4Validator(json.loads(schema), registry=_registry(version))


def _custom_schema(manifest: Manifest, definitions: Collection[Manifest]) -> Any:
    """Return the JSON schema of a custom kind, None where no definition has the kind."""
    group, _, api_version = manifest["apiVersion"].rpartition("/")
    for definition in definitions:
        spec = definition["spec"]
        if (spec["group"], spec["names"]["kind"]) != (group, manifest["kind"]):
            continue
        for served in spec["versions"]:
            if served["name"] == api_version and served["served"]:
                schema = _closed(served["schema"]["openAPIV3Schema"])
                own = {"apiVersion": {}, "kind": {}, "metadata": {"$ref": OBJECT_META}}
                return {**schema, "properties": {**schema.get("properties", {}), **own}}
    return None


def _closed(schema: Manifest) -> dict[str, Any]:
    """Return a structural schema as a JSON schema: what it does not name is refused.

    Kubernetes' rules: an object is open where the schema says so, or describes other fields;
    nothing below `allOf`, `anyOf`, `oneOf` and `not` adds fields.
    """
    closed = dict(schema)
    if "properties" in schema:
        closed["properties"] = {
            name: _closed(below) for name, below in schema["properties"].items()
        }
    if "items" in schema:
        closed["items"] = _closed(schema["items"])
    if isinstance(schema.get("additionalProperties"), Mapping):
        closed["additionalProperties"] = _closed(schema["additionalProperties"])
    elif schema.get("type") == "object" and not schema.get(OPEN):
        closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed["type"] = ["integer", "string"]
    return closed
