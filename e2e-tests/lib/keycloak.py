"""An identity provider beside the cluster: Keycloak, with a realm of the test's own."""

import hashlib
import json
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from types import MappingProxyType
from typing import Any

import requests
from shoppe_ci import images, nodeimage
from shoppe_ci.cluster import free_port
from shoppe_ci.engine import Engine, pins
from shoppe_ci.facility import User
from shoppe_ci.paths import TOOLCHAIN, cache
from shoppe_ci.progress import step
from shoppe_ci.wait import eventually

NAME = "coffea-shoppe-keycloak"
REALM, CLIENT = "facility", "shoppe"
START_S = 180
TIMEOUT_S = 30


def _distribution() -> Path:
    """Return Keycloak as its project publishes it, fetched once."""
    pin = pins()["keycloak"]
    path = cache("tools", "keycloak") / f"{pin['version']}.zip"
    if not path.exists():
        with step(f"fetching Keycloak {pin['version']}"):
            response = requests.get(pin["url"].format(version=pin["version"]), timeout=300)
            response.raise_for_status()
            digest = hashlib.sha256(response.content).hexdigest()
            assert digest == pin["sha256"], f"{pin['url']} has the digest {digest}"
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_bytes(response.content)
            part.rename(path)
    return path


def _image(engine: Engine) -> str:
    """Return the name of the image, built once from the facility's own base."""
    base, version = images.reference("base"), pins()["keycloak"]["version"]
    name = f"{nodeimage.LOCAL}/keycloak:{version}-{images.tag('base')}"
    if not engine.has_image(name):
        with step("building Keycloak's image"), tempfile.TemporaryDirectory() as folder:
            shutil.copy(TOOLCHAIN / "keycloak" / "Dockerfile", folder)
            shutil.copy(_distribution(), Path(folder) / "keycloak.zip")
            engine.build("--build-arg", f"BASE={base}", "-t", name, folder)
    return name


def realm(callback: str, secret: str, people: dict[str, list[str]], password: str) -> str:
    """Return a realm: its client, and people with their groups, all with one password."""
    mapper = {
        "name": "groups",
        "protocol": "openid-connect",
        "protocolMapper": "oidc-group-membership-mapper",
        "config": {
            "full.path": "false",
            "claim.name": "groups",
            "userinfo.token.claim": "true",
            "id.token.claim": "true",
        },
    }
    client = {
        "clientId": CLIENT,
        "secret": secret,
        "publicClient": False,
        "redirectUris": [callback],
        "protocolMappers": [mapper],
    }
    users = [
        {
            "username": name,
            "enabled": True,
            "email": f"{name}@example.org",
            "emailVerified": True,
            "firstName": name.title(),
            "lastName": "Example",
            "credentials": [{"type": "password", "value": password}],
            "groups": [f"/{group}" for group in groups],
        }
        for name, groups in people.items()
    ]
    groups = [
        {"name": name}
        for name in sorted({group for member_of in people.values() for group in member_of})
    ]
    return json.dumps(
        {
            "realm": REALM,
            "enabled": True,
            "sslRequired": "none",
            "clients": [client],
            "groups": groups,
            "users": users,
        }
    )


