"""Credentials that are issued: by a VOMS server for a robot, by an OAuth server for a client."""

import base64
import http.server
import json
import ssl
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xcache_exporter.credentials import UnusableCredentialError
from xcache_exporter.issuers import Client, Robot

VOMSES = '"atlas" "voms.example" "15000" "/DC=example/CN=voms.example" "atlas"'


def openssl(*words: str | Path) -> str:
    process = subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    return process.stdout.decode()


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Robot:
    """A robot, and programs of VOMS that make its certificate the proxy."""
    secret, work, programs = (tmp_path / name for name in ("secret", "work", "programs"))
    for folder in (secret, work, programs):
        folder.mkdir()
    words = ("-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=robot")
    openssl("req", "-x509", *words, "-keyout", secret / "tls.key", "-out", secret / "tls.crt")
    program(
        programs,
        "voms-proxy-init",
        f"""echo "$@" > {tmp_path}/arguments
        for word; do [ "$last" = -out ] && out=$word; last=$word; done
        cp {tmp_path}/work/vomses {tmp_path}/vomses
        stat --format=%a {tmp_path}/work/tls.key > {tmp_path}/mode
        cat {tmp_path}/work/tls.crt {tmp_path}/work/tls.key {tmp_path}/work/tls.crt > "$out" """,
    )
    program(programs, "voms-proxy-info", "echo 600")
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return Robot(secret, work, ["atlas:/atlas/Role=production"], [VOMSES], "12:00")


def test_a_robot_gets_a_proxy_that_ends_with_its_attributes(robot: Robot, tmp_path: Path) -> None:
    content, end = robot.credential(robot.read())
    assert content.count(b"BEGIN CERTIFICATE") == 2
    assert end == pytest.approx(time.time() + 600, abs=30)
    arguments = (tmp_path / "arguments").read_text()
    assert "-voms atlas:/atlas/Role=production -vomses" in arguments
    assert "-valid 12:00" in arguments
    assert (tmp_path / "vomses").read_text() == f"{VOMSES}\n"
    assert (tmp_path / "mode").read_text() == "600\n"
    # Only the cache's volume has the proxy.
    assert not (robot.work / "proxy").exists()


def test_a_vo_that_refuses_is_quoted_without_noise(robot: Robot, tmp_path: Path) -> None:
    output = "Cannot open fileFilename=/x\\nFunction: \\n.....\\natlas: User unknown\\n"
    program(tmp_path / "programs", "voms-proxy-init", f"printf '{output}' >&2; exit 1")
    with pytest.raises(UnusableCredentialError, match=r"^voms-proxy-init: atlas: User unknown$"):
        robot.credential(robot.read())


def test_a_robot_without_a_key_is_named(robot: Robot) -> None:
    (robot.folder / "tls.key").unlink()
    with pytest.raises(UnusableCredentialError, match=r"the Secret's tls\.key cannot be read"):
        robot.read()


def token(lifetime: float) -> str:
    claims = json.dumps({"exp": time.time() + lifetime}).encode()
    return f"e30.{base64.urlsafe_b64encode(claims).decode().rstrip('=')}.c2ln"


class Server:
    """An OAuth server with TLS, and what clients sent."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.forms: list[dict[str, str]] = []
        self.logins: list[str] = []
        self.discovery: Any = {"token_endpoint": f"{url}/token"}
        self.response: tuple[int, Any] = (200, {"access_token": token(600)})


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Its certificate is of an authority of the grid's folder."""
    cas = tmp_path / "cas"
    cas.mkdir()
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    words = ("-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost")
    names = ("-addext", "subjectAltName=DNS:localhost")
    openssl("req", "-x509", *words, *names, "-keyout", key, "-out", certificate)
    digest = openssl("x509", "-noout", "-subject_hash", "-in", certificate).strip()
    (cas / f"{digest}.0").write_bytes(certificate.read_bytes())
    monkeypatch.setenv("X509_CERT_DIR", str(cas))

    class Handler(http.server.BaseHTTPRequestHandler):
        def respond(self, status: int, content: Any) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            wrong = self.path != "/realm/.well-known/openid-configuration"
            self.respond(404 if wrong else 200, state.discovery)

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            state.forms.append(dict(urllib.parse.parse_qsl(form)))
            login = self.headers["Authorization"].removeprefix("Basic ")
            state.logins.append(base64.b64decode(login).decode())
            self.respond(*state.response)

        def log_message(self, *_: object) -> None:
            pass

    listening = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listening.socket = context.wrap_socket(listening.socket, server_side=True)
    state = Server(f"https://localhost:{listening.server_address[1]}")
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    yield state
    listening.shutdown()
    listening.server_close()


