"""A bundle has all images with their digests, says what is wrong with it, and can be pushed."""

import base64
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from http_server import Request, Response, serving
from shoppe_ci import bundle, images, release
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError

DOCKER = "application/vnd.docker"


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Registry:
    """A registry in memory, which speaks the distribution API as far as a bundle needs it."""

    def __init__(self) -> None:
        self.blobs: dict[tuple[str, str], bytes] = {}
        self.manifests: dict[tuple[str, str], tuple[str, bytes]] = {}
        self.uploads = 0
        self.password = ""
        self.tokens = ""
        """The address that gives tokens; '' where passwords are enough."""

    def respond(self, request: Request) -> Response:
        """Return the response to a request."""
        parts = urlsplit(request.path)
        account = f"Basic {base64.b64encode(f'ann:{self.password}'.encode()).decode()}"
        given = request.headers.get("Authorization", "")
        if parts.path == "/tokens":
            scope = parse_qs(parts.query).get("scope", ["registry"])[0]
            return (200, json.dumps({"token": scope}).encode()) if given == account else (401, b"")
        right = "pull" if request.method in ("GET", "HEAD") else "push"
        if self.password and not self._allowed(right, parts.path, given, account):
            challenge = f'Bearer realm="{self.tokens}",service="registry"'
            return 401, b"", {"WWW-Authenticate": challenge if self.tokens else 'Basic realm="x"'}
        if parts.path == "/v2/":
            return 200, b""
        repository, kind, name = parts.path.removeprefix("/v2/").rsplit("/", 2)
        match request.method, kind:
            case "POST", "uploads":
                return 202, b"", {"Location": f"/v2/{repository}/uploads/1?state=x"}
            case "PUT", "uploads":
                (wanted,) = parse_qs(parts.query)["digest"]
                assert digest(request.body) == wanted
                self.uploads += 1
                self.blobs[repository.removesuffix("/blobs"), wanted] = request.body
                return 201, b""
            case "PUT", "manifests":
                for label in (name, digest(request.body)):
                    content = request.headers["Content-Type"], request.body
                    self.manifests[repository, label] = content
                return 201, b"", {"Docker-Content-Digest": digest(request.body)}
            case _, "manifests" if (repository, name) in self.manifests:
                media_type, body = self.manifests[repository, name]
                return self._content(request, body, media_type)
            case _, "blobs" if (repository, name) in self.blobs:
                return self._content(request, self.blobs[repository, name])
        return 404, b""

    @staticmethod
    def _content(request: Request, body: bytes, media_type: str = "") -> Response:
        """Return content, or for HEAD its size and digest alone."""
        headers = {
            "Content-Length": str(len(body)),
            "Content-Type": media_type or "application/octet-stream",
            "Docker-Content-Digest": digest(body),
        }
        return 200, b"" if request.method == "HEAD" else body, headers

    def _allowed(self, right: str, path: str, given: str, account: str) -> bool:
        """Return whether a request has the password, or a token of its repository and right."""
        if not self.tokens:
            return given == account
        granted = given.removeprefix("Bearer ")
        if path == "/v2/":
            return granted == "registry"
        _, _, scope = granted.partition(":")
        repository, _, rights = scope.rpartition(":")
        return right in rights and path.startswith(f"/v2/{repository}/")

    def add(self, repository: str, tag: str, *layers: bytes) -> None:
        """Add an image as Docker pushes it."""
        described = []
        for content in (b"{}", *layers):
            self.blobs[repository, digest(content)] = content
            described.append({"size": len(content), "digest": digest(content)})
        config, *rest = described
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{DOCKER}.distribution.manifest.v2+json",
            "config": {"mediaType": f"{DOCKER}.container.image.v1+json", **config},
            "layers": [
                {"mediaType": f"{DOCKER}.image.rootfs.diff.tar.gzip", **layer} for layer in rest
            ],
        }
        content = json.dumps(manifest).encode()
        self.manifests[repository, tag] = str(manifest["mediaType"]), content


@contextmanager
def local_registry() -> Iterator[tuple[Registry, int]]:
    """A registry with all images, and its port."""
    registry = Registry()
    for name, image in images.declared().items():
        if image.values:
            path, _, tag = images.reference(name).partition("/")[2].partition(":")
            registry.add(path, tag, b"system", name.encode())
    with serving(registry.respond) as url:
        yield registry, int(url.rpartition(":")[2])


@cache
def packaged() -> Path:
    """Return the packaged chart."""
    return release.package(Path(tempfile.mkdtemp()))


