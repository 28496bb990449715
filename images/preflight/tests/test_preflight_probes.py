"""Probes name what is wrong with real servers, and nothing where nothing is."""

import contextlib
import datetime
import ipaddress
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from coffea_shoppe_preflight import probes
from coffea_shoppe_preflight.bounded import Check, run_all
from coffea_shoppe_preflight.findings import Cause, Finding
from coffea_shoppe_preflight.settings import Account
from coffea_shoppe_preflight.snapshot import ForbiddenError, UnreachableError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from http_server import Request, serving


def no_policy(component: str) -> str:
    return ""


def causes(findings: Iterator[Finding]) -> list[Cause]:
    return [finding.cause for finding in findings]


@contextlib.contextmanager
def tcp_server(handle: Callable[[socketserver.StreamRequestHandler], None]) -> Iterator[int]:
    """Yield the port of a server that handles each connection so."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            handle(self)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True  # XRootD's client keeps its connection

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# --- names and connections


def test_names_that_are_not_resolved() -> None:
    assert causes(probes.dns("kubernetes.invalid")) == [Cause.DNS_AWAY]
    assert causes(probes.dns("localhost")) == []


def test_a_service_that_answers_works() -> None:
    with serving(lambda request: (200, {})) as url:
        assert causes(probes.connect("mlflow", url, no_policy)) == []


def test_a_service_without_a_server() -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    assert causes(probes.connect("mlflow", url, no_policy)) == [Cause.CONNECTION_REFUSED]
    assert causes(probes.connect("mlflow", "http://mlflow.invalid", no_policy)) == [
        Cause.UNKNOWN_HOST
    ]


def test_a_service_with_an_internal_error() -> None:
    with serving(lambda request: (500, {})) as url:
        assert causes(probes.connect("mlflow", url, no_policy)) == [Cause.HTTP_ERROR]


@pytest.fixture
def dropping(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of a listener that accepts no connection: its queue is full."""
    monkeypatch.setattr(probes, "TIMEOUT_S", 0.2)
    with socket.socket() as listener, contextlib.ExitStack() as clients:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield f"root://127.0.0.1:{listener.getsockname()[1]}"


def test_packets_that_a_network_drops(dropping: str) -> None:
    assert causes(probes.connect("xcache", dropping, no_policy)) == [Cause.NO_CONNECTION]
    (finding,) = probes.connect("xcache", dropping, lambda component: "NetworkPolicy hep/deny")
    assert (finding.component, finding.cause) == ("xcache", Cause.NETWORK_POLICY)
    assert "hep/deny" in finding.detail


def test_a_network_that_refuses_what_a_policy_denies() -> None:
    url = f"root://127.0.0.1:{closed_port()}"
    (finding,) = probes.connect("xcache", url, lambda component: "NetworkPolicy hep/deny")
    assert finding.cause == Cause.NETWORK_POLICY
    assert (
        finding.detail == f"{url[7:]} refuses the connection, and NetworkPolicy hep/deny is there"
    )


