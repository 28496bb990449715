"""Connections to the services, as their clients make them; each yields what is wrong.

A probe may block; whoever calls it bounds its time.
"""

import configparser
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from coffea_shoppe_preflight.findings import Cause, Finding
from coffea_shoppe_preflight.objects import MAX_SKEW_S
from coffea_shoppe_preflight.settings import Account

TIMEOUT_S = 10
SETTLING_S = 10
"""How long the network may refuse the connections of a new pod, in seconds."""
CLUSTER_NAME = "kubernetes.default.svc"
"""A name that every cluster has."""
PORTS = {"http": 80, "https": 443, "root": 1094, "grpc": 443, "gateway": 80}
PROBE_BYTES = 1 << 20
"""Size of the object and of the temporary table that are written, in bytes."""
DATABASE_MESSAGES = {
    "password authentication failed": Cause.PASSWORD_REFUSED,
    "no password supplied": Cause.PASSWORD_REFUSED,
    "too many clients": Cause.CONNECTION_LIMIT,
    "too many connections": Cause.CONNECTION_LIMIT,
    "remaining connection slots": Cause.CONNECTION_LIMIT,
    "no space left": Cause.VOLUME_FULL,
    "could not translate host name": Cause.UNKNOWN_HOST,
    "connection refused": Cause.CONNECTION_REFUSED,
    "timeout expired": Cause.NO_CONNECTION,
    "timed out": Cause.NO_CONNECTION,
}
"""What PostgreSQL's messages contain, in lower case."""
REFUSED = {Cause.CONNECTION_REFUSED, Cause.NETWORK_POLICY}
KEY_CODES = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied", "403", "401"}
SKEW_CODES = {"RequestTimeTooSkewed"}
FULL_CODES = {"InsufficientStorage", "XMinioStorageFull", "507", "QuotaExceeded"}

Policy = Callable[[str], str]
"""Component → a NetworkPolicy that may be in its way, or ''."""


def dns(name: str = CLUSTER_NAME) -> Iterator[Finding]:
    """Resolve a name that always exists."""
    try:
        socket.getaddrinfo(name, 443)
    except socket.gaierror as error:
        yield Finding("dns", Cause.DNS_AWAY, f"{name}: {error.strerror}")


def _unconnected(component: str, where: str, error: OSError, policy: Policy) -> Finding:
    """Return what an error of a connection means."""
    if isinstance(error, socket.gaierror):
        return Finding(component, Cause.UNKNOWN_HOST, f"{where}: {error.strerror}")
    refused = isinstance(error, ConnectionRefusedError)
    if name := policy(component):
        symptom = "refuses the connection" if refused else "times out"
        return Finding(component, Cause.NETWORK_POLICY, f"{where} {symptom}, and {name} is there")
    if refused:
        return Finding(component, Cause.CONNECTION_REFUSED, where)
    return Finding(component, Cause.NO_CONNECTION, f"{where}: {error}")


