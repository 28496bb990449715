from typing import Any

import pytest
import yaml
from rendering import ALONE, CHARTS, without_pages


def test_every_component_is_covered() -> None:
    folders = {path.parent.name for path in CHARTS.glob("*/values.yaml")}
    assert folders == {*ALONE, "coffea-shoppe"}


def test_a_servicex_elsewhere_leaves_nothing_here(render: Any) -> None:
    values = {
        "servicex": {"external": {"url": "https://sx"}},
        "operator": {"connections": {"servicex": "https://sx"}, "servicex": {"endpoint": ""}},
        **without_pages("servicex"),
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


@pytest.mark.parametrize(
    ("front", "asked", "told"),
    [
        ("", ["ask-gateway"], ["Authorization"]),
        (
            "http://api/authorize",
            ["login-dashboard", "ask-gateway"],
            ["Authorization", "X-Forwarded-User"],
        ),
    ],
)
def test_whose_browser_it_is_says_the_front_alone(
    render: Any, front: str, asked: list[str], told: list[str]
) -> None:
    values = {**ALONE["dask-gateway"], "traefik": {"authorize": front}}
    (text,) = (
        manifest["data"]["routes.yaml"]
        for manifest in render("dask-gateway", values)
        if "routes.yaml" in manifest.get("data", {})
    )
    middlewares = yaml.safe_load(text)["http"]["middlewares"]
    assert middlewares["authorize-dashboard"]["chain"]["middlewares"] == asked
    assert middlewares["ask-gateway"]["forwardAuth"]["authRequestHeaders"] == told
    if front:
        # Traefik drops what a request says in these headers itself.
        given = middlewares["login-dashboard"]["forwardAuth"]["authResponseHeaders"]
        assert set(told) <= set(given)
