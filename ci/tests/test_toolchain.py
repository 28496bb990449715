import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from shoppe_ci import toolchain
from shoppe_ci.engine import pins
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import TOOLCHAIN


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("SHOPPE_CACHE", str(tmp_path))
    return tmp_path


def offered(monkeypatch: pytest.MonkeyPatch, content: bytes, digest: str) -> list[str]:
    """Let the network offer a file and its digest; return what is asked for."""
    asked: list[str] = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        return digest.encode() if "sha256" in url else content

    monkeypatch.setattr(toolchain, "_fetch", fetch)
    return asked


def test_every_tool_has_its_wrapper_module_with_sums() -> None:
    for tool in pins()["go"]:
        folder = TOOLCHAIN / "go" / tool
        assert (folder / "go.mod").exists(), tool
        assert tool == "pause" or (folder / "go.sum").exists(), tool
    assert {p.name for p in (TOOLCHAIN / "go").iterdir()} == set(pins()["go"])


def test_the_versions_agree_wherever_they_stand() -> None:
    found = pins()
    for name, tool in (("kind", "kind"), ("kubectl", "kubernetes"), ("helm", "helm")):
        assert found["published"][name]["version"] == found["go"][tool]["version"]
    assert found["kubernetes"]["version"] == found["go"]["kubernetes"]["version"]
    assert found["kubernetes"]["node_image"].endswith(found["kubernetes"]["version"])


def test_a_published_program_is_checked_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"a program"
    asked = offered(monkeypatch, content, hashlib.sha256(content).hexdigest() + "  kind\n")
    path = toolchain.published("kind")
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o111
    assert len(asked) == 2
    assert toolchain.published("kind") == path
    assert len(asked) == 2


def test_one_that_is_not_what_its_digest_says_is_refused(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    offered(monkeypatch, b"something else", "0" * 64)
    with pytest.raises(ShoppeError, match="was not installed"):
        toolchain.published("kubectl")
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
    offered(monkeypatch, content, hashlib.sha256(content).hexdigest())
    assert toolchain.published("helm").read_bytes() == b"helm"


def test_the_key_follows_the_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    before = toolchain.key("helm")
    monkeypatch.setitem(pins()["go"], "helm", {**pins()["go"]["helm"], "ldflags": ["-X a=b"]})
    assert toolchain.key("helm") != before
