import pytest
from shoppe_ci import affected
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import ROOT

TABLE = affected.read_table()


@pytest.mark.parametrize(
    ("file", "story"),
    [
        ("images/servicex/coffea_shoppe_servicex/transform.py", "test_servicex"),
        ("charts/xcache/values.yaml", "test_xcache"),
        ("images/hub/coffea_shoppe_hub/profiles.py", "test_login"),
        ("images/gateway/coffea_shoppe_gateway/limits.py", "test_dask"),
        ("images/mlflow/coffea_shoppe_mlflow/auth.py", "test_tracking"),
        ("operator/operator/coffea_shoppe_operator/mlflow.py", "test_identity"),
        ("e2e-tests/suites/test_login.py", "test_login"),
    ],
)
def test_a_change_inside_a_component_chooses_its_stories(file: str, story: str) -> None:
    chosen = affected.select([file], TABLE)
    assert story in chosen.stories
    assert "test_alone" not in chosen.stories
    assert not chosen.reason


@pytest.mark.parametrize("file", ["uv.lock", "charts/shoppe-lib/templates/_pod.tpl", "new/file.py"])
def test_a_change_in_shared_code_chooses_the_whole_suite_and_says_why(file: str) -> None:
    chosen = affected.select(["docs/x.md", file], TABLE)
    assert chosen.paths == affected.EVERYTHING
    assert file in chosen.reason


def test_docs_choose_no_test() -> None:
    assert affected.select(["docs/how-to/install.md", "README.md"], TABLE).paths == ()


def test_the_table_names_what_exists() -> None:
    for row in TABLE:
        for path in (*row["paths"], *row["tests"]):
            assert (ROOT / path).exists(), path
        for story in row["stories"]:
            assert (ROOT / affected.SUITES / f"{story}.py").exists(), story


def test_each_component_of_the_release_has_a_row() -> None:
    charts = [path.name for path in (ROOT / "charts").iterdir() if (path / "Chart.yaml").exists()]
    rows = {path for row in TABLE for path in row["paths"]}
    shared = {"coffea-shoppe", "shoppe-lib"}
    assert {f"charts/{name}/" for name in charts if name not in shared} <= rows


def test_a_commit_that_does_not_exist_is_named() -> None:
    with pytest.raises(ShoppeError, match="no-such-commit"):
        affected.changed_files("no-such-commit")
    assert affected.changed_files("HEAD") is not None
