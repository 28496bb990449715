"""A release for clusters without a way out: charts, images as an OCI layout, and their digests.

NAME-VERSION.tgz   the packaged chart
images/            OCI image layout (image-spec 1.1) of all images that the chart names
values.yaml        the images' digests, for `helm install --values`
sbom/              CycloneDX lists of the packages in the images
SHA256SUMS         of all files above; SHA256SUMS.sig: its signature, where a key is given
"""

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin
from urllib.request import parse_http_list, parse_keqv_list

import requests
import yaml
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shoppe_ci import images, release, shell, toolchain
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import sha256
from shoppe_ci.progress import step

OCI = "application/vnd.oci.image"
MEDIA_TYPES = {
    "application/vnd.docker.distribution.manifest.v2+json": f"{OCI}.manifest.v1+json",
    "application/vnd.docker.container.image.v1+json": f"{OCI}.config.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{OCI}.layer.v1.tar+gzip",
}
"""Docker's media types → those of OCI; what they describe has the same bytes."""
NAME = "org.opencontainers.image.ref.name"
SUMS, SIGNATURE, LAYOUT = "SHA256SUMS", "SHA256SUMS.sig", "images"
CHARTS = "coffea-shoppe/charts"
"""The repository of charts in a registry, beside those of images."""
LOGIN_REMEDY = "give --user and --password-file of an account that may push"
CHUNK = 1 << 20
TIMEOUT_S = 60

Descriptor = dict[str, Any]


# --- create


def create(engine: Engine, chart: Path, port: int, *, sboms: bool, key: Path | None) -> int:
    """Write the bundle into the folder of a packaged chart; return the number of images.

    `port` is that of this machine's registry.  Blobs that are there already are kept.  `key` is
    a private key (ECDSA, PEM) that signs it.
    """
    folder, registry = chart.parent, f"http://127.0.0.1:{port}"
    layout = folder / LAYOUT
    index, digests = [], {}
    for name, image in images.declared().items():
        if image.values:
            with step(f"adding image {name}"):
                descriptor = _copy_image(registry, images.reference(name), layout)
            index.append(descriptor)
            digests[name] = str(descriptor["digest"])
            if sboms:
                images.sbom(engine, name, folder / "sbom")
    (layout / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}\n')
    document = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": index}
    (layout / "index.json").write_text(json.dumps(document, indent=1) + "\n")
    _forget_other_blobs(layout, index)
    (folder / "values.yaml").write_text(yaml.safe_dump(values_of(digests)))
    for old in folder.glob("*.tgz"):
        if old != chart:
            old.unlink()
    write_sums(folder, key)
    return len(index)


def values_of(digests: Mapping[str, str]) -> dict[str, Any]:
    """Return values of the umbrella that name images by digests; `digests` has them by image."""
    by_chart: dict[str, Any] = {}
    for name, image in images.declared().items():
        for place in image.values:
            chart, _, path = place.partition(":")
            level = by_chart if chart == release.UMBRELLA.name else by_chart.setdefault(chart, {})
            for part in path.split("."):
                level = level.setdefault(part, {})
            level["digest"] = digests[name]
    return by_chart


def _copy_image(registry: str, reference: str, layout: Path) -> Descriptor:
    """Copy an image from a registry into the layout; return the descriptor of its manifest."""
    repository, _, tag = reference.partition("/")[2].partition(":")
    base = f"{registry}/v2/{repository}"
    accepted = ", ".join([*MEDIA_TYPES, *MEDIA_TYPES.values()])
    response = requests.get(
        f"{base}/manifests/{tag}", headers={"Accept": accepted}, timeout=TIMEOUT_S
    )
    if not response.ok:
        raise ShoppeError(
            f"the registry has no image {reference} (HTTP status {response.status_code})",
            "run `ci/shoppe up` first, which builds and pushes all images",
        )
    manifest = response.json()
    for descriptor in (manifest, manifest["config"], *manifest["layers"]):
        kind = descriptor["mediaType"]
        descriptor["mediaType"] = MEDIA_TYPES.get(kind, kind)
    for descriptor in (manifest["config"], *manifest["layers"]):
        _copy_blob(f"{base}/blobs/{descriptor['digest']}", descriptor, layout)
    content = json.dumps(manifest, separators=(",", ":")).encode()
    digest = hashlib.sha256(content).hexdigest()
    _blob(layout, digest).write_bytes(content)
    return {
        "mediaType": manifest["mediaType"],
        "digest": f"sha256:{digest}",
        "size": len(content),
        "annotations": {NAME: reference},
    }


def _blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _copy_blob(url: str, descriptor: Descriptor, layout: Path) -> None:
    path = _blob(layout, descriptor["digest"])
    if path.exists() and path.stat().st_size == descriptor["size"]:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with requests.get(url, stream=True, timeout=TIMEOUT_S) as response, partial.open("wb") as file:
        response.raise_for_status()
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
    if f"sha256:{sha256(partial)}" != descriptor["digest"]:
        raise ShoppeError(f"{url} has another content than its digest", "run the command again")
    partial.rename(path)


