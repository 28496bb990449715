#!/usr/bin/python3 -I
"""Create the Secrets that a release generates, and add the keys that they lack.

A job runs it before each installation and upgrade.  A key that a Secret has is never changed,
except where the chart's values say what it is.  Only the standard library is used, so that it
runs in each image.

The argument is a file, a JSON list of Secrets: `name`, `labels`, and `keys`, each of which has one
of

    characters  number of random letters and digits
    hex         number of random bytes, as hexadecimal digits
    value       what the chart's values say
    text        a text in which {KEY} is another key of the Secret; it follows that key

With --print it writes new Secrets to standard output instead, as a List of Kubernetes.
"""

import base64
import http.client
import json
import secrets
import ssl
import string
import sys
import urllib.parse
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
SERVER = "https://kubernetes.default.svc"
LETTERS_AND_DIGITS = string.ascii_letters + string.digits
TIMEOUT_S = 20
MISSING, CONFLICT = 404, 409

Json = dict[str, Any]


class RefusedError(Exception):
    """The API server's message, and its HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Kubernetes:
    """The Secrets of one namespace, as the pod's ServiceAccount may use them."""

    def __init__(self, server: str, account: Path) -> None:
        self.address = urllib.parse.urlsplit(server)
        self.authority = account / "ca.crt"
        self.token = (account / "token").read_text()
        namespace = (account / "namespace").read_text()
        self.path = f"/api/v1/namespaces/{namespace}/secrets"

    def read(self, name: str) -> Json | None:
        """Return a Secret; None where there is none."""
        try:
            return self._request("GET", f"/{name}")
        except RefusedError as error:
            if error.status == MISSING:
                return None
            raise

    def create(self, secret: Json) -> None:
        """Create a Secret."""
        self._request("POST", "", secret)

    def add(self, secret: Json, entries: dict[str, str]) -> None:
        """Set keys of a Secret, unless it has changed since it was read."""
        version = secret["metadata"]["resourceVersion"]
        change = {"metadata": {"resourceVersion": version}, "data": entries}
        self._request("PATCH", f"/{secret['metadata']['name']}", change)

    def _request(self, method: str, path: str, body: Json | None = None) -> Json:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        connection = self._connection()
        try:
            connection.request(
                method, self.path + path, json.dumps(body) if body else None, headers
            )
            response = connection.getresponse()
            content: Json = json.load(response)
        finally:
            connection.close()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise RefusedError(response.status, content.get("message", response.reason))
        return content

    def _connection(self) -> http.client.HTTPConnection:
        if self.address.scheme == "http":
            return http.client.HTTPConnection(self.address.netloc, timeout=TIMEOUT_S)
        tls = ssl.create_default_context(cafile=self.authority)
        return http.client.HTTPSConnection(self.address.netloc, timeout=TIMEOUT_S, context=tls)


def generated(rule: Json) -> str:
    """Return a new value by the rule of its key."""
    if "characters" in rule:
        return "".join(secrets.choice(LETTERS_AND_DIGITS) for _ in range(rule["characters"]))
    return secrets.token_hex(rule["hex"])


def entries(rules: Json, present: dict[str, str]) -> dict[str, str]:
    """Return all keys of a Secret by their rules; what is present stays as it is."""
    values = {
        key: rule.get("value") or present.get(key) or generated(rule)
        for key, rule in rules.items()
        if "text" not in rule
    }
    for key, rule in rules.items():
        if "text" in rule:
            text = rule["text"]
            for name, value in list(values.items()):
                text = text.replace("{" + name + "}", value)
            values[key] = text
    return values


def manifest(definition: Json, encoded: dict[str, str]) -> Json:
    """Return a Secret with these entries, in base 64."""
    metadata = {"name": definition["name"], "labels": definition["labels"]}
    header = {"apiVersion": "v1", "kind": "Secret", "type": "Opaque"}
    return {**header, "metadata": metadata, "data": encoded}


def encode(values: dict[str, str]) -> dict[str, str]:
    """Return entries in base 64."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}


def complete(kubernetes: Kubernetes, definition: Json) -> str:
    """Create a Secret or add to it; return what was done, without any value."""
    name = definition["name"]
    secret = kubernetes.read(name)
    data = (secret or {}).get("data") or {}
    present = {key: base64.b64decode(value).decode() for key, value in data.items()}
    values = entries(definition["keys"], present)
    changed = sorted(key for key, value in values.items() if present.get(key) != value)
    encoded = encode({key: values[key] for key in changed})
    if secret is None:
        kubernetes.create(manifest(definition, encoded))
        return f"Secret {name}: created"
    if changed:
        kubernetes.add(secret, encoded)
        return f"Secret {name}: set {', '.join(changed)}"
    return f"Secret {name}: has all keys"


def main(path: str, *, server: str = SERVER, account: Path = ACCOUNT) -> None:
    """Complete all Secrets of a file; exit with the reason where the API server refuses."""
    kubernetes = Kubernetes(server, account)
    for definition in json.loads(Path(path).read_text()):
        try:
            print(complete(kubernetes, definition))
        except RefusedError as error:
            remedy = "the job tries again"
            if error.status != CONFLICT:
                remedy = "create it yourself, and name it in the values (docs/how-to/gitops.md)"
            raise SystemExit(f"Secret {definition['name']}: {error}: {remedy}") from None
        except OSError as error:
            raise SystemExit(f"Kubernetes' API server does not respond: {error}") from None


def print_new(path: str) -> None:
    """Print new Secrets by the rules of a file."""
    every = json.loads(Path(path).read_text())
    manifests = [
        manifest(definition, encode(entries(definition["keys"], {}))) for definition in every
    ]
    print(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}, indent=2))


if __name__ == "__main__":
    print_new(sys.argv[2]) if sys.argv[1] == "--print" else main(sys.argv[1])
