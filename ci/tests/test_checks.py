"""What `ci/shoppe check` covers."""

import ast
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from shoppe_ci import checks
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import ROOT

TOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
MYPY, IMPORTS = TOOLS["mypy"], TOOLS["importlinter"]


def python_files() -> set[str]:
    """Return the Python files of the project, those not committed yet among them."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return {name for name in names.splitlines() if (ROOT / name).exists()}


def test_types_of_all_files_are_checked_but_of_those_that_only_import() -> None:
    assert MYPY["files"] == [".", "ci/shoppe"]
    excluded = [re.compile(pattern) for pattern in MYPY["exclude"]]
    left_out = {name for name in python_files() if any(r.search(name) for r in excluded)}
    assert left_out == {name for name in python_files() if Path(name).name == "conftest.py"} - {
        "e2e-tests/conftest.py"
    }
    for name in left_out:
        statements = ast.parse((ROOT / name).read_text()).body
        harmless = (ast.ImportFrom, ast.Assign, ast.Expr)
        assert all(isinstance(statement, harmless) for statement in statements), name


def test_import_contracts_know_all_packages_of_the_workspace() -> None:
    packages = []
    for member in TOOLS["uv"]["workspace"]["members"]:
        build = tomllib.loads((ROOT / member / "pyproject.toml").read_text())["tool"]
        if "hatch" in build:
            packages += build["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert IMPORTS["root_packages"] == sorted(packages)


@pytest.mark.parametrize(
    ("package", "exceptions"),
    [
        ("agc", set()),
        ("coffea_shoppe", set()),
        ("coffea_shoppe_contract", set()),
        ("coffea_shoppe_identity", set()),
        ("shoppe_ci", {"coffea_shoppe_operator", "coffea_shoppe_preflight"}),
        ("z2jh", set()),
    ],
)
def test_what_is_no_component_imports_none(package: str, exceptions: set[str]) -> None:
    contracts = {contract["name"]: contract for contract in IMPORTS["contracts"]}
    components = set(contracts["Components know not each other"]["modules"])
    forbidden = {
        module
        for contract in contracts.values()
        if contract["type"] == "forbidden" and package in contract["source_modules"]
        for module in contract["forbidden_modules"]
    }
    assert components - forbidden == exceptions


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a chart, a folder that is none, and a `ct.yaml` that names both."""
    (tmp_path / "charts" / "good").mkdir(parents=True)
    (tmp_path / "charts" / "good" / "Chart.yaml").write_text("name: good\n")
    (tmp_path / "charts" / "tests").mkdir()
    (tmp_path / "ct.yaml").write_text("chart-dirs: [charts]\nexcluded-charts: [tests]\n")
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    return tmp_path


def test_the_charts_are_those_of_chart_testing(project: Path) -> None:
    assert [chart.name for chart in checks.chart_folders()] == ["good"]
    (project / "charts").rename(project / "elsewhere")
    (project / "ct.yaml").write_text("chart-dirs: [elsewhere]\nexcluded-charts: []\n")
    assert [chart.name for chart in checks.chart_folders()] == ["good", "tests"]


def test_a_folder_that_is_no_chart_is_named_with_the_remedy(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linted: list[str] = []
    monkeypatch.setattr("shoppe_ci.toolchain.program", lambda _: "helm")
    monkeypatch.setattr("shoppe_ci.shell.run", lambda command, **_: linted.append(command[4].name))
    checks.CHECKS["charts"]()
    assert linted == ["good"]
    (project / "ct.yaml").write_text("chart-dirs: [charts]\nexcluded-charts: []\n")
    with pytest.raises(ShoppeError, match="tests is not a chart") as refused:
        checks.CHECKS["charts"]()
    assert refused.value.remedy == "name it under excluded-charts in ct.yaml"


def test_a_dependency_of_another_version_is_named_with_the_remedy(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "CHARTS", project / "charts")
    charts = project / "charts"
    (charts / "library").mkdir()
    (charts / "good" / "charts").mkdir()
    (charts / "good" / "charts" / "library").symlink_to("../../library")
    (charts / "good" / "Chart.yaml").write_text(
        "name: good\ndependencies: [{name: library, version: 1.0.0}]\n"
    )
    library = charts / "library" / "Chart.yaml"
    library.write_text("name: library\nversion: 1.0.0\n")
    checks.CHECKS["chart dependencies"]()
    library.write_text("name: library\nversion: 2.0.0\n")
    with pytest.raises(ShoppeError, match=r"library 1\.0\.0, but its version is 2") as refused:
        checks.CHECKS["chart dependencies"]()
    remedy = "set the dependency's version in charts/good/Chart.yaml to 2.0.0"
    assert refused.value.remedy == remedy


def test_every_chart_is_under_test() -> None:
    settings = yaml.safe_load((ROOT / "ct.yaml").read_text())
    charts = {path.parent.name for path in (ROOT / "charts").glob("*/Chart.yaml")}
    assert {path.name for path in checks.chart_folders()} == charts
    assert settings["chart-dirs"] == ["charts"]


def test_test_modules_with_the_same_name_are_listed(tmp_path: Path) -> None:
    for folder in ("ci/tests", "images/hub/tests", "e2e-tests/suites"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ci/tests/test_a.py").touch()
    (tmp_path / "images/hub/tests/test_b.py").touch()
    assert checks.repeated_modules(tmp_path) == []
    (tmp_path / "e2e-tests/suites/test_a.py").touch()
    assert checks.repeated_modules(tmp_path) == ["test_a.py: ci/tests, e2e-tests/suites"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("", "", ""),
        ("@3d3c42e5aac5ba805825da76410c181273ba90b1", "@v7", "unpinned"),
        ("        with:\n          persist-credentials: false\n", "", "artipacked"),
        ("runs-on: ubuntu-24.04", "runs-in: ubuntu-24.04", "runs-in"),
    ],
    ids=["right", "unpinned", "credentials", "misspelt"],
)
def test_workflows_are_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, problem: str
) -> None:
    shutil.copytree(ROOT / ".github", tmp_path / ".github")
    shutil.copy(ROOT / "CITATION.cff", tmp_path)
    workflow = tmp_path / ".github" / "workflows" / "ci.yaml"
    workflow.write_text(workflow.read_text().replace(old, new))
    monkeypatch.setattr(checks, "ROOT", tmp_path)
    if not problem:
        checks.CHECKS["workflows"]()
        return
    with pytest.raises(ShoppeError, match=problem):
        checks.CHECKS["workflows"]()


def test_workflows_run_this_command_only() -> None:
    for path in (ROOT / ".github" / "workflows").glob("*.yaml"):
        jobs = yaml.safe_load(path.read_text())["jobs"]
        for step in (step for job in jobs.values() for step in job["steps"]):
            words = {line.split()[0] for line in step.get("run", "").splitlines()}
            assert words <= {"ci/shoppe", "umask", "printenv", "rm"}, path