def _forget_other_blobs(layout: Path, index: list[Descriptor]) -> None:
    """Remove blobs of earlier contents, and those that were not copied whole."""
    used = {_blob(layout, each["digest"]) for each in _descriptors(layout, index)}
    for path in (layout / "blobs" / "sha256").iterdir():
        if path not in used:
            path.unlink()


def _descriptors(layout: Path, index: list[Descriptor]) -> Iterator[Descriptor]:
    """Yield the descriptors of all blobs: manifests, configurations, layers."""
    for entry in index:
        manifest = json.loads(_blob(layout, entry["digest"]).read_bytes())
        yield from (entry, manifest["config"], *manifest["layers"])


def _files(folder: Path) -> list[str]:
    """Return the files of a bundle but for the sums, relative to its folder."""
    paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in paths if path.name not in (SUMS, SIGNATURE))


def write_sums(folder: Path, key: Path | None) -> None:
    """Write the sums of a bundle, and their signature where there is a key."""
    lines = [f"{sha256(folder / name)}  {name}\n" for name in _files(folder)]
    (folder / SUMS).write_text("".join(lines))
    (folder / SIGNATURE).unlink(missing_ok=True)
    if key is not None:
        private = serialization.load_pem_private_key(key.read_bytes(), _passphrase())
        if not isinstance(private, ec.EllipticCurvePrivateKey):
            raise ShoppeError(
                f"{key} is no ECDSA key", "make one: openssl ecparam -genkey -name prime256v1"
            )
        signature = private.sign((folder / SUMS).read_bytes(), ec.ECDSA(hashes.SHA256()))
        (folder / SIGNATURE).write_text(base64.b64encode(signature).decode() + "\n")


def _passphrase() -> bytes | None:
    """Return the passphrase of the key, which no argument list shows; None without one."""
    text = os.environ.get("SHOPPE_KEY_PASSPHRASE")
    return text.encode() if text else None


# --- verify


def verify(folder: Path, key: Path | None = None) -> int:
    """Compare a bundle with its sums; return the number of its images.

    `key` is the public key (PEM) of who signed it.  Raises `ShoppeError` that names the file
    which is missing, added or changed.
    """
    remedy = "copy or create the bundle again"
    sums = folder / SUMS
    if not sums.is_file():
        raise ShoppeError(f"{folder} is no bundle: it has no {SUMS}", remedy)
    if key is not None:
        _check_signature(folder, key)
    digests = {}
    for line in sums.read_text().splitlines():
        digest, _, name = line.partition("  ")
        digests[name] = digest
    present = _files(folder)
    for kind, names in (
        ("lacks", digests.keys() - set(present)),
        ("has, beside its sums,", set(present) - digests.keys()),
    ):
        if names:
            raise ShoppeError(f"the bundle {kind} {', '.join(sorted(names)[:5])}", remedy)
    for name, digest in digests.items():
        if sha256(folder / name) != digest:
            raise ShoppeError(f"{name} has another content than {SUMS} says", remedy)
    layout = folder / LAYOUT
    index = _index(layout)
    for each in _descriptors(layout, index):
        path = _blob(layout, each["digest"])
        # The sums of all files were compared above.
        if digests.get(path.relative_to(folder).as_posix()) != path.name:
            raise ShoppeError(
                f"the blob {each['digest']} is missing or has another content", remedy
            )
    return len(index)