@pytest.fixture
def client(server: Server, tmp_path: Path) -> Callable[..., Client]:
    """Makes a client whose Secret is there."""
    (tmp_path / "client-id").write_text("shoppe\n")
    (tmp_path / "client-secret").write_text("5ec7e7 &\n")

    def make(issuer: str = f"{server.url}/realm/") -> Client:
        return Client(tmp_path, issuer, ["storage.read:/atlas", "a"], "https://wlcg.example")

    return make


def test_a_client_gets_a_token_for_its_scopes(
    client: Callable[..., Client], server: Server
) -> None:
    given = client()
    content, end = given.credential(given.read())
    assert content.decode() == server.response[1]["access_token"]
    assert end == pytest.approx(time.time() + 600, abs=30)
    assert server.forms == [
        {
            "grant_type": "client_credentials",
            "scope": "storage.read:/atlas a",
            "audience": "https://wlcg.example",
        }
    ]
    assert server.logins == ["shoppe:5ec7e7%20%26"]


@pytest.mark.parametrize(
    ("status", "content", "problem"),
    [
        (
            400,
            {"error": "invalid_scope", "error_description": "storage.read:/x"},
            r"/token: HTTP 400, invalid_scope: storage\.read:/x",
        ),
        (401, b"<html>", "/token: HTTP 401$"),
        (403, ["odd"], "/token: HTTP 403"),
        (200, b"<html>", "/token gives no JSON"),
        (200, [], "/token gives no JSON object"),
        (200, {}, "/token gives no access token"),
        (200, {"access_token": "opaque"}, "the token is no JSON Web Token"),
    ],
)
def test_a_refusal_names_the_server_and_its_reason(
    client: Callable[..., Client], server: Server, status: int, content: Any, problem: str
) -> None:
    server.response = status, content
    given = client()
    with pytest.raises(UnusableCredentialError, match=problem) as caught:
        given.credential(given.read())
    assert "5ec7e7" not in str(caught.value)


@pytest.mark.parametrize(
    ("issuer", "problem"),
    [
        ("{url}/other", "/other/.well-known/openid-configuration: HTTP 404"),
        ("http://localhost:9", "http://localhost:9/.* is not encrypted"),
        ("https://localhost:9", "does not respond: .*refused"),
    ],
)
def test_a_wrong_issuer_is_named(
    client: Callable[..., Client], server: Server, issuer: str, problem: str
) -> None:
    given = client(issuer.format(url=server.url))
    with pytest.raises(UnusableCredentialError, match=problem):
        given.credential(given.read())


def test_a_document_without_an_endpoint_is_named(
    client: Callable[..., Client], server: Server
) -> None:
    server.discovery = {"issuer": server.url}
    given = client()
    with pytest.raises(UnusableCredentialError, match="names no token endpoint: is it an issuer"):
        given.credential(given.read())


def test_a_secret_is_never_sent_unencrypted(client: Callable[..., Client], server: Server) -> None:
    server.discovery = {"token_endpoint": server.url.replace("https", "http") + "/token"}
    given = client()
    with pytest.raises(UnusableCredentialError, match="is not encrypted"):
        given.credential(given.read())
    assert server.logins == []


def test_a_server_of_an_unknown_authority_is_refused(
    client: Callable[..., Client], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    monkeypatch.setenv("X509_CERT_DIR", str(tmp_path / "none"))
    given = client()
    with pytest.raises(UnusableCredentialError, match=r"does not respond: .*certificate verify"):
        given.credential(given.read())
