"""The objects that the operator makes: pure functions, no cluster."""

import configparser
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from coffea_shoppe_contract import identity

from coffea_shoppe_operator.keys import Key
from coffea_shoppe_operator.models import (
    Condition,
    DaskPods,
    FacilityUser,
    ObjectStoreSettings,
    ServedModelSpec,
    Settings,
)


def user_files(user: FacilityUser, key: Key, settings: Settings, *, now: float) -> dict[str, bytes]:
    """Return the files of a user's Secret: a token for each service, and the connections."""
    files = {
        identity.token_file(audience): user_token(user, audience, key, settings, now=now)
        for audience in identity.AUDIENCES
    }
    if settings.mlflow:
        files[identity.WORKSPACE_FILE] = identity.workspace_name(user.spec.username)
    files |= servicex_files(files[identity.token_file(identity.SERVICEX_REFRESH)], settings)
    files[identity.CONNECTIONS_FILE] = json.dumps(settings.connections, indent=1, sort_keys=True)
    return {name: text.encode() for name, text in files.items()}


def servicex_files(token: str, settings: Settings) -> dict[str, str]:
    """Return the file with which the stock ServiceX client finds the service, if there is one."""
    endpoint = settings.connections.get("servicex")
    if not endpoint:
        return {}
    entry = {"name": "servicex", "endpoint": endpoint.rstrip("/"), "token": token}
    return {identity.SERVICEX_FILE: yaml.safe_dump({"api_endpoints": [entry]}, sort_keys=False)}


