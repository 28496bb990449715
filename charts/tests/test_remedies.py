"""Values that contradict one another are refused, and each remedy that Helm names works."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from references import Release
from rendering import HelmError, Manifest, merged, nested, template


def off(*services: str) -> Manifest:
    """Return values that switch services off."""
    return {"global": {"services": {service: {"enabled": False} for service in services}}}


def values(**paths: Any) -> Manifest:
    """Return values at dotted paths; `__` in a name stands for a dot, `_` for a hyphen."""
    tree: Manifest = {}
    for name, value in paths.items():
        tree = merged(tree, nested(name.replace("__", ".").replace("_", "-"), value))
    return tree


ENABLED = "global.services.{}.enabled"
CACHE = {"name": "xcache", "preset": "atlas"}
CMS = {"name": "cms", "preset": "cms"}
STORE = {"enabled": False, "url": "https://s3.example.org", "existingSecret": "site-keys"}

CONTRADICTIONS: dict[str, tuple[Manifest, list[dict[str, Any]]]] = {
    "caches are renamed": (
        {"xcache": {"instances": [CMS]}},
        [{"xcache.instances": [CACHE]}, {"xcache.instances": [CMS, CACHE]}],
    ),
    "a cache that is not there": (
        {"global": {"environment": {"SHOPPE_XCACHE": "cms=root://shoppe-cms.facility:1094"}}},
        [{"xcache.instances": [CACHE, CMS]}],
    ),
    "a cache at another port": (
        {"xcache": {"Service": {"Port": 1095}}},
        [{"xcache.Service.Port": 1094}],
    ),
    "an old switch": (
        {"mlflow": {"enabled": False}},
        [{"mlflow": {}, ENABLED.format("mlflow"): False, ENABLED.format("triton"): False}],
    ),
    "no hub": (
        off("jupyterhub"),
        [
            {ENABLED.format("dask-gateway"): False},
            {"dask-gateway.gateway.auth.type": "simple"},
        ],
    ),
    "no operator": (
        off("operator"),
        [
            {
                ENABLED.format("mlflow"): False,
                ENABLED.format("servicex"): False,
                ENABLED.format("triton"): False,
            },
            {
                "mlflow.auth.enabled": False,
                "servicex.app.auth": False,
                ENABLED.format("triton"): False,
            },
        ],
    ),
    "no store for Triton": (
        off("objectstore"),
        [{ENABLED.format("objectstore"): True}, {ENABLED.format("triton"): False}],
    ),
    "no database": (
        off("postgresql"),
        [
            {
                "mlflow.backendStore.existingDatabaseSecret": "",
                "servicex.postgres.existingDatabaseSecret": "site-database",
            },
            {
                "mlflow.backendStore.existingDatabaseSecret": "site-database",
                ENABLED.format("servicex"): False,
            },
        ],
    ),
    "an external store without its needs": (
        {"global": {"services": {"objectstore": {"enabled": False, "url": STORE["url"]}}}},
        [
            {
                "global.services.objectstore.adminUrl": "https://s3.example.org:7080",
                "global.services.objectstore.existingSecret": "site-keys",
            },
            {
                "global.services.objectstore.bucket": "site",
                "global.services.objectstore.existingSecret": "site-keys",
                ENABLED.format("triton"): False,
            },
        ],
    ),
    "the operator at another store": (
        values(operator__objectStore__adminEndpoint="https://s3.example.org:7080"),
        [
            {
                "operator": {},
                "global.services.objectstore": {**STORE, "adminUrl": "https://s3.example.org:7080"},
            }
        ],
    ),
    "ServiceX at another store": (
        values(servicex__objectStore__endpoint="https://s3.example.org"),
        [
            {
                "servicex.objectStore.existingSecret": "site-keys",
                "servicex.objectStore.bucket": "columns",
            }
        ],
    ),
    "MLflow in another bucket": (
        values(mlflow__artifactRoot__s3__bucket="artifacts"),
        [{"mlflow.artifactRoot.s3.existingSecret": "site-keys"}],
    ),
    "Triton at another store": (
        values(triton__modelRepository__s3__endpoint="https://s3.example.org"),
        [
            {
                "triton": {},
                "global.services.objectstore": {**STORE, "adminUrl": "https://s3.example.org:7080"},
            }
        ],
    ),
    "a page that Traefik lacks": (
        {"dask-gateway": {"traefik": {"pages": {"mlflow": "http://shoppe-mlflow.facility:5000"}}}},
        [
            {"jupyterhub.hub.services.servicex": None},
            {"dask-gateway.traefik.pages.servicex": "http://shoppe-servicex.facility:5000"},
        ],
    ),
    "functions in a namespace without Secrets": (
        {"servicex": {"transformer": {"dedicated": {"namespace": "batch"}}}},
        [
            {"operator.userNamespaces": ["batch"]},
            {"servicex.transformer.dedicated.userSecrets": False},
        ],
    ),
    "an address for subdomains in one place": (
        {
            "jupyterhub": {
                "hub": {"config": {"JupyterHub": {"subdomain_host": "https://a.example"}}}
            }
        },
        [
            {
                "jupyterhub": {},
                "global.services.jupyterhub.subdomainHost": "https://a.example",
            }
        ],
    ),
    "NVIDIA's backend without its image": (
        {"operator": {"triton": {"backend": "fil"}}},
        [
            {"triton.server.image": {"name": "nvcr.io/nvidia/tritonserver", "tag": "25.09-py3"}},
            {"operator.triton.backend": "python"},
        ],
    ),
    "NVIDIA's image without its backend": (
        {"triton": {"server": {"image": {"name": "nvcr.io/nvidia/tritonserver", "tag": "25.09"}}}},
        [{"operator.triton.backend": "fil"}, {"triton.server.image.name": ""}],
    ),
    "several Tritons that share no repository": (
        {"triton": {"replicas": 2, "modelRepository": {"s3": {"endpoint": ""}}}},
        [{"triton.replicas": 1}],
    ),
    "a gateway that the hub does not know": (
        {"jupyterhub": {"hub": {"services": {"dask-gateway": None}}}},
        [{"jupyterhub": {}}],
    ),
    "a facility API that the hub does not know": (
        {"jupyterhub": {"hub": {"services": {"api": None}}}},
        [{"jupyterhub": {}}],
    ),
    "no port": (
        {"jupyterhub": {"proxy": {"service": {"disableHttpPort": True}}}},
        [
            {"jupyterhub.proxy.service.disableHttpPort": False},
            {"jupyterhub.proxy.https": {"enabled": True, "type": "offload"}},
        ],
    ),
    "an external hub": (
        {"global": {"services": {"jupyterhub": {"url": "https://hub.example.org"}}}},
        [{"global.services.jupyterhub.url": ""}],
    ),
    "an external ServiceX of another facility": (
        {"global": {"services": {"servicex": {"enabled": False, "url": "https://sx.example.org"}}}},
        [{"global.services.servicex.issuer": "coffea-shoppe:facility:shoppe"}],
    ),
}


def replaced(below: Manifest, path: str, value: Any) -> Manifest:
    """Return values with one at a dotted path; {} takes the whole part away."""
    key, _, rest = path.partition(".")
    if rest:
        return {**below, key: replaced(below.get(key, {}), rest, value)}
    return {**below, key: value}


def remedies() -> Iterator[Any]:
    for name, (bad, ways) in CONTRADICTIONS.items():
        for number, way in enumerate(ways):
            yield pytest.param(bad, way, id=f"{name}-{number}")


@pytest.mark.parametrize(("bad", "way"), list(remedies()))
def test_a_remedy_is_named_and_works(bad: Manifest, way: dict[str, Any]) -> None:
    with pytest.raises(HelmError) as refused:
        template("coffea-shoppe", bad)
    lines = [line for line in str(refused.value).splitlines() if line.startswith("  - ")]
    assert lines, refused.value
    good = bad
    for path, value in way.items():
        good = replaced(good, path, value)
        # What is only taken away is named as the fault.
        part = path.split(".")[-1]
        assert any(path in line or part in line for line in lines), (path, lines)
    site = re.compile(r"Secret site-|Service shoppe-cms|namespace batch")
    dangling = Release(template("coffea-shoppe", good)).dangling()
    assert [problem for problem in dangling if not site.search(problem)] == []
