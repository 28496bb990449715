"""The custom resources and the settings, as Pydantic models; their schemas come from here."""

from pathlib import Path
from typing import Any, Literal

import yaml
from coffea_shoppe_contract import identity
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A part of a resource, in Kubernetes' spelling; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
    )


class FacilityUserSpec(Model):
    """What is wanted for a user."""

    username: str = Field(min_length=1)
    """The hub's name of the user."""
    groups: list[str] = []
    """The user's groups; they are part of the tokens."""
    disabled: bool = False
    """True: whatever the user holds is void, and no server starts."""
    data: Literal["keep", "remove"] = "keep"
    """What becomes of the user's bucket and workspace when the resource is deleted."""


class Condition(Model):
    """One thing that holds or does not, as Kubernetes' own resources tell it."""

    type: str
    status: Literal["True", "False"]
    reason: str
    """One word in CamelCase."""
    message: str
    """A sentence for a human."""


class FacilityUserStatus(Model):
    """What there is for a user."""

    secret_name: str = ""
    """The Secret with tokens and connections, in the namespaces of users' pods."""
    valid_until: int = 0
    """Unix time at which the tokens in the Secret expire."""
    conditions: list[Condition] = []


class FacilityUser(BaseModel):
    """A user of the facility, as the cluster holds it."""

    model_config = ConfigDict(extra="ignore")

    name: str
    uid: str
    wanted: float = 0.0
    """Unix time at which somebody last asked for fresh tokens."""
    spec: FacilityUserSpec
    status: FacilityUserStatus = FacilityUserStatus()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> "FacilityUser":
        """Return the user of a resource; raises `pydantic.ValidationError`."""
        metadata = body["metadata"]
        known = set(FacilityUserStatus.model_json_schema()["properties"])
        status = {k: v for k, v in (body.get("status") or {}).items() if k in known}
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            wanted=float(metadata.get("annotations", {}).get(identity.WANTED, 0)),
            spec=FacilityUserSpec.model_validate(body.get("spec", {})),
            status=FacilityUserStatus.model_validate(status),
        )


class ObjectStoreSettings(Model):
    """Where the users' buckets are."""

    endpoint: str
    """As users' pods reach it."""
    admin_endpoint: str
    """Where accounts and buckets are made."""
    region: str
    keys: Path = Path("/run/secrets/objectstore")
    """Folder of the files root-access-key and root-secret-key."""
    services: dict[str, str] = {}
    """Services with a bucket of their own → the Secret for the keys to it."""


class MlflowSettings(Model):
    """Where the users' workspaces are."""

    endpoint: str
    bucket: str = ""
    """Where the artifacts are; empty: they are no objects."""


class Settings(Model):
    """What the chart tells the operator and the API."""

    issuer: str
    """The facility's name in its tokens."""
    namespace: str
    """Of the release: users' servers and the services."""
    user_namespaces: list[str]
    """Where pods of users run: each gets the user's Secret."""
    keys_secret: str
    published: str
    """ConfigMap with public keys and revocations."""
    labels: dict[str, str]
    """Of everything that the operator makes."""
    connections: dict[str, str]
    """Service → address, as users' pods reach it."""
    object_store: ObjectStoreSettings | None = None
    """None: users have no buckets."""
    mlflow: MlflowSettings | None = None
    """None: users have no workspaces."""

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Read the settings' file."""
        return cls.model_validate(yaml.safe_load(path.read_text()))


def _structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema as Kubernetes takes it: no references, no titles, closed defaults."""
    if "$ref" in schema:
        return _structural(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    dropped = ("title", "additionalProperties", "$defs")
    found = {key: value for key, value in schema.items() if key not in dropped}
    if "properties" in found:
        found["properties"] = {
            key: _structural(value, definitions) for key, value in found["properties"].items()
        }
    if "items" in found:
        found["items"] = _structural(found["items"], definitions)
    return found


def schema_of(model: type[Model]) -> dict[str, Any]:
    """Return a model's structural schema; its fields' docstrings are the descriptions."""
    whole = model.model_json_schema(by_alias=True)
    return _structural(whole, whole.get("$defs", {}))


def definition() -> dict[str, Any]:
    """Return the CustomResourceDefinition of `FacilityUser`."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{identity.USERS}.{identity.GROUP}"},
        "spec": {
            "group": identity.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "FacilityUser",
                "listKind": "FacilityUserList",
                "plural": identity.USERS,
                "singular": "facilityuser",
                "shortNames": ["fu"],
            },
            "versions": [
                {
                    "name": identity.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {
                        "openAPIV3Schema": {
                            "type": "object",
                            "required": ["spec"],
                            "properties": {
                                "spec": schema_of(FacilityUserSpec),
                                "status": schema_of(FacilityUserStatus),
                            },
                        }
                    },
                    "additionalPrinterColumns": [
                        {"name": "User", "type": "string", "jsonPath": ".spec.username"},
                        {
                            "name": "Ready",
                            "type": "string",
                            "jsonPath": '.status.conditions[?(@.type=="Ready")].status',
                        },
                        {
                            "name": "Reason",
                            "type": "string",
                            "jsonPath": '.status.conditions[?(@.type=="Ready")].reason',
                        },
                        {
                            "name": "Age",
                            "type": "date",
                            "jsonPath": ".metadata.creationTimestamp",
                        },
                    ],
                }
            ],
        },
    }
