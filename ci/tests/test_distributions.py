"""The library installs alone on a laptop, and the analysis as a distribution of its own."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from coffea_shoppe_contract.files import ENV_IDENTITY_FOLDER
from shoppe_ci import images, shell
from shoppe_ci.paths import ROOT

UV = os.environ.get("SHOPPE_UV", "uv")
MOST_DISTRIBUTIONS, MOST_BYTES = 10, 5 * 2**20
PACKAGES = {
    "contract": ROOT / "operator" / "contract",
    "client": ROOT / "images" / "analysis" / "client",
    "agc": ROOT / "images" / "analysis" / "agc-ttbar",
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each package."""
    built = {}
    for name, source in PACKAGES.items():
        folder = tmp_path_factory.mktemp(name)
        shell.run([UV, "build", "--quiet", "--wheel", source, "--out-dir", folder], cwd=folder)
        (built[name],) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def laptop(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the library alone, at the versions of the lock."""
    folder = tmp_path_factory.mktemp("laptop")
    constraints = folder / "constraints.txt"
    constraints.write_text(images.requirements("coffea-shoppe"))
    environment = folder / "venv"
    shell.run([UV, "venv", "--quiet", environment])
    install = [UV, "pip", "install", "--quiet", "--python", str(environment)]
    install += ["--constraint", str(constraints), str(wheels["contract"]), str(wheels["client"])]
    shell.run(install)
    return environment


def _run(laptop: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment, outside of any facility."""
    environment = {**os.environ, ENV_IDENTITY_FOLDER: str(laptop / "no-facility")}
    program = laptop / "bin" / words[0]
    return subprocess.run(
        [program, *words[1:]],
        env=environment,
        cwd=laptop,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_library_is_small(laptop: Path) -> None:
    names = {path.name.partition("-")[0] for path in laptop.glob("lib/*/site-packages/*.dist-info")}
    assert {"coffea_shoppe", "requests"} <= names
    assert "coffea_shoppe_agc" not in names
    assert len(names) <= MOST_DISTRIBUTIONS, names
    # Without what Python compiles for this machine.
    files = (path for path in laptop.glob("lib/**/*") if path.is_file() and path.suffix != ".pyc")
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES


def test_the_library_names_the_extra_that_a_function_needs(laptop: Path) -> None:
    imported = _run(laptop, "python", "-c", "import coffea_shoppe as shoppe; shoppe.storage()")
    assert imported.returncode == 1
    assert "MissingExtraError: shoppe.storage() needs fsspec: pip install" in imported.stderr
    assert "coffea-shoppe[s3]" in imported.stderr


def test_an_address_of_data_needs_no_facility(laptop: Path) -> None:
    code = "import coffea_shoppe as shoppe; print(shoppe.data_url('root://a//b'))"
    assert _run(laptop, "python", "-c", code).stdout.strip() == "root://a//b"


def test_the_command_names_the_remedy_without_a_facility(laptop: Path) -> None:
    shown = _run(laptop, "coffea-shoppe", "--help")
    assert shown.returncode == 0
    assert "status" in shown.stdout
    refused = _run(laptop, "coffea-shoppe", "status")
    assert refused.returncode == 1
    assert f"set {ENV_IDENTITY_FOLDER} to a folder" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_analysis_is_a_distribution_of_its_own(wheels: dict[str, Path]) -> None:
    def packages(wheel: Path) -> set[str]:
        with zipfile.ZipFile(wheel) as archive:
            return {name.partition("/")[0] for name in archive.namelist() if name.endswith(".py")}

    assert packages(wheels["client"]) == {"coffea_shoppe"}
    assert packages(wheels["agc"]) == {"agc"}