def test_a_network_that_learns_of_the_pod_late(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"root://127.0.0.1:{closed_port()}"
    attempts = 0

    def probe() -> Iterator[Finding]:
        nonlocal attempts
        attempts += 1
        return probes.connect("xcache", url, no_policy) if attempts == 1 else iter(())

    assert causes(probes.settled(probe)) == []
    assert attempts == 2
    monkeypatch.setattr(probes, "SETTLING_S", 0.2)
    refused = partial(probes.connect, "xcache", url, no_policy)
    assert causes(probes.settled(refused)) == [Cause.CONNECTION_REFUSED]


@contextlib.contextmanager
def clock_of(ahead: int, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """Yield the port of an HTTP server whose clock is some seconds ahead."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"version": "6.1.1"}')

        def date_time_string(self, timestamp: float | None = None) -> str:
            moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=ahead)
            return moment.strftime("%a, %d %b %Y %H:%M:%S GMT")

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if context is not None:
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.parametrize(("ahead", "words"), [(600, "ahead of"), (-600, "behind"), (5, "")])
def test_a_signer_whose_clock_is_moved(ahead: int, words: str) -> None:
    with clock_of(ahead) as port:
        findings = list(probes.connect("operator", f"http://127.0.0.1:{port}", no_policy))
    assert causes(iter(findings)) == ([Cause.CLOCK_SKEW] if words else [])
    assert all(words in finding.detail for finding in findings)


# --- certificates and logins


def certificate(folder: Path, days: int) -> Path:
    """Write a certificate of 127.0.0.1 that expires in some days, and its key, to a file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(end - datetime.timedelta(days=90))
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = folder / f"{days}.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.mark.parametrize(
    ("days", "trusted", "expected"),
    [
        (30, True, []),
        (-1, True, [Cause.CERTIFICATE_EXPIRED]),
        (30, False, [Cause.CERTIFICATE_REFUSED]),
    ],
)
def test_certificates(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: int,
    trusted: bool,
    expected: list[Cause],
) -> None:
    file = certificate(tmp_path, days)
    if trusted:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(file))
    else:
        monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    with clock_of(0, context) as port:
        url = f"https://127.0.0.1:{port}"
        assert causes(probes.external_url(url)) == expected
        assert causes(probes.identity_provider(url)) == expected
        assert causes(probes.connect("objectstore", url, no_policy)) == expected


def test_an_identity_provider_that_is_away() -> None:
    url = f"http://127.0.0.1:{closed_port()}/token"
    assert causes(probes.identity_provider(url)) == [Cause.IDENTITY_PROVIDER]
    assert causes(probes.identity_provider("http://idp.invalid/token")) == [Cause.IDENTITY_PROVIDER]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *((405, []), (400, []), (401, [])),
        *((404, [Cause.IDENTITY_PROVIDER]), (503, [Cause.IDENTITY_PROVIDER])),
    ],
)
def test_an_identity_provider_that_responds(status: int, expected: list[Cause]) -> None:
    """A token's address refuses a GET without credentials, and so shows that it is there."""
    with serving(lambda request: (status, {})) as url:
        assert causes(probes.identity_provider(url)) == expected


def test_an_address_of_tokens_may_be_there_for_post_alone() -> None:
    with serving(lambda request: (400 if request.method == "POST" else 404, {})) as url:
        assert causes(probes.identity_provider(url)) == []


@pytest.mark.parametrize(
    ("status", "content", "expected"),
    [
        (200, {"version": "6.1.1"}, []),
        (200, b"<html>Welcome to nginx!</html>", [Cause.WRONG_URL]),
        (200, {}, [Cause.WRONG_URL]),
        (404, {}, [Cause.WRONG_URL]),
        (302, b"", [Cause.WRONG_URL]),
    ],
)
def test_where_browsers_find_the_hub(status: int, content: Any, expected: list[Cause]) -> None:
    with serving(lambda request: (status, content)) as url:
        assert causes(probes.external_url(url)) == expected
    assert causes(probes.external_url("http://facility.invalid")) == [Cause.WRONG_URL]


# --- databases


def postgresql_error(code: str, message: str) -> Callable[[Any], None]:
    """Return a handler of connections that refuses them as PostgreSQL does."""

    def handle(connection: socketserver.StreamRequestHandler) -> None:
        while True:
            (length,) = struct.unpack("!I", connection.rfile.read(4))
            (version,) = struct.unpack("!I", connection.rfile.read(length - 4)[:4])
            if version not in (80877103, 80877104):  # requests for TLS and GSSAPI
                break
            connection.wfile.write(b"N")
        fields = {"S": "FATAL", "V": "FATAL", "C": code, "M": message}
        body = b"".join(f"{key}{text}\0".encode() for key, text in fields.items()) + b"\0"
        connection.wfile.write(b"E" + struct.pack("!I", len(body) + 4) + body)

    return handle


def service_file(folder: Path, port: int) -> Path:
    file = folder / "service.conf"
    lines = ["[mlflow]", "host=127.0.0.1", f"port={port}", "user=mlflow", "password=100%x"]
    file.write_text("\n".join([*lines, "dbname=mlflow", ""]))
    return file


