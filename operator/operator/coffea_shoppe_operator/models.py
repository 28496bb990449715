"""The custom resources and the settings, as Pydantic models; their schemas come from here."""

from collections.abc import Mapping
from dataclasses import dataclass
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


class DaskQuota(Model):
    """What a user's Dask clusters may hold together; 0: no limit."""

    clusters: int | None = Field(default=None, ge=0)
    cores: float | None = Field(default=None, ge=0)
    """Of the workers."""
    memory_gi_b: float | None = Field(default=None, ge=0, alias="memoryGiB")
    """Of the workers."""


class ObjectStoreQuota(Model):
    """What a user may store."""

    gigabytes: float | None = Field(default=None, ge=0)
    """A bucket that holds more can be read and deleted from only; 0: no limit."""


class ServiceXQuota(Model):
    """What a user may have of ServiceX."""

    gigabytes: float | None = Field(default=None, ge=0)
    """Beyond it the oldest results are removed; 0: no limit."""
    share: float | None = Field(default=None, gt=0)
    """How many files at a time, as against a user with a share of 1."""


class TritonQuota(Model):
    """What a user may have served."""

    models: int | None = Field(default=None, ge=0)
    """0: no limit."""


class Quota(Model):
    """What a user may use; what is not said is up to the groups, and then to the facility."""

    dask: DaskQuota = DaskQuota()
    object_store: ObjectStoreQuota = ObjectStoreQuota()
    service_x: ServiceXQuota = Field(default=ServiceXQuota(), alias="servicex")
    triton: TritonQuota = TritonQuota()


class QuotaSettings(Model):
    """What users may use, unless their resources say otherwise."""

    default: Quota = Quota()
    groups: dict[str, Quota] = {}
    """Group → what its users may use instead; of several, the most of each."""


class Used(Model):
    """What a user has stored; measured where there is a limit."""

    object_store: int = 0
    """Bytes in the bucket."""
    service_x: int = Field(default=0, alias="servicex")
    """Bytes of them that are results of ServiceX."""


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
    quota: Quota = Quota()
    """What this user may use, whatever the groups say."""


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
    quota: Quota = Quota()
    """What the user may use: of the resource, the groups, and the facility."""
    used: Used = Used()
    conditions: list[Condition] = []


def _known(body: dict[str, Any], model: type[Model]) -> dict[str, Any]:
    """Return what of a resource's status is ours; kopf keeps its own there, too."""
    known = set(model.model_json_schema()["properties"])
    return {k: v for k, v in (body.get("status") or {}).items() if k in known}


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
        return cls(
            name=metadata["name"],
            uid=metadata["uid"],
            wanted=float(metadata.get("annotations", {}).get(identity.WANTED, 0)),
            spec=FacilityUserSpec.model_validate(body.get("spec", {})),
            status=FacilityUserStatus.model_validate(_known(body, FacilityUserStatus)),
        )


class ServedModelSpec(Model):
    """Which model a user wants to have served."""

    username: str = Field(min_length=1)
    """The hub's name of the user, whose resource is in the same namespace."""
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$")
    """The user's name for it; two users may use the same one."""
    model: str = Field(pattern=r"^models:/[^/@]+(@[^/@]+|/[0-9]+)$")
    """In the user's workspace of MLflow: models:/NAME@ALIAS or models:/NAME/VERSION.

    An alias is followed when it is given to another version.
    """
    asked: float = 0.0
    """Unix time at which the user asked; a later one has it looked at anew."""


class ServedModelStatus(Model):
    """What is served."""

    model: str = ""
    """The model's name in Triton."""
    registered: str = ""
    """The registered model's name."""
    version: str = ""
    """Its version; empty: none is served."""
    run: str = ""
    """MLflow's id of the run that it comes from."""
    sha256: str = ""
    """Of the model's file."""
    file: str = "model.ubj"
    """The name of that file."""
    features: int = 0
    """Columns of a row."""
    url: str = ""
    """Of the model in Triton, over HTTP."""
    signature: str = ""
    """MLflow's, as JSON."""
    training: str = ""
    """Digests of the datasets that its run logged as inputs."""
    code: str = ""
    """What made it: its run's git commit, or its tag `code.sha256`."""
    asked: float = 0.0
    """The `asked` that the conditions are about."""
    conditions: list[Condition] = []


