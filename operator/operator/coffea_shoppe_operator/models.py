"""The custom resources and the settings, as Pydantic models; their schemas come from here.

Quotas and settings of a service are defined beside its adapter; here is their sum.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml
from coffea_shoppe_contract.claims import AUDIENCES, MIN_TOKEN_LIFETIME_S, TOKEN_LIFETIME_S
from coffea_shoppe_contract.resources import (
    API_GROUP,
    API_VERSION,
    FACILITY_USERS,
    SERVED_MODELS,
    TOKENS_REQUESTED_ANNOTATION,
)
from pydantic import BaseModel, ConfigDict, Field, create_model, field_validator

from coffea_shoppe_operator.adapters import discovered
from coffea_shoppe_operator.adapters.base import Owner, ServiceSettings, Used
from coffea_shoppe_operator.adapters.dask import DaskQuota, DaskSettings
from coffea_shoppe_operator.adapters.mlflow import MlflowSettings
from coffea_shoppe_operator.adapters.object_store import ObjectStoreQuota, ObjectStoreSettings
from coffea_shoppe_operator.adapters.servicex import ServiceXQuota, ServiceXSettings
from coffea_shoppe_operator.adapters.triton import TritonQuota, TritonSettings
from coffea_shoppe_operator.conditions import Condition
from coffea_shoppe_operator.schema import Model, schema_of


def _discovered_quotas() -> type[Model]:
    """Return a model with the quota of each discovered service, by the service's name."""
    quotas = {service.name: service.quota for service in discovered().values() if service.quota}
    fields: dict[str, Any] = {
        name.replace("-", "_"): (quota, Field(default=quota(), alias=name))
        for name, quota in quotas.items()
    }
    return create_model("DiscoveredQuotas", __base__=Model, **fields)


class Quota(_discovered_quotas()):  # type: ignore[misc]  # a base class that is made here
    """What a user may use; an absent limit is that of the groups, or of the facility."""

    dask: DaskQuota = DaskQuota()
    object_store: ObjectStoreQuota = ObjectStoreQuota()
    service_x: ServiceXQuota = Field(default=ServiceXQuota(), alias="servicex")
    triton: TritonQuota = TritonQuota()

    def parts(self) -> tuple[Model, ...]:
        """Return the quota of each service."""
        return tuple(part for _, part in self)


class QuotaSettings(Model):
    """What users may use where their resources set no quota."""

    default: Quota = Quota()
    groups: dict[str, Quota] = Field(default={})
    """Group → quota of its users; of several groups, the highest limit applies."""


class FacilityUserSpec(Model):
    """Desired state of a user."""

    username: str = Field(min_length=1)
    """The hub's name of the user."""
    groups: list[str] = Field(default=[])
    """The user's groups; they are part of the tokens."""
    disabled: bool = False
    """True: all tokens and keys of the user are void, and no server starts."""
    data: Literal["keep", "remove"] = "keep"
    """Whether bucket and workspace are kept or removed when the resource is deleted."""
    quota: Quota = Quota()
    """What this user may use; it takes precedence over the groups' quotas."""


class FacilityUserStatus(Model):
    """Observed state of a user."""

    secret_name: str = ""
    """The Secret with tokens and connections, in the namespaces of users' pods."""
    valid_until: int = 0
    """Unix time at which the tokens in the Secret expire."""
    quota: Quota = Quota()
    """What the user may use, from the resource, the groups, and the facility."""
    used: Used = Used()
    conditions: list[Condition] = Field(default=[])


def _status(body: dict[str, Any], model: type[Model]) -> dict[str, Any]:
    """Return the model's fields of a resource's status; kopf adds fields of its own."""
    fields = set(model.model_json_schema()["properties"])
    return {name: value for name, value in (body.get("status") or {}).items() if name in fields}


class FacilityUser(BaseModel):
    """A resource of a user."""

    model_config = ConfigDict(extra="ignore")

    name: str
    uid: str
    tokens_requested_at: float = 0.0
    """Unix time of the last request for fresh tokens."""
    spec: FacilityUserSpec
    status: FacilityUserStatus = FacilityUserStatus()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> "FacilityUser":
        """Parse a resource; raises `pydantic.ValidationError`."""
        metadata = body["metadata"]
        annotations = metadata.get("annotations", {})
        return cls.model_validate(
            {
                "name": metadata["name"],
                "uid": metadata["uid"],
                "tokens_requested_at": float(annotations.get(TOKENS_REQUESTED_ANNOTATION, 0)),
                "spec": body.get("spec", {}),
                "status": _status(body, FacilityUserStatus),
            }
        )

    def owner(self, quota: Quota, used: Used | None = None) -> Owner:
        """Return the user as the owner for whom services are provisioned."""
        return Owner(
            name=self.spec.username,
            resource=self.name,
            quotas=quota.parts(),
            used=used or self.status.used,
            conditions=tuple(self.status.conditions),
        )


class ServedModelSpec(Model):
    """The model that a user wants served."""

    username: str = Field(min_length=1)
    """The hub's name of the user; the FacilityUser is in the same namespace."""
    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$")
    """The user's name for the model; other users may use the same name."""
    model: str = Field(pattern=r"^models:/[^/@]+(@[^/@]+|/[0-9]+)$")
    """Model in the user's MLflow workspace: models:/NAME@ALIAS or models:/NAME/VERSION.

    When an alias moves to another version, that version is served.
    """
    requested_at: float = 0.0
    """Unix time of the user's request; a later time causes another reconciliation."""


