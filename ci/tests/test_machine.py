from collections import namedtuple
from pathlib import Path

import pytest
from shoppe_ci import machine
from shoppe_ci.errors import ShoppeError

Usage = namedtuple("Usage", "total used free")


def set_free_disk(monkeypatch: pytest.MonkeyPatch, gib: float) -> None:
    monkeypatch.setattr(
        "shoppe_ci.machine.shutil.disk_usage", lambda _: Usage(0, 0, gib * machine.GIB)
    )


def test_too_little_disk_is_named_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOPPE_CACHE", str(tmp_path))
    set_free_disk(monkeypatch, 3)
    finding = machine.check_disk("source")
    assert finding.state == "missing"
    assert "3 GiB free" in finding.detail
    assert "SHOPPE_CACHE" in finding.remedy
    set_free_disk(monkeypatch, 60)
    assert machine.check_disk("source").state == "ok"


def test_too_little_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_gib", lambda: 3.5)
    assert machine.check_memory().state == "missing"
    monkeypatch.setattr(machine, "memory_gib", lambda: 8.0)
    assert machine.check_memory().state == "ok"


def test_all_that_is_missing_is_told_at_once() -> None:
    ok = machine.Finding("cores", "ok", "2")
    bad = [machine.Finding(n, "missing", f"no {n}", f"get {n}") for n in ("memory", "disk")]
    machine.require([ok])
    with pytest.raises(ShoppeError) as refused:
        machine.require([ok, *bad])
    assert "no memory" in refused.value.problem
    assert "no disk" in refused.value.problem
    assert refused.value.remedy == "get memory; get disk"


def test_a_requested_registry_must_respond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "registry_responds", lambda: False)
    with pytest.raises(ShoppeError, match="no container registry responds"):
        machine.choose_source("registry")
    assert machine.choose_source("auto") == "source"
    monkeypatch.setattr(machine, "registry_responds", lambda: True)
    assert machine.choose_source("auto") == "registry"
    assert machine.choose_source("source") == "source"


def test_a_ca_bundle_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SHOPPE_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(ShoppeError, match=r"SHOPPE_CA_BUNDLE names .*none\.pem"):
        machine.ca_bundle()
    monkeypatch.setenv("SHOPPE_CA_BUNDLE", str(tmp_path / "some.pem"))
    (tmp_path / "some.pem").write_text("x")
    assert machine.ca_bundle() == tmp_path / "some.pem"
