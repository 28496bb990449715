from pathlib import Path

import pytest
from shoppe_ci import images, shell
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import IMAGES, ROOT


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


def test_images_have_all_files_of_their_packages() -> None:
    packages = {package for image in images.declared().values() for package in image.packages}
    assert packages
    for package in packages:
        modules = [path.parent for path in (ROOT / package).glob("*/__init__.py")]
        listed = shell.run(["git", "ls-files", *modules], cwd=ROOT).split()
        # Templates of Mako are for new migrations.
        tracked = {ROOT / path for path in listed if not path.endswith(".mako")}
        assert tracked
        assert tracked <= set(images._files(ROOT / package, images.PACKAGE_FILES)), package


def test_a_malformed_requirement_is_named() -> None:
    with pytest.raises(ShoppeError, match="not NAME or NAME"):
        images.requirements("a b")


def test_an_unknown_key_is_named_with_those_that_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"context": "hub", "target": "hub"}

    def declare(**more: str) -> list[str]:
        monkeypatch.setattr(images, "_declaration", lambda: {"images": {"hub": {**entry, **more}}})
        return list(images.declared.__wrapped__())

    assert declare(base="base") == ["hub"]
    with pytest.raises(ShoppeError, match=r"hub has unknown keys: stage$") as refused:
        declare(stage="hub")
    assert "base, build, context" in refused.value.remedy


def test_packages_below_a_context_are_in_it_once() -> None:
    files = images._context_files(images.declared()["analysis"])
    assert "packages/client/coffea_shoppe/__init__.py" in files
    assert "packages/agc-ttbar/agc/__init__.py" in files
    assert "agc-ttbar.ipynb" in files
    assert not [path for path in files if path.startswith(("client/", "agc-ttbar/"))]


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


class ImageStore:
    """An engine that holds tags of one image."""

    def __init__(self, *tags: str) -> None:
        self.tags = list(tags)

    def run(self, *words: str) -> str:
        assert words[0] == "images"
        return "\n".join(self.tags)

    def succeeds(self, *words: str) -> bool:
        assert words[0] == "rmi"
        self.tags.remove(words[1])
        return True


def test_images_that_another_checkout_may_build_on_stay() -> None:
    present = images.reference("edge")
    earlier = [f"{present.partition(':')[0]}:{number}" for number in "4321"]
    store = ImageStore(earlier[0], present, *earlier[1:])
    images._forget_old(store, "edge")  # type: ignore[arg-type]
    assert store.tags == [earlier[0], present, earlier[1]]


@pytest.mark.parametrize(
    "comment", ["", "  # Tag of the image.\n", "  # A hash\n  # of its content.\n"]
)
def test_a_tag_is_written_below_its_image(comment: str) -> None:
    values = f"image:\n  # Where from.\n  name: r/hub\n{comment}  tag: old\nother:\n  tag: old\n"
    expected = values.replace("tag: old", 'tag: "new"', 1)
    assert images.with_tag(values, "r/hub", "new") == expected


def test_an_image_without_a_tag_is_refused() -> None:
    with pytest.raises(ShoppeError, match="`name: r/hub`"):
        images.with_tag("image:\n  name: r/hub\nother:\n  tag: old\n", "r/hub", "new")