class ServedModelStatus(Model):
    """The version that is served."""

    model: str = ""
    """The model's name in Triton."""
    registered: str = ""
    """Name of the registered model."""
    version: str = ""
    """Version of the registered model; empty: none is served."""
    run: str = ""
    """MLflow's id of the run that logged the model."""
    sha256: str = ""
    """SHA-256 digest of the model's file."""
    file: str = "model.ubj"
    """Name of the model's file."""
    features: int = 0
    """Number of columns of the input."""
    method: str = ""
    """Method of scikit-learn that the output is of: `predict_proba` or `predict`; empty for
    models served by an earlier release, whose output is one column."""
    outputs: int = 1
    """Number of columns of the output: classes, labels, targets, or one."""
    rounds: int = 0
    """Number of boosting rounds that the prediction uses; 0: all."""
    objective: str = ""
    """XGBoost's objective."""
    url: str = ""
    """HTTP address of the model in Triton."""
    signature: str = ""
    """The model's signature in MLflow, as JSON."""
    training: str = ""
    """Digests of the datasets that the run logged as inputs."""
    code: str = ""
    """The run's git commit, or its tag `code.sha256`."""
    requested_at: float = 0.0
    """The spec's `requestedAt` of the request that the conditions describe."""
    conditions: list[Condition] = Field(default=[])


class ServedModel(BaseModel):
    """A resource of a model in Triton."""

    model_config = ConfigDict(extra="ignore")

    name: str
    spec: ServedModelSpec
    status: ServedModelStatus = ServedModelStatus()

    @classmethod
    def parse(cls, body: dict[str, Any]) -> "ServedModel":
        """Parse a resource; raises `pydantic.ValidationError`."""
        return cls.model_validate(
            {
                "name": body["metadata"]["name"],
                "spec": body.get("spec", {}),
                "status": _status(body, ServedModelStatus),
            }
        )


class HubSettings(Model):
    """The hub at which browsers log in to see services' pages."""

    url: str
    """Address of the hub's API."""
    service_name: str = "api"
    """Name of the facility API among the hub's services."""
    token: Path = Path("/run/secrets/hub/token")
    """File with the API token of that service."""
    public_url: str = ""
    """Address of the hub for browsers, where users' servers have hosts of their own."""
    services_url: str = ""
    """Address of the services' host for browsers then."""


@dataclass(frozen=True)
class Queue:
    """Queueing of requests since the replicas were started."""

    requests: int
    seconds: float
    """Sum of the queueing times of all requests."""


@dataclass(frozen=True)
class Replicas:
    """A Deployment's replicas and annotations."""

    desired: int
    ready: int
    annotations: Mapping[str, str]


class Settings(Model):
    """Settings of operator and API, rendered by the chart."""

    issuer: str
    """Issuer of the facility's tokens."""
    token_lifetime: int = Field(
        default=TOKEN_LIFETIME_S, ge=MIN_TOKEN_LIFETIME_S, le=TOKEN_LIFETIME_S
    )
    """Lifetime of users' tokens in seconds."""
    namespace: str
    """Namespace of the release, with users' servers and the services."""
    user_namespaces: list[str]
    """Namespaces of users' pods: each gets the users' Secrets."""
    keys_secret: str
    """Secret with the signing keys."""
    published: str
    """ConfigMap with public keys and revocations."""
    labels: dict[str, str]
    """Labels of all objects that the operator creates."""
    connections: dict[str, str]
    """Service → address for users' pods."""
    object_store: ObjectStoreSettings | None = None
    """None: users have no buckets."""
    mlflow: MlflowSettings | None = None
    """None: users have no workspaces."""
    triton: TritonSettings | None = None
    """None: no models are served."""
    service_x: ServiceXSettings | None = Field(default=None, alias="servicex")
    """None: the operator manages no users of ServiceX."""
    dask: DaskSettings | None = None
    """None: there are no Dask clusters, or the operator manages none."""
    hub: HubSettings | None = None
    """None: browsers reach services' pages through users' servers only."""
    services: dict[str, ServiceSettings] = Field(default={})
    """Discovered services that the facility has; each user has a token for each."""
    quotas: QuotaSettings = QuotaSettings()

    @field_validator("services", mode="before")
    @classmethod
    def _of_adapters(cls, services: dict[str, Any]) -> dict[str, ServiceSettings]:
        """Parse the settings of each service as its adapter defines them."""
        known = discovered()
        if unknown := sorted(services.keys() - known):
            raise ValueError(
                f"there are no adapters for {', '.join(unknown)}: remove them, or use an operator "
                f"that has them; this one has: {', '.join(known) or 'none'}"
            )
        return {name: known[name].settings.model_validate(services[name]) for name in services}

    @property
    def audiences(self) -> tuple[str, ...]:
        """Audiences of users' tokens."""
        return (*AUDIENCES, *self.services)

    @classmethod
    def load(cls, path: Path) -> "Settings":
        """Read a settings file."""
        return cls.model_validate(yaml.safe_load(path.read_text()))


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
    printed = [
        *columns,
        _column("Ready", _ready("status")),
        _column("Reason", _ready("reason")),
        _column("Age", ".metadata.creationTimestamp", "date"),
    ]
    properties = {"spec": schema_of(spec), "status": schema_of(status)}
    schema = {"type": "object", "required": ["spec"], "properties": properties}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{API_GROUP}"},
        "spec": {
            "group": API_GROUP,
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
                    "name": API_VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "schema": {"openAPIV3Schema": schema},
                    "additionalPrinterColumns": printed,
                }
            ],
        },
    }


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions of all resources."""
    user = _column("User", ".spec.username")
    return [
        _definition(
            "FacilityUser", FACILITY_USERS, "fu", FacilityUserSpec, FacilityUserStatus, [user]
        ),
        _definition(
            "ServedModel",
            SERVED_MODELS,
            "sm",
            ServedModelSpec,
            ServedModelStatus,
            [user, _column("Model", ".spec.model"), _column("Version", ".status.version")],
        ),
    ]
