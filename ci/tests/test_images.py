from pathlib import Path

import pytest
from shoppe_ci import images
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import IMAGES


def test_every_folder_and_target_is_declared_once() -> None:
    declared = images.declared()
    folders = {path.parent.name for path in IMAGES.glob("*/Dockerfile")}
    assert {image.context for image in declared.values()} == folders
    targets = [(image.context, image.target) for image in declared.values()]
    assert len(targets) == len(set(targets))


def test_images_are_declared_after_those_they_need() -> None:
    seen: set[str] = set()
    for name, image in images.declared().items():
        assert set(image.needs) <= seen, name
        seen.add(name)


def test_every_image_reference_in_the_charts_is_pinned() -> None:
    assert images.stale_pins() == []


def test_values_name_the_image_that_the_charts_name() -> None:
    found = images.values()
    assert found["jupyterhub"]["hub"]["image"]["tag"] == images.tag("hub")
    assert found["dask-gateway"]["gateway"]["backend"]["image"]["tag"] == images.tag("analysis")


def test_requirements_are_locked_with_hashes_and_hold_no_package_of_ours() -> None:
    lines = images.requirements("coffea-shoppe-xcache-exporter").splitlines()
    assert any(line.startswith("prometheus-client==") for line in lines)
    assert any("--hash=sha256:" in line for line in lines)
    assert not any(line.startswith("coffea-shoppe") for line in lines)


def test_a_malformed_requirement_is_named() -> None:
    with pytest.raises(ShoppeError, match="not NAME or NAME"):
        images.requirements("a b")


@pytest.mark.parametrize(
    ("touched", "rebuilt"), [("xcache", {"xcache"}), ("base", set(images.declared()))]
)
def test_a_change_rebuilds_the_image_and_those_upon_it(
    monkeypatch: pytest.MonkeyPatch, touched: str, rebuilt: set[str]
) -> None:
    before = {name: images.tag(name) for name in images.declared()}
    real = images._context_files

    def changed(image: images.Image) -> dict[str, Path]:
        files = real(image)
        return {**files, "new.txt": Path(__file__)} if image.name == touched else files

    monkeypatch.setattr(images, "_context_files", changed)
    images.tag.cache_clear()
    after = {name: images.tag(name) for name in images.declared()}
    images.tag.cache_clear()
    assert {name for name in before if before[name] != after[name]} == rebuilt