@pytest.mark.parametrize(
    ("code", "message", "cause"),
    [
        ("28P01", 'password authentication failed for user "mlflow"', Cause.PASSWORD_REFUSED),
        ("53300", "sorry, too many clients already", Cause.CONNECTION_LIMIT),
        ("53300", 'too many connections for role "mlflow"', Cause.CONNECTION_LIMIT),
        (
            "53300",
            "remaining connection slots are reserved for non-replication superuser connections",
            Cause.CONNECTION_LIMIT,
        ),
        ("53100", "could not write init file: No space left on device", Cause.VOLUME_FULL),
        ("3D000", 'database "mlflow" does not exist', Cause.DATABASE_REFUSES),
    ],
)
def test_a_database_that_refuses(tmp_path: Path, code: str, message: str, cause: Cause) -> None:
    with tcp_server(postgresql_error(code, message)) as port:
        (finding,) = probes.database("mlflow", service_file(tmp_path, port), no_policy)
    assert (finding.component, finding.cause) == ("postgresql", cause)
    assert "100%x" not in finding.detail


def test_a_database_that_is_away(tmp_path: Path) -> None:
    file = service_file(tmp_path, closed_port())
    assert causes(probes.database("mlflow", file, no_policy)) == [Cause.CONNECTION_REFUSED]
    missing = tmp_path / "missing"
    assert causes(probes.database("mlflow", missing, no_policy)) == [Cause.SECRET_MISSING]


# --- object store


def s3_files(folder: Path, url: str) -> Path:
    config = ["[default]", "region = us-east-1", f"endpoint_url = {url}", "s3 ="]
    (folder / "aws-config").write_text("\n".join([*config, "  addressing_style = path", ""]))
    keys = ["[default]", "aws_access_key_id = mlflow", "aws_secret_access_key = secret", ""]
    (folder / "aws-credentials").write_text("\n".join(keys))
    return folder


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (200, "", []),
        (403, "InvalidAccessKeyId", [Cause.KEY_REFUSED]),
        (403, "SignatureDoesNotMatch", [Cause.KEY_REFUSED]),
        (403, "RequestTimeTooSkewed", [Cause.CLOCK_SKEW]),
        (507, "InsufficientStorage", [Cause.VOLUME_FULL]),
        (404, "NoSuchBucket", [Cause.STORE_REFUSES]),
    ],
)
def test_a_bucket(tmp_path: Path, status: int, code: str, expected: list[Cause]) -> None:
    paths = []

    def respond(request: Request) -> tuple[int, object]:
        paths.append((request.method, request.path.rpartition("/")[0]))
        error = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        return status, error if code else b""

    with serving(respond) as url:
        findings = list(probes.bucket("shared/service-mlflow", s3_files(tmp_path, url)))
        assert [finding.cause for finding in findings] == expected, findings
    assert paths[0] == ("PUT", "/shared/service-mlflow")
    assert ("DELETE" in {method for method, _ in paths}) == (status == 200)