def create(folder: Path, port: int) -> None:
    """Write a bundle; without lists of packages no engine is used."""
    shutil.copy(packaged(), folder)
    chart = bundle.chart_of(folder)
    bundle.create(Engine("docker", "docker"), chart, port, sboms=False, key=None)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A bundle."""
    folder = tmp_path / "bundle"
    folder.mkdir()
    with local_registry() as (_, port):
        create(folder, port)
    return folder


def names() -> list[str]:
    return [name for name, image in images.declared().items() if image.values]


def test_it_has_each_image_as_oci_says(made: Path) -> None:
    layout = made / "images"
    assert json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((layout / "index.json").read_text())["manifests"]
    assert [entry["annotations"][bundle.NAME] for entry in index] == list(
        map(images.reference, names())
    )
    for entry in index:
        content = (layout / "blobs" / "sha256" / entry["digest"].partition(":")[2]).read_bytes()
        assert (digest(content), len(content)) == (entry["digest"], entry["size"])
        manifest = json.loads(content)
        kinds = [each["mediaType"] for each in (manifest, manifest["config"], *manifest["layers"])]
        assert all(kind.startswith("application/vnd.oci.image.") for kind in kinds)
    assert bundle.verify(made) == len(index)


def test_its_values_name_each_image_by_digest(made: Path) -> None:
    values = yaml.safe_load((made / "values.yaml").read_text())
    index = json.loads((made / "images" / "index.json").read_text())["manifests"]
    digests = {entry["annotations"][bundle.NAME]: entry["digest"] for entry in index}
    for name in names():
        for place in images.declared()[name].values:
            chart, _, path = place.partition(":")
            level: Any = values if chart == "coffea-shoppe" else values[chart]
            for part in path.split("."):
                level = level[part]
            assert level == {"digest": digests[images.reference(name)]}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: (folder / "values.yaml").write_text("{}"), "values.yaml has another"),
        (lambda folder: (folder / "values.yaml").unlink(), "lacks values.yaml"),
        (lambda folder: (folder / "more").write_text(""), "has, beside its sums, more"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "is no bundle"),
    ],
)
def test_what_is_wrong_with_it_is_named(made: Path, damage: Any, words: str) -> None:
    damage(made)
    with pytest.raises(ShoppeError, match=words):
        bundle.verify(made)


def test_a_blob_that_a_manifest_names_and_that_is_missing_is_named(made: Path) -> None:
    blob = next(path for path in made.rglob("sha256/*") if path.read_bytes() == b"system")
    blob.unlink()
    bundle.write_sums(made, None)
    with pytest.raises(ShoppeError, match=f"the blob sha256:{blob.name} is missing"):
        bundle.verify(made)


def test_a_second_run_keeps_what_is_there_and_forgets_the_rest(made: Path) -> None:
    blobs = made / "images" / "blobs" / "sha256"
    before = {path.name: path.stat().st_mtime_ns for path in blobs.iterdir()}
    (blobs / ("0" * 64)).write_bytes(b"of an earlier image")
    with local_registry() as (_, port):
        create(made, port)
    after = {path.name for path in blobs.iterdir()}
    assert after == before.keys()
    layer = digest(b"system").partition(":")[2]
    assert (blobs / layer).stat().st_mtime_ns == before[layer]


def key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    pem = serialization.Encoding.PEM
    kinds = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(pem, *kinds))
    subject = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(pem, subject))
    return private, public


def test_a_signature_is_of_the_key_and_of_these_sums(made: Path, tmp_path: Path) -> None:
    private, public = key_pair(tmp_path, "own")
    _, other = key_pair(tmp_path, "other")
    with pytest.raises(ShoppeError, match="has no signature"):
        bundle.verify(made, public)
    bundle.write_sums(made, private)
    assert bundle.verify(made, public) == len(names())
    with pytest.raises(ShoppeError, match=r"the signature of SHA256SUMS is not of .*other\.pub"):
        bundle.verify(made, other)
    (made / "values.yaml").write_text("{}")
    signature = (made / "SHA256SUMS.sig").read_text()
    bundle.write_sums(made, None)
    (made / "SHA256SUMS.sig").write_text(signature)
    with pytest.raises(ShoppeError, match="the signature of SHA256SUMS is not of"):
        bundle.verify(made, public)


def test_it_is_pushed_once(made: Path) -> None:
    registry = Registry()
    with serving(registry.respond) as url:
        target = bundle.Registry(f"{url.removeprefix('http://')}/mirror", plain_http=True)
        *pushed, chart = bundle.push(made, target)
        first = registry.uploads
        bundle.push(made, target)
    assert registry.uploads == first
    for name, where in zip(names(), pushed, strict=True):
        path, _, tag = images.reference(name).partition("/")[2].partition(":")
        assert where == f"{target.address}/{path}:{tag}"
        kind, content = registry.manifests[f"mirror/{path}", tag]
        assert kind == "application/vnd.oci.image.manifest.v1+json"
        for layer in json.loads(content)["layers"]:
            assert (f"mirror/{path}", layer["digest"]) in registry.blobs
    assert chart == f"oci://{target.address}/coffea-shoppe/charts/coffea-shoppe"
    _, _, version = bundle.chart_of(made).stem.rpartition("-")
    _, content = registry.manifests["mirror/coffea-shoppe/charts/coffea-shoppe", version]
    (layer,) = json.loads(content)["layers"]
    assert layer["digest"] == digest(bundle.chart_of(made).read_bytes())


@pytest.mark.parametrize("tokens", [False, True], ids=["password", "token"])
def test_a_registry_that_wants_a_login(made: Path, *, tokens: bool) -> None:
    registry = Registry()
    registry.password = "secret"  # noqa: S105  (of the test)
    with serving(registry.respond) as url:
        registry.tokens = f"{url}/tokens" if tokens else ""
        host = url.removeprefix("http://")
        for account in (("", ""), ("ann", "wrong")):
            with pytest.raises(ShoppeError) as refused:
                bundle.push(made, bundle.Registry(host, *account, plain_http=True))
            assert "401" in refused.value.problem
            assert "--password-file" in refused.value.remedy
        assert not registry.uploads
        assert bundle.push(made, bundle.Registry(host, "ann", "secret", plain_http=True))


def test_an_image_that_was_not_pushed_is_named(tmp_path: Path) -> None:
    with local_registry() as (registry, port):
        registry.manifests.popitem()
        missing = images.reference(names()[-1])
        with pytest.raises(ShoppeError, match=f"the registry has no image {missing}"):
            create(tmp_path, port)
