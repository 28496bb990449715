from typing import Any

from rendering import ALONE, CHARTS


def test_every_component_is_covered() -> None:
    folders = {path.parent.name for path in CHARTS.glob("*/values.yaml")}
    assert folders == {*ALONE, "coffea-shoppe"}


def test_a_servicex_elsewhere_leaves_nothing_here(render: Any) -> None:
    values = {
        "servicex": {"external": {"url": "https://sx"}},
        "operator": {"connections": {"servicex": "https://sx"}, "servicex": {"endpoint": ""}},
    }
    manifests = render("coffea-shoppe", values)
    ours = "app.kubernetes.io/name"
    assert not [m for m in manifests if m["metadata"]["labels"].get(ours) == "servicex"]
    settings = next(
        m["data"]["operator.yaml"]
        for m in manifests
        if m["kind"] == "ConfigMap" and m["metadata"]["name"] == "shoppe-operator"
    )
    assert "servicex: https://sx" in settings
    assert [m for m in render("coffea-shoppe") if m["metadata"]["labels"].get(ours) == "servicex"]