def bucket_policy(
    bucket: str, owners: Sequence[str], writers: Sequence[str], *, full: bool = False
) -> str:
    """Return a bucket's policy: its user's accounts', and a folder for each writing service.

    A policy takes the place of the owner's own rights, so that they are in it.  A full
    bucket can be read and deleted from: its policy is not its owner's to change.
    """

    def allow(accounts: Sequence[str], actions: list[str], resources: list[str]) -> dict[str, Any]:
        return {
            "Effect": "Allow",
            "Principal": {"AWS": list(accounts)},
            "Action": actions,
            "Resource": [f"arn:aws:s3:::{resource}" for resource in resources],
        }

    reading = ["s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    if full:
        statements = [
            allow(owners, reading, [f"{bucket}/*"]),
            allow(owners, ["s3:ListBucket", "s3:ListBucketMultipartUploads"], [bucket]),
        ]
    else:
        statements = [allow(owners, ["s3:*"], [bucket, f"{bucket}/*"])]
    for service in writers:
        account = [identity.service_name(service)]
        objects = reading if full else [*reading, "s3:PutObject"]
        statements.append(allow(account, objects, [f"{bucket}/{service}/*"]))
        statements.append(allow(account, ["s3:ListBucket"], [bucket]))
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@dataclass(frozen=True)
class S3Key:
    """The key to an account of a user's in the object store."""

    account: str
    secret: str
    expires: float
    """Unix time at which clients have another one, whatever they have read."""
    before: float = 0.0
    """Unix time up to which some may use the one before, of the other account."""


def _s3_config(settings: ObjectStoreSettings, **more: str) -> bytes:
    """Return the configuration of S3's clients."""
    config = {"region": settings.region, "endpoint_url": settings.endpoint, **more}
    lines = [f"{name} = {value}" for name, value in config.items()]
    return "\n".join(["[default]", *lines, "s3 =", "  addressing_style = path", ""]).encode()


def _iso(moment: float) -> str:
    """Return a time as all of AWS's clients read it."""
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user_s3_files(bucket: str, key: S3Key, settings: ObjectStoreSettings) -> dict[str, bytes]:
    """Return the files with which a user's clients of S3 find the store and the bucket.

    They ask a process for the keys, and again before these expire (a setting of AWS's own
    clients, https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html);
    keys in a file they would read once.
    """
    keys = f"{identity.FOLDER}/{identity.S3_KEYS_FILE}"
    told = {
        "Version": 1,
        "AccessKeyId": key.account,
        "SecretAccessKey": key.secret,
        "Expiration": _iso(key.expires),
        # Ours: clients look for what they know.
        "ExpirationBefore": _iso(key.before),
    }
    return {
        identity.S3_CONFIG_FILE: _s3_config(settings, credential_process=f"cat {keys}"),
        identity.S3_KEYS_FILE: json.dumps(told, indent=1).encode(),
        identity.S3_BUCKET_FILE: bucket.encode(),
    }


def user_s3_key(files: Mapping[str, bytes]) -> S3Key | None:
    """Return the key that a user's files hold, or None.

    The one that files of an earlier release hold was good for ever: its time is over.
    """
    if old := s3_key(files):
        return S3Key(files.get(identity.S3_BUCKET_FILE, b"").decode(), old, 0.0)
    try:
        told = json.loads(files[identity.S3_KEYS_FILE])
        times = [
            datetime.fromisoformat(told[name]).timestamp()
            for name in ("Expiration", "ExpirationBefore")
        ]
        return S3Key(told["AccessKeyId"], told["SecretAccessKey"], *times)
    except (KeyError, TypeError, ValueError):
        return None


def s3_files(account: str, key: str, settings: ObjectStoreSettings) -> dict[str, bytes]:
    """Return the files with which a service finds the store; its bucket has its name."""
    credentials = {"aws_access_key_id": account, "aws_secret_access_key": key}
    secrets = [f"{name} = {value}" for name, value in credentials.items()]
    return {
        identity.S3_CONFIG_FILE: _s3_config(settings),
        identity.S3_CREDENTIALS_FILE: "\n".join(["[default]", *secrets, ""]).encode(),
        identity.S3_BUCKET_FILE: account.encode(),
    }


def s3_key(files: Mapping[str, bytes]) -> str:
    """Return the secret key that a service's files hold, or ''."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(files.get(identity.S3_CREDENTIALS_FILE, b"").decode())
    except (configparser.Error, UnicodeDecodeError):
        return ""
    return parser.get("default", "aws_secret_access_key", fallback="")


def secret(
    name: str, namespace: str, data: Mapping[str, bytes], labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return a Secret; its values are still bytes."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": dict(labels)},
        "type": "Opaque",
        "data": dict(data),
    }


def dask_policy(
    name: str, user: FacilityUser, pods: DaskPods, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the NetworkPolicy by which a user's Dask pods reach one another.

    It adds to what lets the gateway and its Traefik in; nothing lets another user's in.
    """
    own = {"podSelector": {"matchLabels": {**pods.labels, identity.USER_LABEL: user.name}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": pods.namespace, "labels": dict(labels)},
        "spec": {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]},
    }


def admin_token(audience: str, key: Key, settings: Settings, *, now: float) -> str:
    """Return a token of the operator's own."""
    return key.sign(
        identity.claims(
            issuer=settings.issuer,
            audience=audience,
            user="operator",
            uid="operator",
            groups=(),
            now=now,
            lifetime=settings.token_lifetime,
        )
    )


def user_token(
    user: FacilityUser, audience: str, key: Key, settings: Settings, *, now: float
) -> str:
    """Return a user's token for a service."""
    return key.sign(
        identity.claims(
            issuer=settings.issuer,
            audience=audience,
            user=user.spec.username,
            uid=user.uid,
            groups=tuple(user.spec.groups),
            now=now,
            lifetime=settings.token_lifetime,
        )
    )


@dataclass(frozen=True)
class TritonModel:
    """A version of a model, as Triton's repository describes it."""

    name: str
    version: str
    file: str
    """As MLflow has it: model.ubj or model.json."""
    features: int
    """Columns of a row."""
    backend: str
    """python or fil."""
    parameters: Mapping[str, str]
    """Where it comes from."""


def triton_files(model: TritonModel, data: bytes) -> dict[str, bytes]:
    """Return what Triton's repository holds of a model, by path.

    Its tensors are named as by the FIL backend, and are the same in both.
    """
    folder = f"{model.name}/{model.version}"
    config = {f"{model.name}/config.pbtxt": triton_config(model).encode()}
    if model.backend == "fil":
        return {f"{folder}/xgboost{Path(model.file).suffix}": data, **config}
    return {f"{folder}/{model.file}": data, f"{folder}/model.py": TRITON_MODEL.encode(), **config}


TRITON_MODEL = """import sys

sys.path.insert(0, "/opt/triton")
from coffea_shoppe_triton.model import TritonPythonModel  # noqa
"""


def triton_config(model: TritonModel) -> str:
    """Return a model's configuration: this version alone is served.

    FIL's settings are those of its releases since 25.09, with the score as the one output:
    https://github.com/triton-inference-server/fil_backend/blob/main/docs/model_config.md
    """
    parameters, kind = dict(model.parameters), "KIND_CPU"
    if model.backend == "fil":
        form = "xgboost_json" if model.file.endswith(".json") else "xgboost_ubj"
        parameters |= {"model_type": form, "is_classifier": "false"}
        kind = "KIND_AUTO"
    told = "".join(
        f"parameters {{key: {json.dumps(key)} value {{string_value: {json.dumps(value)}}}}}\n"
        for key, value in sorted(parameters.items())
    )
    return f"""name: {json.dumps(model.name)}
backend: "{model.backend}"
max_batch_size: 1000000
input {{name: "input__0" data_type: TYPE_FP32 dims: [{model.features}]}}
output {{name: "output__0" data_type: TYPE_FP32 dims: [1]}}
version_policy {{specific {{versions: [{model.version}]}}}}
dynamic_batching {{max_queue_delay_microseconds: 500}}
instance_group {{count: 1 kind: {kind}}}
{told}"""


def served_model(
    user: FacilityUser, spec: ServedModelSpec, settings: Settings, labels: Mapping[str, str]
) -> dict[str, Any]:
    """Return the resource of a model, which goes with its user."""
    return {
        "apiVersion": f"{identity.GROUP}/{identity.VERSION}",
        "kind": "ServedModel",
        "metadata": {
            "name": f"{identity.model_prefix(user.spec.username)}{spec.name}",
            "namespace": settings.namespace,
            "labels": dict(labels),
            "ownerReferences": [
                {
                    "apiVersion": f"{identity.GROUP}/{identity.VERSION}",
                    "kind": "FacilityUser",
                    "name": user.name,
                    "uid": user.uid,
                }
            ],
        },
        "spec": spec.model_dump(by_alias=True),
    }


def condition(kind: str, holds: bool, reason: str, message: str) -> Condition:
    """Return a condition: `Ready` for tokens and connections, or one service's."""
    return Condition(type=kind, status="True" if holds else "False", reason=reason, message=message)


def ready(holds: bool, reason: str, message: str) -> Condition:
    """Return the condition `Ready`."""
    return condition("Ready", holds, reason, message)


def revocations(before: Mapping[str, float], uid: str | None, *, now: float) -> dict[str, float]:
    """Return the revocations, one more where a uid is given, without those that are over.

    One is over when all tokens that it voids have expired.
    """
    kept = {
        one: until
        for one, until in before.items()
        if now <= until + identity.LONGEST_S + 2 * identity.LEEWAY_S
    }
    return kept | ({uid: float(int(now))} if uid else {})