def settled(probe: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Repeat a probe while its connection is refused, for `SETTLING_S` seconds.

    Where NetworkPolicies are enforced, the rules of some networks know a pod's address only
    some seconds after the pod has started, and refuse its connections until then.
    """
    end = time.monotonic() + SETTLING_S
    while True:
        findings = list(probe())
        if REFUSED.isdisjoint(each.cause for each in findings) or time.monotonic() > end:
            break
        time.sleep(0.5)
    yield from findings


def connect(component: str, url: str, policy: Policy) -> Iterator[Finding]:
    """Connect to a service; where it speaks HTTP, compare its clock with this one."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    where = f"{host}:{port}"
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except OSError as error:
        yield _unconnected(component, where, error, policy)
        return
    if parts.scheme in ("http", "https"):
        yield from _http(component, url)


def _http(component: str, url: str) -> Iterator[Finding]:
    try:
        before = time.time()
        response = requests.get(url, timeout=TIMEOUT_S, allow_redirects=False)
    except requests.exceptions.SSLError as error:
        yield certificate(component, url, error)
        return
    except requests.RequestException as error:
        yield Finding(component, Cause.HTTP_ERROR, f"{url}: {_reason(error)}")
        return
    if response.status_code >= 500:
        yield Finding(component, Cause.HTTP_ERROR, f"{url}: HTTP status {response.status_code}")
    if date := response.headers.get("Date"):
        ahead = parsedate_to_datetime(date).timestamp() - before
        if abs(ahead) > MAX_SKEW_S:
            direction = "ahead of" if ahead > 0 else "behind"
            detail = f"{url} is {abs(ahead):.0f} s {direction} this node's"
            yield Finding(component, Cause.CLOCK_SKEW, detail)


def _reason(error: BaseException) -> str:
    """Return the innermost reason of an error of requests."""
    while error.__context__ is not None:
        error = error.__context__
    return str(error)


def certificate(component: str, url: str, error: requests.exceptions.SSLError) -> Finding:
    """Return what is wrong with a server's certificate."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, ssl.SSLCertVerificationError):
        inner = inner.__context__
    reason = inner.verify_message if inner is not None else str(error)
    expired = "expired" in reason
    cause = Cause.CERTIFICATE_EXPIRED if expired else Cause.CERTIFICATE_REFUSED
    return Finding(component, cause, f"{url}: {reason}")


# --- logins


def identity_provider(url: str) -> Iterator[Finding]:
    """Reach an address of the identity provider; any answer but an error of the server will do."""
    component = "identity provider"
    try:
        status = requests.get(url, timeout=TIMEOUT_S, allow_redirects=False).status_code
        if status == 404:
            # Some providers know the address of tokens for POST only.
            status = requests.post(url, timeout=TIMEOUT_S, allow_redirects=False).status_code
    except requests.exceptions.SSLError as error:
        yield certificate(component, url, error)
    except requests.RequestException as error:
        yield Finding(component, Cause.IDENTITY_PROVIDER, f"{url}: {_reason(error)}")
    else:
        if status >= 500 or status == 404:
            yield Finding(component, Cause.IDENTITY_PROVIDER, f"{url}: HTTP status {status}")


def external_url(url: str) -> Iterator[Finding]:
    """Ask the hub for its version, where browsers find it."""
    component = "external address"
    address = f"{url.rstrip('/')}/hub/api"
    try:
        response = requests.get(address, timeout=TIMEOUT_S, allow_redirects=False)
        response.raise_for_status()
        version = response.json().get("version")
    except requests.exceptions.SSLError as error:
        yield certificate(component, address, error)
    except requests.HTTPError as error:
        detail = f"{address}: HTTP status {error.response.status_code}"
        yield Finding(component, Cause.WRONG_URL, detail)
    except (requests.RequestException, ValueError, AttributeError) as error:
        yield Finding(component, Cause.WRONG_URL, f"{address}: {_reason(error)}")
    else:
        if not version:
            yield Finding(component, Cause.WRONG_URL, f"{address}: there is no hub")


# --- databases


def database(name: str, file: Path, policy: Policy) -> Iterator[Finding]:
    """Log in to a service's database, and write to a temporary table."""
    import psycopg2

    parser = configparser.ConfigParser(interpolation=None)
    if not parser.read(file) or not parser.sections():
        yield Finding("postgresql", Cause.SECRET_MISSING, f"that of the database {name}")
        return
    keys = dict(parser[parser.sections()[0]])
    try:
        with (
            closing(psycopg2.connect(**keys, connect_timeout=TIMEOUT_S)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("CREATE TEMPORARY TABLE preflight (content text)")
            cursor.execute(
                "INSERT INTO preflight SELECT md5(i::text) FROM generate_series(1, %s) i",
                (PROBE_BYTES // 32,),
            )
    except psycopg2.Error as error:
        text = str(error)
        cause = next(
            (cause for words, cause in DATABASE_MESSAGES.items() if words in text.lower()),
            Cause.DATABASE_REFUSES,
        )
        unconnected = cause in (Cause.NO_CONNECTION, Cause.CONNECTION_REFUSED)
        if unconnected and (name_of_policy := policy("postgresql")):
            cause, text = Cause.NETWORK_POLICY, f"{text}: {name_of_policy} is there"
        yield Finding("postgresql", cause, f"database {name}: {text}")


# --- object store


def bucket(name: str, folder: Path, store: str = "objectstore") -> Iterator[Finding]:
    """Write an object to a service's bucket with the service's keys, and delete it."""
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError, EndpointConnectionError
    from botocore.session import Session

    if not (folder / "aws-credentials").exists():
        yield Finding(store, Cause.SECRET_MISSING, f"that of the bucket {name}")
        return
    session = Session()
    session.set_config_variable("config_file", str(folder / "aws-config"))
    session.set_config_variable("credentials_file", str(folder / "aws-credentials"))
    limits = Config(
        connect_timeout=TIMEOUT_S, read_timeout=TIMEOUT_S, retries={"total_max_attempts": 2}
    )
    container, _, prefix = name.partition("/")
    key = f"{prefix}/preflight-{uuid.uuid4().hex}".lstrip("/")
    try:
        client = session.create_client("s3", config=limits)
        client.put_object(Bucket=container, Key=key, Body=bytes(PROBE_BYTES))
        client.delete_object(Bucket=container, Key=key)
    except ClientError as error:
        details = error.response.get("Error", {})
        code, message = details.get("Code", ""), details.get("Message", "")
        cause = Cause.STORE_REFUSES
        if code in SKEW_CODES:
            cause = Cause.CLOCK_SKEW
        elif code in FULL_CODES or "no space left" in message.lower():
            cause = Cause.VOLUME_FULL
        elif code in KEY_CODES:
            cause = Cause.KEY_REFUSED
        yield Finding(store, cause, f"bucket {name}: {code} {message}")
    except EndpointConnectionError as error:
        yield Finding(store, Cause.CONNECTION_REFUSED, f"bucket {name}: {error}")
    except BotoCoreError as error:
        yield Finding(store, Cause.STORE_REFUSES, f"bucket {name}: {error}")


# --- origins of the caches


def origin(address: str) -> Iterator[Finding]:
    """Log in to an XRootD server, and look at its top folder."""
    from XRootD import client

    component = "xcache"
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), TIMEOUT_S).close()
    except OSError as error:
        yield Finding(component, Cause.WRONG_ORIGIN, f"{address}: {error}")
        return
    status, _ = client.FileSystem(f"root://{address}").stat("/", timeout=TIMEOUT_S)
    text = " ".join(str(status.message).split())
    refusals = ("auth failed", "no protocols left", "not authorized", "permission denied")
    if any(words in text.lower() for words in (*refusals, "unauthorized", "3010")):
        yield Finding(component, Cause.ORIGIN_CREDENTIALS, f"{address}: {text}")
    elif not status.ok and "3011" not in text and "no such file" not in text.lower():
        yield Finding(component, Cause.WRONG_ORIGIN, f"{address}: {text}")


# --- rights


def rights(
    account: Account, namespace: str, review: Callable[[str, Any], Any]
) -> Iterator[Finding]:
    """Ask the API server whether a ServiceAccount may do what its component needs.

    `namespace` is where the account is; `review` creates an object at a path and returns it.
    """
    user = f"system:serviceaccount:{namespace}:{account.name}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    groups.append("system:authenticated")
    for where, rules in account.rules.items():
        path = f"/apis/authorization.k8s.io/v1/namespaces/{where}/localsubjectaccessreviews"
        for attributes in _requests(rules, where):
            answer = review(
                path,
                {
                    "apiVersion": "authorization.k8s.io/v1",
                    "kind": "LocalSubjectAccessReview",
                    "metadata": {"namespace": where},
                    "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
                },
            )
            if not answer["status"]["allowed"]:
                group = f".{attributes['group']}" if attributes["group"] else ""
                detail = (
                    f"{account.name} may not {attributes['verb']} "
                    f"{attributes['resource']}{group} in {where}"
                )
                yield Finding(account.component, Cause.RIGHT_MISSING, detail)


def _requests(rules: list[dict[str, Any]], namespace: str) -> Iterator[dict[str, str]]:
    """Yield what rules of a Role allow, one by one."""
    for rule in rules:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    for name in rule.get("resourceNames") or [""]:
                        kind, _, subresource = resource.partition("/")
                        yield {
                            "namespace": namespace,
                            "group": group,
                            "resource": kind,
                            "subresource": subresource,
                            "verb": verb,
                            "name": name,
                        }
