"""Configuration files of S3 clients, and the policy of a bucket: pure functions."""

import configparser
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from coffea_shoppe_contract.files import (
    IDENTITY_FOLDER,
    S3_BUCKET_FILE,
    S3_CONFIG_FILE,
    S3_CREDENTIALS_FILE,
    S3_KEYS_FILE,
)
from coffea_shoppe_contract.names import service_name


class Endpoint(Protocol):
    """Address of the object store, as the pods reach it, and its region."""

    endpoint: str
    region: str


@dataclass(frozen=True)
class S3Key:
    """The key of one of a user's accounts in the object store."""

    account: str
    secret: str
    expires: float
    """Unix time by which all clients have read the next key."""
    previous_valid_until: float = 0.0
    """Unix time until which clients may use the previous key, of the other account."""


def _s3_config(store: Endpoint, **more: str) -> bytes:
    """Return the configuration of S3 clients."""
    config = {"region": store.region, "endpoint_url": store.endpoint, **more}
    lines = [f"{name} = {value}" for name, value in config.items()]
    # boto3 presigns with SigV2 by default, which the store does not accept.
    own = ["s3 =", "  addressing_style = path", "  signature_version = s3v4"]
    return "\n".join(["[default]", *lines, *own, ""]).encode()


def _iso(moment: float) -> str:
    """Return a Unix time in the form that all AWS clients read."""
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def user_s3_files(bucket: str, key: S3Key, store: Endpoint) -> dict[str, bytes]:
    """Return the files with which a user's S3 clients find the store and the bucket.

    Clients read the keys from a process, and again before they expire (credential_process,
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html);
    a file with keys is read only once.
    """
    keys_file = f"{IDENTITY_FOLDER}/{S3_KEYS_FILE}"
    keys = {
        "Version": 1,
        "AccessKeyId": key.account,
        "SecretAccessKey": key.secret,
        "Expiration": _iso(key.expires),
        # Read by the operator only; clients ignore unknown fields.
        "ExpirationBefore": _iso(key.previous_valid_until),
    }
    return {
        S3_CONFIG_FILE: _s3_config(store, credential_process=f"cat {keys_file}"),
        S3_KEYS_FILE: json.dumps(keys, indent=1).encode(),
        S3_BUCKET_FILE: bucket.encode(),
    }


def user_s3_key(files: Mapping[str, bytes]) -> S3Key | None:
    """Return the key in a user's files, or None.

    Keys written before rotation existed never expired; they are treated as expired.
    """
    if secret := s3_key(files):
        return S3Key(files.get(S3_BUCKET_FILE, b"").decode(), secret, 0.0)
    try:
        keys = json.loads(files[S3_KEYS_FILE])
        times = [
            datetime.fromisoformat(keys[name]).timestamp()
            for name in ("Expiration", "ExpirationBefore")
        ]
        return S3Key(keys["AccessKeyId"], keys["SecretAccessKey"], *times)
    except (KeyError, TypeError, ValueError):
        return None


def s3_files(account: str, key: str, store: Endpoint) -> dict[str, bytes]:
    """Return the files with which a service finds the store; its bucket has its name."""
    credentials = {"aws_access_key_id": account, "aws_secret_access_key": key}
    lines = [f"{name} = {value}" for name, value in credentials.items()]
    return {
        S3_CONFIG_FILE: _s3_config(store),
        S3_CREDENTIALS_FILE: "\n".join(["[default]", *lines, ""]).encode(),
        S3_BUCKET_FILE: account.encode(),
    }


def s3_key(files: Mapping[str, bytes]) -> str:
    """Return the secret key in a service's files, or ''."""
    parser = configparser.ConfigParser()
    try:
        parser.read_string(files.get(S3_CREDENTIALS_FILE, b"").decode())
    except (configparser.Error, UnicodeDecodeError):
        return ""
    return parser.get("default", "aws_secret_access_key", fallback="")


def bucket_policy(
    bucket: str, owners: Sequence[str], writers: Sequence[str], *, full: bool = False
) -> str:
    """Return a bucket's policy: rights of its owner's accounts, and of each writing service.

    A policy replaces the owner's implicit rights, so it grants them explicitly.  A full
    bucket can be read and deleted from only, and its owner cannot change the policy.
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
        account = [service_name(service)]
        actions = reading if full else [*reading, "s3:PutObject"]
        statements.append(allow(account, actions, [f"{bucket}/{service}/*"]))
        statements.append(allow(account, ["s3:ListBucket"], [bucket]))
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