class ServedModel(BaseModel):
    """A model in Triton, as the cluster holds it."""

    model_config = ConfigDict(extra="ignore")

    name: str
    spec: ServedModelSpec
    status: ServedModelStatus = ServedModelStatus()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> "ServedModel":
        """Return the model of a resource; raises `pydantic.ValidationError`."""
        return cls(
            name=body["metadata"]["name"],
            spec=ServedModelSpec.model_validate(body.get("spec", {})),
            status=ServedModelStatus.model_validate(_known(body, ServedModelStatus)),
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
    key_lifetime: int = Field(default=24 * 3600, ge=600)
    """Seconds for which a user's keys are good; others are made at half of it."""
    writers: list[str] = []
    """Those of them that may keep objects in a folder of their name in users' buckets."""


class MlflowSettings(Model):
    """Where the users' workspaces are."""

    endpoint: str
    bucket: str = ""
    """Where the artifacts are; empty: they are no objects."""


class ServiceXSettings(Model):
    """The delivery service, which is told of its users."""

    endpoint: str


class DaskPods(Model):
    """What schedulers and workers of users' Dask clusters are told by."""

    namespace: str
    labels: dict[str, str]
    """Which nobody else's pods have that also have a user's label."""


class DaskSettings(Model):
    """The gateway of Dask clusters, which reads its limits from the users' resources."""

    health: str = ""
    """Address that answers while it is well; empty: nobody asks."""
    pods: DaskPods | None = None
    """None: which of them may talk to one another is not the operator's business."""


class HubSettings(Model):
    """The hub at which browsers log in that want to see services' pages."""

    url: str
    """Of its API."""
    service_name: str = "api"
    """The hub's name of the facility API."""
    token: Path = Path("/run/secrets/hub/token")
    """File of the token that the hub knows it by."""


@dataclass(frozen=True)
class Queue:
    """How long requests have waited since the replicas were started."""

    requests: int
    seconds: float
    """The sum over all requests."""


@dataclass(frozen=True)
class Replicas:
    """A Deployment's replicas, and what its annotations say of them."""

    wanted: int
    ready: int
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class PodLimits:
    """What a pod may take."""

    component: str
    cores: float
    memory: float
    """Bytes."""


class TritonSettings(Model):
    """Where the users' models are served."""

    endpoint: str
    """Of Triton's front, over HTTP."""
    bucket: str
    """Triton's model repository."""
    megabytes: int = 256
    """The largest model's size."""
    backend: Literal["python", "fil"] = "python"
    """What runs the models there: the Python backend of the facility's own image, or FIL."""
    deployment: str = ""
    """Of its replicas; empty where nobody scales them."""


class Settings(Model):
    """What the chart tells the operator and the API."""

    issuer: str
    """The facility's name in its tokens."""
    token_lifetime: int = Field(
        default=identity.LIFETIME_S, ge=identity.SHORTEST_S, le=identity.LIFETIME_S
    )
    """Seconds."""
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
    triton: TritonSettings | None = None
    """None: no models are served."""
    service_x: ServiceXSettings | None = Field(default=None, alias="servicex")
    """None: ServiceX, if there is one, is told nothing of users."""
    dask: DaskSettings | None = None
    """None: there are no Dask clusters, or nobody looks after them."""
    hub: HubSettings | None = None
    """None: browsers have no way to services' pages but the users' own servers."""
    quotas: QuotaSettings = QuotaSettings()

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
    # What may be left out is optional in Pydantic, and no null in a resource.
    if "anyOf" in found:
        found |= next(kind for kind in found.pop("anyOf") if kind.get("type") != "null")
    # OpenAPI 3.0 says so that the least is not enough.
    if "exclusiveMinimum" in found:
        found |= {"minimum": found["exclusiveMinimum"], "exclusiveMinimum": True}
    if found.get("default", ()) is None or isinstance(found.get("default"), dict):
        del found["default"]
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


def _column(name: str, path: str, kind: str = "string") -> dict[str, str]:
    return {"name": name, "type": kind, "jsonPath": path}


def _ready(field: str) -> str:
    return f'.status.conditions[?(@.type=="Ready")].{field}'


def _definition(
    kind: str,
    plural: str,
    short: str,
    spec: type[Model],
    status: type[Model],
    columns: list[dict[str, str]],
) -> dict[str, Any]:
    """Return a CustomResourceDefinition."""
    told = [
        *columns,
        _column("Ready", _ready("status")),
        _column("Reason", _ready("reason")),
        _column("Age", ".metadata.creationTimestamp", "date"),
    ]
    properties = {"spec": schema_of(spec), "status": schema_of(status)}
    whole = {"type": "object", "required": ["spec"], "properties": properties}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{identity.GROUP}"},
        "spec": {
            "group": identity.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
            },
            "versions": [
                {
                    "name": identity.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": whole},
                    "additionalPrinterColumns": told,
                }
            ],
        },
    }


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of all resources."""
    user = _column("User", ".spec.username")
    return [
        _definition(
            "FacilityUser", identity.USERS, "fu", FacilityUserSpec, FacilityUserStatus, [user]
        ),
        _definition(
            "ServedModel",
            identity.MODELS,
            "sm",
            ServedModelSpec,
            ServedModelStatus,
            [user, _column("Model", ".spec.model"), _column("Version", ".status.version")],
        ),
    ]
