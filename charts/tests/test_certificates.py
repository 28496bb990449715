"""Traefik in front of the proxy gets certificates, as the chart configures it.

The certificate authority is Let's Encrypt's own test server, which connects to Traefik as the
public one would.
"""

import datetime
import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from ipaddress import ip_address
from pathlib import Path

import pytest
import requests
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from http_server import Request, serving
from rendering import ALONE, Manifest, files, merged, template
from shoppe_ci import toolchain
from shoppe_ci.wait import eventually

HOST = "hub.example.org"
VALUES: Manifest = {
    "proxy": {
        "https": {
            "enabled": True,
            "hosts": [HOST],
            "letsencrypt": {"contactEmail": "admin@example.org"},
        }
    }
}
READY_S = 60


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def self_signed(folder: Path) -> tuple[Path, Path]:
    """Write a certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "acme")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "acme.crt").write_bytes(certificate.public_bytes(pem))
    (folder / "acme.key").write_bytes(key.private_bytes(pem, *plain))
    return folder / "acme.crt", folder / "acme.key"


@contextmanager
def running(log: Path, *command: object, **environment: str) -> Iterator[None]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def certificate_authority(folder: Path, http_port: int) -> Iterator[tuple[str, Path, str]]:
    """Yield its address, the certificate of its own server, and the address of its roots."""
    acme, management, dns = free_port(), free_port(), free_port()
    certificate, key = self_signed(folder)
    config = {
        "listenAddress": f"127.0.0.1:{acme}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(certificate),
        "privateKey": str(key),
        "httpPort": http_port,
        "tlsPort": free_port(),
        "profiles": {"default": {"description": "for tests", "validityPeriod": 7776000}},
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": config}))
    programs = toolchain.folder("pebble")
    # Every name is this machine's; other kinds of challenge are off.
    names = ["-defaultIPv4=127.0.0.1", "-defaultIPv6=", f"-dnsserver=127.0.0.1:{dns}"]
    names += ["-http01=", "-https01=", "-tlsalpn01=", "-doh=", f"-management=:{free_port()}"]
    with (
        running(folder / "dns.log", programs / "pebble-challtestsrv", *names),
        running(
            folder / "pebble.log",
            programs / "pebble",
            f"-config={folder / 'pebble.json'}",
            f"-dnsserver=127.0.0.1:{dns}",
            PEBBLE_VA_NOSLEEP="1",
            PEBBLE_WFE_NONCEREJECT="0",
        ),
    ):
        yield (
            f"https://127.0.0.1:{acme}/dir",
            certificate,
            f"https://127.0.0.1:{management}/roots/0",
        )


@contextmanager
def traefik(folder: Path, values: Manifest, authority: Path) -> Iterator[None]:
    """Run Traefik with what the chart renders, its paths in a folder."""
    (folder / "volume").mkdir(exist_ok=True)
    for manifest in template("jupyterhub", merged(ALONE["jupyterhub"], values)):
        if manifest["kind"] == "ConfigMap" and "traefik.yaml" in files(manifest):
            for name, text in files(manifest).items():
                own = text.replace("/etc/traefik", str(folder))
                (folder / name).write_text(own.replace("/var/lib/acme", str(folder / "volume")))
    program = toolchain.folder("traefik") / "traefik"
    configuration = f"--configFile={folder / 'traefik.yaml'}"
    with running(
        folder / "traefik.log", program, configuration, LEGO_CA_CERTIFICATES=str(authority)
    ):
        yield


def served_certificate(port: int, roots: str) -> x509.Certificate:
    """Return the certificate for the host once there is one that is verified."""
    context = ssl.create_default_context(cadata=roots)

    def certificate() -> x509.Certificate:
        with (
            socket.create_connection(("127.0.0.1", port), 5) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as connection,
        ):
            content = connection.getpeercert(binary_form=True)
            assert content is not None
            return x509.load_der_x509_certificate(content)

    return eventually(certificate, "Traefik serves a certificate", timeout=READY_S, every=0.5)


def root_certificate(url: str, authority: Path) -> str:
    """Return the root of the certificate authority once it responds."""

    def root() -> str:
        return requests.get(url, verify=str(authority), timeout=5).text

    return eventually(root, "the certificate authority responds", timeout=READY_S, every=0.2)


def response(connection: HTTPConnection, headers: Mapping[str, str]) -> HTTPResponse:
    connection.request("GET", "/hub/api", headers=dict(headers))
    return connection.getresponse()


@pytest.mark.part("properties")
def test_certificates_are_got_and_kept(tmp_path: Path) -> None:
    http, https = free_port(), free_port()
    protocols = []

    def respond(request: Request) -> tuple[int, object]:
        protocols.append(request.headers["X-Forwarded-Proto"])
        return 200, {}

    with ExitStack() as running_servers:
        proxy = running_servers.enter_context(serving(respond))
        url, authority, roots_url = running_servers.enter_context(
            certificate_authority(tmp_path, http)
        )
        roots = root_certificate(roots_url, authority)
        redirect = {"redirections": {"entryPoint": {"to": f":{https}"}}}
        servers = {"loadBalancer": {"servers": [{"url": proxy}]}}
        here = {
            "extraStaticConfig": {
                "entryPoints": {
                    "http": {"address": f"127.0.0.1:{http}", "http": redirect},
                    "https": {"address": f"127.0.0.1:{https}"},
                    "ping": {"address": f"127.0.0.1:{free_port()}"},
                }
            },
            "extraDynamicConfig": {"http": {"services": {"proxy": servers}}},
        }
        values = merged(
            VALUES,
            {"proxy": {"traefik": here, "https": {"letsencrypt": {"acmeServer": url}}}},
        )
        with traefik(tmp_path, values, authority):
            first = served_certificate(https, roots)
            context = ssl.create_default_context(cadata=roots)
            secure = HTTPSConnection("127.0.0.1", https, timeout=10, context=context)
            # The certificate is the host's, and no name resolves to this machine.
            secure.sock = context.wrap_socket(
                socket.create_connection(("127.0.0.1", https), 10), server_hostname=HOST
            )
            answer = response(secure, {"Host": HOST})
            plain = response(HTTPConnection("127.0.0.1", http, timeout=10), {"Host": HOST})
        (volume,) = (tmp_path / "volume").iterdir()
        assert volume.stat().st_mode & 0o077 == 0
        with traefik(tmp_path, values, authority):
            second = served_certificate(https, roots)
    names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [HOST]
    assert (answer.status, protocols) == (200, ["https"])
    assert answer.headers["Strict-Transport-Security"] == "max-age=15724800"
    assert plain.status in (301, 308)
    assert plain.headers["Location"] == f"https://{HOST}:{https}/hub/api"
    assert second.serial_number == first.serial_number, "the volume keeps the certificate"


def test_the_public_service_leads_to_traefik_and_traefik_to_the_proxy() -> None:
    manifests = template("jupyterhub", merged(ALONE["jupyterhub"], VALUES))
    services = {m["metadata"]["name"]: m["spec"] for m in manifests if m["kind"] == "Service"}
    public, proxy = services["shoppe-proxy-public"], services["shoppe-proxy-http"]
    component = "app.kubernetes.io/component"
    assert public["selector"][component] == "autohttps"
    assert {port["name"]: port["targetPort"] for port in public["ports"]} == {
        "http": "http",
        "https": "https",
    }
    assert proxy["selector"][component] == "proxy"
    (text,) = (files(m)["dynamic.yaml"] for m in manifests if "dynamic.yaml" in files(m))
    (server,) = yaml.safe_load(text)["http"]["services"]["proxy"]["loadBalancer"]["servers"]
    assert server["url"] == f"http://shoppe-proxy-http:{proxy['ports'][0]['port']}"
