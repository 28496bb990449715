from typing import Any

import pytest
import yaml
from rendering import ALONE, CHARTS


def test_every_component_is_covered() -> None:
    folders = {path.parent.name for path in CHARTS.glob("*/values.yaml")}
    assert folders == {*ALONE, "coffea-shoppe"}


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


def test_what_traefik_says_of_a_request_no_client_can_say(render: Any) -> None:
    manifests = render("dask-gateway", ALONE["dask-gateway"])
    (arguments,) = (
        manifest["spec"]["template"]["spec"]["containers"][0]["args"]
        for manifest in manifests
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"].endswith("traefik")
    )
    assert "--entrypoints.web.http.aliasheadersstrategy=delete" in arguments
    (text,) = (m["data"]["routes.yaml"] for m in manifests if "routes.yaml" in m.get("data", {}))
    asked = [
        middleware["forwardAuth"]
        for middleware in yaml.safe_load(text)["http"]["middlewares"].values()
        if "forwardAuth" in middleware
    ]
    assert asked
    assert all(question["trustForwardHeader"] is False for question in asked)
    assert all(0 < question["maxResponseBodySize"] <= 65536 for question in asked)
