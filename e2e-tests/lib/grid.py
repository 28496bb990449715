"""A grid beside the cluster, whose origins demand a login: with a CA, a VO and tokens of its own.

XRootD, the VOMS server and Keycloak are real ones, in containers that pods reach by Services.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shoppe_ci import images, nodeimage
from shoppe_ci.cluster import Cluster, free_port
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import TOOLCHAIN
from shoppe_ci.progress import step
from shoppe_ci.release import ensure_namespace
from shoppe_ci.wait import eventually

from lib.keycloak import running

NAME, IAM_NAME = "coffea-shoppe-grid", "coffea-shoppe-iam"
NAMESPACE = "shoppe-grid"
HOST, IAM = f"grid.{NAMESPACE}", f"iam.{NAMESPACE}"
GSI, TOKENS, VOMS, HTTPS = 1094, 2094, 15000, 8443
"""Ports: of the origin for VOMS proxies, that for tokens, the VOMS server, and the issuer."""
ISSUER = f"https://{IAM}:{HTTPS}/realms/wlcg"
CLIENT, SCOPE = "cache", "storage.read:/"
AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"
TOKEN_S = 60
"""Lifetime of tokens."""
VOMSES = f'"atlas" "{HOST}" "{VOMS}" "/DC=test/CN={HOST}" "atlas"'


def alias(name: str) -> str:
    """Return another name of the origin for VOMS proxies, which a cache of its own may have."""
    return f"{name}.{NAMESPACE}"


def _mapper(name: str, kind: str, **config: str) -> dict[str, Any]:
    claim = {"access.token.claim": "true", **{k.replace("_", "."): v for k, v in config.items()}}
    return {
        "name": name,
        "protocol": "openid-connect",
        "protocolMapper": kind,
        "config": claim,
    }


def _realm(secret: str) -> str:
    """Return a realm whose tokens have the claims of WLCG's profile."""
    fixed = "oidc-hardcoded-claim-mapper"
    scope = {
        "name": SCOPE,
        "protocol": "openid-connect",
        "attributes": {"include.in.token.scope": "true"},
        "protocolMappers": [
            _mapper("audience", "oidc-audience-mapper", included_custom_audience=AUDIENCE),
            _mapper("version", fixed, claim_name="wlcg\\.ver", claim_value="1.0"),
            _mapper("not before", fixed, claim_name="nbf", claim_value="1", jsonType_label="long"),
            _mapper("subject", "oidc-sub-mapper"),
        ],
    }
    client = {
        "clientId": CLIENT,
        "secret": secret,
        "publicClient": False,
        "serviceAccountsEnabled": True,
        "standardFlowEnabled": False,
        "defaultClientScopes": [],
        "optionalClientScopes": [SCOPE],
    }
    return json.dumps(
        {
            "realm": "wlcg",
            "enabled": True,
            "accessTokenLifespan": TOKEN_S,
            "clientScopes": [scope],
            "clients": [client],
        }
    )


def _image(engine: Engine) -> str:
    """Return the name of the image, built once from the cache's own."""
    folder = TOOLCHAIN / "grid"
    contents = b"".join(path.read_bytes() for path in sorted(folder.iterdir()))
    key = hashlib.sha256(contents).hexdigest()[:12]
    name = f"{nodeimage.LOCAL}/grid:{key}-{images.tag('xcache')}"
    if not engine.has_image(name):
        with step("building the image of the grid"):
            base = images.reference("xcache")
            engine.build("--build-arg", f"BASE={base}", "-t", name, str(folder))
    return name