def test_a_store_that_is_away(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{closed_port()}"
    findings = probes.bucket("service-mlflow", s3_files(tmp_path, url))
    assert causes(findings) == [Cause.CONNECTION_REFUSED]


def test_a_bucket_whose_keys_are_missing(tmp_path: Path) -> None:
    assert causes(probes.bucket("service-mlflow", tmp_path)) == [Cause.SECRET_MISSING]


# --- origins

PROTOCOL, LOGIN, STAT, ERROR, AUTH_MORE = 3006, 3007, 3017, 4003, 4002
NOT_AUTHORIZED = 3010


def xrootd_handler(*, login: bytes, stat: tuple[int, bytes]) -> Callable[[Any], None]:
    """Return a handler that speaks enough of XRootD for a login and a stat."""

    def handle(connection: socketserver.StreamRequestHandler) -> None:
        def respond(stream: bytes, status: int, body: bytes) -> None:
            connection.wfile.write(stream + struct.pack("!HI", status, len(body)) + body)

        header = struct.Struct("!2sH16sI")
        protocol = struct.pack("!II", 0x511, 1)
        connection.rfile.read(20)
        respond(b"\0\0", 0, protocol)
        while len(text := connection.rfile.read(header.size)) == header.size:
            stream, request, _, length = header.unpack(text)
            connection.rfile.read(length)
            if request == PROTOCOL:
                respond(stream, 0, protocol)
            elif request == LOGIN:
                respond(stream, 0, bytes(16) + login)
            elif request == STAT:
                respond(stream, *stat)
            else:
                respond(stream, 0, b"")

    return handle


IS_FOLDER = (0, b"1 4096 19 1700000000\0")


@pytest.mark.parametrize(
    ("login", "stat", "expected"),
    [
        (b"", IS_FOLDER, []),
        (b"", (ERROR, struct.pack("!I", 3011) + b"no such file\0"), []),
        (b"&P=gsi,v:10600,c:ssl,ca:5168735f.0\0", IS_FOLDER, [Cause.ORIGIN_CREDENTIALS]),
        (
            b"",
            (ERROR, struct.pack("!I", NOT_AUTHORIZED) + b"permission denied\0"),
            [Cause.ORIGIN_CREDENTIALS],
        ),
    ],
)
def test_an_origin(login: bytes, stat: tuple[int, bytes], expected: list[Cause]) -> None:
    with tcp_server(xrootd_handler(login=login, stat=stat)) as port:
        assert causes(probes.origin(f"127.0.0.1:{port}")) == expected


def test_a_wrong_origin() -> None:
    assert causes(probes.origin(f"127.0.0.1:{closed_port()}")) == [Cause.WRONG_ORIGIN]
    assert causes(probes.origin("origin.invalid:1094")) == [Cause.WRONG_ORIGIN]


# --- rights

RULES = [
    {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create"]},
    {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"],
     "resourceNames": ["shoppe-triton"]},
]  # fmt: skip


def test_an_operator_without_a_right() -> None:
    questions = []
    groups: set[str] = set()

    def review(path: str, content: dict[str, Any]) -> dict[str, Any]:
        attributes = content["spec"]["resourceAttributes"]
        questions.append((path.split("/")[5], content["spec"]["user"], attributes))
        groups.update(content["spec"]["groups"])
        return {"status": {"allowed": attributes["verb"] != "create"}}

    account = Account(component="operator", name="shoppe-operator", rules={"hep": RULES})
    (finding,) = probes.rights(account, "hep", review)
    assert (finding.component, finding.cause) == ("operator", Cause.RIGHT_MISSING)
    assert "shoppe-operator may not create secrets in hep" in finding.detail
    assert [attributes["verb"] for _, _, attributes in questions] == ["get", "create", "patch"]
    # A right may be granted to all ServiceAccounts of a namespace.
    every = "system:serviceaccounts"
    assert groups == {every, f"{every}:hep", "system:authenticated"}
    assert questions[-1] == (
        "hep",
        "system:serviceaccount:hep:shoppe-operator",
        {
            "namespace": "hep",
            "group": "apps",
            "resource": "deployments",
            "subresource": "scale",
            "verb": "patch",
            "name": "shoppe-triton",
        },
    )


# --- bounds


def test_a_check_that_hangs_or_fails_does_not_stop_the_others() -> None:
    never = threading.Event()

    def hang() -> list[Finding]:
        never.wait()
        return []

    def fail(error: Exception) -> list[Finding]:
        raise error

    broken = Finding("xcache", Cause.WRONG_ORIGIN, "x")
    checks = [
        Check("mlflow", "a page", hang),
        Check("triton", "a model", partial(fail, ValueError("a bug"))),
        Check("operator", "a right", partial(fail, ForbiddenError("HTTP status 403"))),
        Check("nodes", "a clock", partial(fail, UnreachableError("timed out"))),
        Check("xcache", "an origin", partial(list, [broken])),
    ]
    late, bug, forbidden, away, last = run_all(checks, timeout=0.2)
    never.set()
    assert late == Finding("mlflow", Cause.NO_ANSWER, "a page took over 0.2 s")
    assert bug == Finding("triton", Cause.CHECK_FAILED, "a model: ValueError: a bug")
    assert forbidden == Finding("operator", Cause.UNCHECKED, "a right: HTTP status 403")
    assert away == Finding("API server", Cause.API_SERVER, "timed out")
    assert last == broken