@dataclass(frozen=True)
class Keycloak:
    """A running identity provider."""

    url: str
    """As this machine reaches it."""
    inner: str
    """As pods reach it."""
    secret: str
    """Of the client."""
    password: str
    """Of all people, and of the administrator."""

    def values(self, callback: str) -> dict[str, Any]:
        """Return the configuration of `GenericOAuthenticator`, but for the client's secret."""
        path = f"/realms/{REALM}/protocol/openid-connect"
        return {
            "client_id": CLIENT,
            "oauth_callback_url": callback,
            "authorize_url": f"{self.url}{path}/auth",
            "token_url": f"{self.inner}{path}/token",
            "userdata_url": f"{self.inner}{path}/userinfo",
            "scope": ["openid", "profile", "email"],
            "username_claim": "preferred_username",
        }

    def login(self, user: User, password: str = "") -> requests.Response:
        """Log in as a person does, by Keycloak's form; return the last page."""
        start = f"{user.url}/hub/oauth_login?next=%2Fhub%2Fhome"
        form = user.session.get(start, timeout=TIMEOUT_S)
        action = re.search(r'action="([^"]+)"', form.text)
        assert action, f"{form.url} shows no form: {form.status_code}"
        # A browser sends these to its own machine without TLS, too.
        for cookie in user.session.cookies:
            cookie.secure = False
        return user.session.post(
            unescape(action[1]),
            data={"username": user.name, "password": password or self.password},
            timeout=TIMEOUT_S,
        )

    def _admin(self, method: str, path: str, **options: Any) -> Any:
        grant = {
            "grant_type": "password",
            "client_id": "admin-cli",
            "username": "admin",
            "password": self.password,
        }
        url = f"{self.url}/realms/master/protocol/openid-connect/token"
        token = requests.post(url, data=grant, timeout=TIMEOUT_S).json()["access_token"]
        response = requests.request(
            method,
            f"{self.url}/admin/realms/{REALM}/{path}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_S,
            **options,
        )
        response.raise_for_status()
        return response.json() if response.content else None

    def leave(self, name: str, group: str) -> None:
        """Take a person out of a group."""
        (person,) = self._admin("GET", "users", params={"username": name, "exact": "true"})
        (left,) = self._admin("GET", "groups", params={"search": group, "exact": "true"})
        self._admin("DELETE", f"users/{person['id']}/groups/{left['id']}")


@contextmanager
def running(
    engine: Engine,
    name: str,
    port: int,
    realm_file: str,
    *options: str,
    password: str,
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> Iterator[str]:
    """Run Keycloak with a realm, at a port of this machine; yield the address of its container.

    `password` is the administrator's.  `files` are in its folder /files.
    """
    image = _image(engine)
    if engine.succeeds("container", "inspect", name):
        engine.run("rm", "--force", name)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "realm.json").write_text(realm_file)
        variables = Path(folder) / "environment"
        # In a file: a process's arguments are for all to see.
        variables.write_text(
            f"KC_BOOTSTRAP_ADMIN_USERNAME=admin\nKC_BOOTSTRAP_ADMIN_PASSWORD={password}\n"
        )
        mounted = Path(folder) / "files"
        mounted.mkdir()
        for file, content in files.items():
            (mounted / file).write_bytes(content)
        engine.run(
            *["run", "-d", "--name", name, "--network", "kind", "-p", f"127.0.0.1:{port}:8080"],
            *["--env-file", str(variables), "-v", f"{mounted}:/files:ro"],
            *[
                "-v",
                f"{folder}/realm.json:/opt/keycloak/data/import/realm.json:ro",
                image,
                *options,
            ],
        )
        try:
            eventually(
                lambda: requests.get(f"http://127.0.0.1:{port}/realms/master", timeout=5).ok,
                f"{name} responds",
                timeout=START_S,
                every=2,
            )
            yield engine.address(name)
        finally:
            engine.run("rm", "--force", name)


@contextmanager
def keycloak(engine: Engine, callback: str, people: dict[str, list[str]]) -> Iterator[Keycloak]:
    """Run an identity provider that knows these people and their groups."""
    secret, password = secrets.token_urlsafe(24), secrets.token_urlsafe(12)
    port = free_port()
    # Its name is that by which browsers know it; pods use its address.
    names = (f"--hostname=http://127.0.0.1:{port}", "--hostname-backchannel-dynamic=true")
    realm_file = realm(callback, secret, people, password)
    with running(engine, NAME, port, realm_file, *names, password=password) as address:
        yield Keycloak(f"http://127.0.0.1:{port}", f"http://{address}:8080", secret, password)
