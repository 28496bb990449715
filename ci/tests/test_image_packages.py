"""The packages in an image are those that its package managers and its Go programs name."""

import json
from pathlib import Path

from shoppe_ci import image_packages, images, toolchain


def test_python_distributions_are_listed(tmp_path: Path) -> None:
    folder = tmp_path / "venv" / "lib" / "my_package-1.0+local.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        "Metadata-Version: 2.4\nName: My_Package\nVersion: 1.0+local\n\nName: of the text\n"
    )
    assert list(image_packages.python(tmp_path)) == [("pypi", "", "My_Package", "1.0+local")]


def test_node_packages_are_listed_with_their_scopes(tmp_path: Path) -> None:
    for name in ("plain", "@scope/name", "plain/node_modules/@scope/inner"):
        folder = tmp_path / "node_modules" / name
        folder.mkdir(parents=True)
        own = name.rpartition("node_modules/")[2]
        (folder / "package.json").write_text(json.dumps({"name": own, "version": "1.0.0"}))
    # A folder of a package that is none.
    (tmp_path / "node_modules" / "plain" / "lib").mkdir()
    (tmp_path / "node_modules" / "plain" / "lib" / "package.json").write_text("{}")
    assert set(image_packages.node(tmp_path)) == {
        ("npm", "", "plain", "1.0.0"),
        ("npm", "@scope", "name", "1.0.0"),
        ("npm", "@scope", "inner", "1.0.0"),
    }


def test_the_modules_of_a_go_program_are_listed(tmp_path: Path) -> None:
    (tmp_path / "helm").symlink_to(toolchain.program("helm"))
    script = tmp_path / "script"
    script.write_text("#!/bin/sh\n" * 10)
    script.chmod(0o755)
    packages = list(image_packages.go(tmp_path))
    by_name = {f"{namespace}/{name}": version for _, namespace, name, version in packages}
    assert by_name["k8s.io/client-go"].startswith("v0.")
    assert by_name["/stdlib"].startswith("1.")
    assert len(packages) > 50


def test_a_module_that_is_replaced_is_its_replacement() -> None:
    text = (
        "path\tsome/program\nmod\tsome/program\t(devel)\t\n"
        "dep\tgithub.com/a/b\tv1.0.0\th1:x=\n"
        "dep\tgithub.com/old/c/v2\tv2.0.0\n=>\tgithub.com/new/c/v2\tv2.0.1\th1:y=\n"
        "dep\tgithub.com/a/own\tv0.0.0\n=>\t./own\t(devel)\t\n"
        "build\t-compiler=gc\n"
    )
    assert list(image_packages.go_modules(text)) == [
        ("golang", "github.com/a", "b", "v1.0.0"),
        ("golang", "github.com/new/c", "v2", "v2.0.1"),
    ]


def test_components_have_canonical_package_urls() -> None:
    urls = {
        images.component(*package)["purl"]
        for package in (
            ("deb", "debian", "libstdc++6", "12.2.0-14+deb12u1"),
            ("pypi", "", "My_Package", "1.0+local"),
            ("npm", "@scope", "name", "1.0.0"),
            ("golang", "github.com/a", "b", "v1.0.0"),
        )
    }
    assert urls == {
        "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14%2Bdeb12u1",
        "pkg:pypi/my-package@1.0%2Blocal",
        "pkg:npm/%40scope/name@1.0.0",
        "pkg:golang/github.com/a/b@v1.0.0",
    }
    assert images.component("npm", "@scope", "name", "1.0.0")["name"] == "@scope/name"