@dataclass(frozen=True)
class Grid:
    """Services of a grid that are running."""

    engine: Engine
    secret: str
    """Of the client."""

    def run(self, *words: str, user: int = 1000) -> str:
        """Run a command in the container, and return what it prints."""
        return self.engine.run("exec", "--user", str(user), NAME, *words)

    def shell(self, script: str) -> str:
        """Run a script in the container, and return what it prints."""
        return self.run("bash", "-c", f"set -eu; cd /grid; {script}")

    def restart(self, origin: str) -> None:
        """Restart an origin (gsi or tokens), so that caches have to log in again."""
        self.run("start-grid", origin)
        port = {"gsi": GSI, "tokens": TOKENS}[origin]

        def listens() -> bool:
            try:
                self.shell(f"exec 3<>/dev/tcp/127.0.0.1/{port}")
            except ShoppeError:
                return False
            return True

        eventually(listens, f"the origin for {origin} listens", timeout=30, every=0.5)

    def publish(self, source: Path, relative: str) -> None:
        """Copy a file to the origins; `relative` begins with their folder, atlas or wlcg."""
        self.shell(f"mkdir -p {Path('data', relative).parent}")
        self.engine.run("cp", str(source), f"{NAME}:/grid/data/{relative}")
        self.run("chmod", "644", f"/grid/data/{relative}", user=0)

    def read(self, name: str) -> str:
        """Return a file of the grid's folder."""
        return self.shell(f"cat {name}")

    def proxy(self, vo: str, seconds: int) -> str:
        """Return a proxy of the robot with attributes of a VO, which ends after that time.

        Made without the VOMS server, with its certificate.
        """
        hours = 1
        # VOMS' programs count in minutes.
        past = (hours * 3600 - seconds) // 60
        fake = "voms-proxy-fake -quiet -rfc -bits 2048 -cert robot.pem -key robot.key -certdir cas"
        server = f"-uri {HOST}:{VOMS} -hostcert host.pem -hostkey host.key"
        attributes = f"-voms {vo} -fqan /{vo}/Role=NULL/Capability=NULL"
        duration = f"-hours {hours} -pastproxy 0:{past:02d}"
        self.shell(
            f"touch /tmp/.rnd; export HOME=/tmp X509_CERT_DIR=/grid/cas; "
            f"{fake} {server} {attributes} {duration} -out /tmp/proxy > /dev/null 2>&1"
        )
        return self.read("/tmp/proxy")  # noqa: S108  (the container's own)

    def leave_vo(self) -> None:
        """Take the robot out of the VO."""
        statement = "delete from m; delete from usr"
        self.run("mariadb", "--socket=/tmp/database.sock", "--user=root", "voms", "-e", statement)


def _services(address: str, iam: str, aliases: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Yield Services by which pods reach the containers."""
    ports = {"grid": {"gsi": GSI, "tokens": TOKENS, "voms": VOMS}, "iam": {"https": HTTPS}}
    ports |= {name: {"gsi": GSI} for name in aliases}
    for name, numbers in ports.items():
        listed = [{"name": key, "port": number} for key, number in numbers.items()]
        labels = {"kubernetes.io/service-name": name}
        where = {"name": name, "namespace": NAMESPACE}
        yield {"apiVersion": "v1", "kind": "Service", "metadata": where, "spec": {"ports": listed}}
        yield {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**where, "labels": labels},
            "addressType": "IPv4",
            "ports": listed,
            "endpoints": [{"addresses": [iam if name == "iam" else address]}],
        }


@contextmanager
def grid(engine: Engine, cluster: Cluster, aliases: tuple[str, ...]) -> Iterator[Grid]:
    """Run a grid, whose origin for VOMS proxies has further names; remove it at the end."""
    secret, password = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    image = _image(engine)
    if engine.succeeds("container", "inspect", NAME):
        engine.run("rm", "--force", "--volumes", NAME)
    engine.run("run", "-d", "--user", "1000", "--name", NAME, "--network", "kind", image)
    services = Grid(engine, secret)
    try:
        services.run("prepare-grid", IAM, HOST, *map(alias, aliases))
        files = {name: services.read(name).encode() for name in ("iam.pem", "iam.key")}
        options = (
            f"--hostname=https://{IAM}:{HTTPS}",
            f"--https-port={HTTPS}",
            "--https-certificate-file=/files/iam.pem",
            "--https-certificate-key-file=/files/iam.key",
        )
        with running(
            *(engine, IAM_NAME, free_port(), _realm(secret), *options),
            password=password,
            files=files,
        ) as iam:
            # The authorization by tokens fetches the issuer's keys.
            ca = "/usr/local/share/ca-certificates/grid.crt"
            trust = f"cp /grid/ca.pem {ca}; update-ca-certificates; echo {iam} {IAM} >> /etc/hosts"
            services.run("bash", "-c", trust, user=0)
            engine.run("exec", "-d", NAME, "start-grid", "voms")
            for origin in ("gsi", "tokens"):
                services.restart(origin)
            ensure_namespace(cluster, NAMESPACE)
            cluster.apply(*_services(engine.address(NAME), iam, aliases))
            eventually(
                lambda: "voms" in services.shell("ps -eo comm"), "the VOMS server runs", timeout=90
            )
            yield services
    finally:
        engine.run("rm", "--force", "--volumes", NAME)
        cluster.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")


def certificates(services: Grid) -> dict[str, str]:
    """Return the authority's files, by their names in /etc/grid-security/certificates."""
    return {name: services.read(f"cas/{name}") for name in services.shell("ls cas").split()}