def _check_signature(folder: Path, key: Path) -> None:
    remedy = "do not use it: ask who made it for the bundle and the public key"
    if not (folder / SIGNATURE).is_file():
        raise ShoppeError(f"the bundle has no signature {SIGNATURE}", remedy)
    public = serialization.load_pem_public_key(key.read_bytes())
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise ShoppeError(f"{key} is no public ECDSA key", "openssl ec -in KEY -pubout writes it")
    signature = base64.b64decode((folder / SIGNATURE).read_text())
    try:
        public.verify(signature, (folder / SUMS).read_bytes(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise ShoppeError(f"the signature of {SUMS} is not of {key}", remedy) from None


def _index(layout: Path) -> list[Descriptor]:
    manifests: list[Descriptor] = json.loads((layout / "index.json").read_text())["manifests"]
    return manifests


# --- push


@dataclass(frozen=True)
class Registry:
    """A registry to push to, with or without a path: registry.example.org/mirror."""

    address: str
    user: str = ""
    password: str = ""
    plain_http: bool = False

    @property
    def host(self) -> str:
        """Return the host, with its port where it has one."""
        return self.address.partition("/")[0]

    def repository(self, name: str) -> str:
        """Return the name of a repository below the registry's path."""
        return "/".join([*self.address.strip("/").split("/")[1:], name])

    def url(self, path: str = "") -> str:
        """Return an address of the registry's API."""
        return f"{'http' if self.plain_http else 'https'}://{self.host}/v2/{path}"


class _Session:
    """A connection to a registry, with a token for one repository where it wants tokens.

    Source: https://distribution.github.io/distribution/spec/auth/token/
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.http = requests.Session()
        challenge = self.http.get(registry.url(), timeout=TIMEOUT_S)
        kind, _, fields = challenge.headers.get("WWW-Authenticate", "").partition(" ")
        self.tokens = parse_keqv_list(parse_http_list(fields)) if kind == "Bearer" else {}
        if registry.user and not self.tokens:
            self.http.auth = self._account

    @property
    def _account(self) -> tuple[str, str]:
        return self.registry.user, self.registry.password

    def authorize(self, repository: str) -> None:
        """Get a new token that may push to a repository: they live for some minutes."""
        if not self.tokens:
            return
        response = requests.get(
            self.tokens["realm"],
            params={
                "service": self.tokens.get("service", ""),
                "scope": f"repository:{repository}:pull,push",
            },
            auth=self._account if self.registry.user else None,
            timeout=TIMEOUT_S,
        )
        _check(response, f"{self.tokens['realm']} gave no token for {repository}")
        content = response.json()
        token = content.get("token") or content["access_token"]
        self.http.headers["Authorization"] = f"Bearer {token}"


def push(folder: Path, registry: Registry) -> list[str]:
    """Push all images and the chart of a bundle; return their names in the registry.

    What the registry has already is not sent again.  Raises `ShoppeError` where it refuses.
    """
    layout = folder / LAYOUT
    pushed = []
    session = _Session(registry)
    for entry in _index(layout):
        name, _, tag = entry["annotations"][NAME].partition("/")[2].partition(":")
        repository = registry.repository(name)
        with step(f"pushing {name}"):
            manifest = json.loads(_blob(layout, entry["digest"]).read_bytes())
            for descriptor in (manifest["config"], *manifest["layers"]):
                session.authorize(repository)
                _push_blob(session, repository, _blob(layout, descriptor["digest"]), descriptor)
            session.authorize(repository)
            _put_manifest(session, repository, tag, layout, entry)
        pushed.append(f"{registry.host}/{repository}:{tag}")
    return [*pushed, _push_chart(folder, registry)]


def chart_of(folder: Path) -> Path:
    """Return the packaged chart of a bundle."""
    (chart,) = folder.glob("*.tgz")
    return chart


def _push_chart(folder: Path, registry: Registry) -> str:
    """Push the chart as Helm does; return the address that `helm install` takes."""
    target = f"oci://{registry.host}/{registry.repository(CHARTS)}"
    helm = str(toolchain.program("helm"))
    plain = ["--plain-http"] if registry.plain_http else []
    with tempfile.TemporaryDirectory() as scratch, step("pushing the chart"):
        settings = ["--registry-config", f"{scratch}/config.json"]
        if registry.user:
            shell.run(
                [helm, "registry", "login", registry.host, *plain, *settings]
                + ["--username", registry.user, "--password-stdin"],
                stdin=registry.password.encode(),
                what=f"logging in at {registry.host}",
                remedy=LOGIN_REMEDY,
            )
        shell.run(
            [helm, "push", str(chart_of(folder)), target, *plain, *settings],
            what=f"pushing the chart to {target}",
        )
    return f"{target}/{release.UMBRELLA.name}"


def _push_blob(session: _Session, repository: str, path: Path, descriptor: Descriptor) -> None:
    url = session.registry.url(f"{repository}/blobs")
    if session.http.head(f"{url}/{descriptor['digest']}", timeout=TIMEOUT_S).ok:
        return
    started = session.http.post(f"{url}/uploads/", timeout=TIMEOUT_S)
    _check(started, f"{url}: an upload was not accepted")
    location = urljoin(started.url, started.headers["Location"])
    joint = "&" if "?" in location else "?"
    with path.open("rb") as file:
        sent = session.http.put(
            f"{location}{joint}digest={descriptor['digest']}",
            data=file,
            headers={"Content-Type": "application/octet-stream"},
            timeout=TIMEOUT_S * 30,
        )
    _check(sent, f"{url}: blob {descriptor['digest']} was not accepted")


def _put_manifest(
    session: _Session, repository: str, tag: str, layout: Path, entry: Descriptor
) -> None:
    url = session.registry.url(f"{repository}/manifests/{tag}")
    content = _blob(layout, entry["digest"]).read_bytes()
    kind = {"Content-Type": entry["mediaType"]}
    response = session.http.put(url, data=content, headers=kind, timeout=TIMEOUT_S)
    _check(response, f"{url}: the manifest was not accepted")
    digest = response.headers.get("Docker-Content-Digest", entry["digest"])
    if digest != entry["digest"]:
        raise ShoppeError(
            f"{url}: the registry stored {digest}, not {entry['digest']}",
            "use a registry that keeps OCI manifests as they are",
        )


def _check(response: requests.Response, problem: str) -> None:
    if response.status_code in (401, 403):
        raise ShoppeError(f"{problem}: HTTP status {response.status_code}", LOGIN_REMEDY)
    if not response.ok:
        raise ShoppeError(
            f"{problem}: HTTP status {response.status_code}: {response.text[:200]}",
            "see the registry's log",
        )
