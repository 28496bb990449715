"""One key names the image of notebooks, Dask pods and users' functions."""

import pytest
from references import Release
from rendering import HelmError, Manifest, merged, template

NOTEBOOK = "ghcr.io/coffea-shoppe/notebook:"
"""The other's layers, and tools."""
OURS = "ghcr.io/coffea-shoppe/analysis:"
THEIRS = "registry.example.org:5000/hep/analysis:2026.11"


def images(values: Manifest) -> dict[str, str]:
    """Return the image of what runs users' code, by what it is."""
    manifests = template("coffea-shoppe", values)
    release = Release(manifests)
    function = release.settings("servicex", "transformer.yaml")["spec"]
    transformer = release.objects["Deployment", "facility", "shoppe-servicex-transformer"]
    return {
        "notebook": release.settings("hub", "settings.yaml")["userImage"],
        "dask": release.settings("gateway", "settings.yaml")["image"],
        "function": function["containers"][0]["image"],
        "transformer": transformer["spec"]["template"]["spec"]["containers"][0]["image"],
        "requests": release.settings("servicex", "servicex.yaml")["image"],
    }


def test_by_default_all_have_the_facilitys_own_images() -> None:
    by_use = images({})
    assert by_use.pop("notebook").startswith(NOTEBOOK)
    (image,) = set(by_use.values())
    assert image.startswith(OURS)


@pytest.mark.parametrize("image", [THEIRS, f"mirror/analysis@sha256:{'0' * 64}"])
def test_one_key_names_it_for_all(image: str) -> None:
    assert set(images({"global": {"userImage": image}}).values()) == {image}


def test_a_component_that_names_another_image_keeps_it() -> None:
    own = {"gateway": {"backend": {"image": {"name": "mine/dask", "tag": "7"}}}}
    others = images({"global": {"userImage": THEIRS}, "dask-gateway": own})
    assert others.pop("dask") == "mine/dask:7"
    assert set(others.values()) == {THEIRS}


def test_a_mirror_takes_the_facilitys_own_images_alone() -> None:
    values = merged({"global": {"userImage": THEIRS}}, {"global": {"imageRegistry": "mirror"}})
    assert set(images(values).values()) == {THEIRS}
    for image in images({"global": {"imageRegistry": "mirror"}}).values():
        assert image.startswith(
            ("mirror/coffea-shoppe/analysis:", "mirror/coffea-shoppe/notebook:")
        )


@pytest.mark.parametrize("image", ["mine/analysis", "mine/analysis:", "a b:1"])
def test_an_image_without_a_tag_is_refused_by_its_key(image: str) -> None:
    with pytest.raises(HelmError, match="/global/userImage"):
        template("coffea-shoppe", {"global": {"userImage": image}})
