"""What an operator gets wrong is named, with the remedy, before any object exists."""

from typing import Any

import pytest
from rendering import HelmError, without_pages


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"jupyterhubb": {}}, "jupyterhubb"),
        ({"jupyterhub": {"hub": {"imagee": {}}}}, "imagee"),
        ({"jupyterhub": {"cull": {"timeout": "soon"}}}, "/cull/timeout"),
        ({"xcache": {"instances": [{"name": "a", "preset": "belle"}]}}, "'atlas', 'cms'"),
        (
            {"xcache": {"instances": [{"name": "a", "preset": "generic"}]}},
            "set origin to HOST:PORT",
        ),
        ({"xcache": {"XCacheConfig": {"RamSize": "lots"}}}, "/XCacheConfig/RamSize"),
        ({"dask-gateway": {"gateway": {"auth": {"type": "kerberos"}}}}, "/gateway/auth/type"),
        ({"dask-gateway": {"gateway": {"replicas": 2}}}, "gateway.replicas is 2"),
        (
            {"dask-gateway": {"gateway": {"backend": {"namespace": "{{ .Release.Namespace }}"}}}},
            "Traefik could read every Secret",
        ),
        ({"jupyterhub": {"hub": {"db": {"type": "other"}}}}, "set hub.db.url"),
        (
            {"dask-gateway": {"gateway": {"backend": {"namespace": "elsewhere"}}}},
            "does not lead there",
        ),
        ({"xcache": {"instances": [{"name": "cms", "preset": "cms"}]}}, "has: cms"),
        ({"xcache": {"enabled": False}}, "users are sent to its cache"),
        (
            {"triton": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}},
            "set one of them",
        ),
        ({"triton": {"keda": {"enabled": True}}}, "set it to Prometheus' address"),
        (
            {"triton": {"autoscaling": {"enabled": True, "minReplicas": 9}}},
            "is more than triton.autoscaling.maxReplicas",
        ),
        (
            {"triton": {"replicas": 2, "modelRepository": {"s3": {"endpoint": ""}}}},
            "needs a repository that all of them read",
        ),
        ({"operator": {"triton": {"backend": "fil"}}}, "NVIDIA's (triton.server.image) has fil"),
        (
            {"triton": {"server": {"image": {"name": "nvcr.io/x", "tag": "1"}}}},
            "NVIDIA's (triton.server.image) has fil",
        ),
        ({"operator": {"triton": {"backend": "onnx"}}}, "/triton/backend"),
        ({"xcache": {"enabled": False}}, "operator.connections.xcache leads to it"),
        ({"dask-gateway": {"enabled": False}}, "operator.connections.dask-gateway leads to it"),
        ({"operator": {"enabled": False}}, "users' servers wait for it"),
        ({"operator": {"enabled": False}}, "MLflow accepts its tokens only"),
        ({"operator": {"issuer": "elsewhere"}}, 'mlflow.auth.issuer is "coffea-shoppe:'),
        ({"mlflow": {"enabled": False}}, "operator.mlflow.endpoint leads to it"),
        ({"mlflow": {"enabled": False}}, "operator.connections.mlflow leads to it"),
        ({"mlflow": {"auth": {"api": ""}}}, "mlflow.auth.api is empty"),
        ({"operator": {"enabled": False}}, "Triton accepts its tokens only"),
        ({"operator": {"issuer": "elsewhere"}}, 'triton.front.issuer is "coffea-shoppe:'),
        ({"triton": {"enabled": False}}, "operator.triton.endpoint leads to it"),
        ({"triton": {"front": {"api": ""}}}, "triton.front.api is empty"),
        ({"triton": {"modelRepository": {"s3": {"bucket": ""}}}}, "s3.bucket is not"),
        ({"operator": {"mlflow": {"endpoint": ""}}}, "but operator.mlflow.endpoint is not"),
        ({"postgresql": {"enabled": False}}, "no such database is made"),
        ({"postgresql": {"databases": ["a-b"]}}, "/databases/0"),
        ({"operator": {"objectStore": {"endpoint": ""}}}, "operator.objectStore.endpoint is not"),
        (
            {"operator": {"objectStore": {"endpoint": ""}, "triton": {"endpoint": ""}}},
            "which has no object store",
        ),
        ({"operator": {"enabled": False}}, "ServiceX accepts its tokens only"),
        ({"operator": {"issuer": "elsewhere"}}, 'servicex.app.tokens.issuer is "coffea-shoppe:'),
        ({"servicex": {"enabled": False}}, "operator.connections.servicex leads to it"),
        ({"servicex": {"external": {"url": "https://sx"}}}, "operator.connections.servicex is"),
        ({"servicex": {"enabled": False}}, "operator.servicex.endpoint leads to the release's own"),
        ({"dask-gateway": {"enabled": False}}, "operator.dask.health leads to it"),
        ({"dask-gateway": {"enabled": False}}, "operator.dask.pods.namespace is set"),
        ({"operator": {"dask": {"pods": {"namespace": ""}}}}, "lets their pods reach one another"),
        ({"operator": {"dask": {"pods": {"namespace": "a"}}}}, "operator.userNamespaces lacks it"),
        (
            {"operator": {"dask": {"pods": {"labels": None}}}},
            "operator.dask.pods.labels is not",
        ),
        ({"operator": {"api": {"hub": {"existingSecret": ""}}}}, "api.hub.existingSecret is not"),
        ({"dask-gateway": {"traefik": {"authorize": ""}}}, "gateway.traefik.authorize is not"),
        ({"servicex": {"app": {"tokens": {"api": ""}}}}, "servicex.app.tokens.api is empty"),
        ({"postgresql": {"databases": ["mlflow"]}}, "servicex.postgres.existingDatabaseSecret is"),
        ({"operator": {"objectStore": {"writers": []}}}, "operator.objectStore.writers lacks"),
        ({"dask-gateway": {"enabled": False}}, "servicex.transformer.own.namespace is its"),
        ({"xcache": {"enabled": False}}, "servicex.transformer.cachePrefix leads to it"),
        (
            {"servicex": {"transformer": {"own": {"namespace": "a"}}}},
            "servicex.transformer.own.userSecrets to false",
        ),
        ({"servicex": {"transformer": {"memoryMaxMiB": 512}}}, "raise memoryMaxMiB"),
        ({"servicex": {"transformer": {"autoscaler": {"minReplicas": 9}}}}, "is above maxReplicas"),
        ({"servicex": {"didFinder": {"rucio": {"enabled": True}}}}, "rucio_host or existingSecret"),
        ({"servicex": {"objectStore": {"endpoint": ""}, "app": {"replicas": 2}}}, "on one volume"),
        (
            {"servicex": {"postgres": {"existingDatabaseSecret": ""}}},
            "is empty: set it to a Secret",
        ),
        ({"mlflow": {"enabled": False}}, "traefik.pages.mlflow leads to the release's own"),
        ({"servicex": {"enabled": False}}, "traefik.pages.servicex leads to the release's own"),
        ({"servicex": {"external": {"url": "https://sx"}}}, "hub.services.servicex, to null"),
        ({"dask-gateway": {"traefik": {"pages": {"mlflow": None}}}}, "which has no such page"),
        ({"dask-gateway": {"enabled": False}}, "hub.services.mlflow leads to its Traefik"),
        ({"operator": {"enabled": False}}, "jupyterhub.hub.services.api leads to its API"),
        ({"operator": {"enabled": False}}, "dask-gateway.traefik.authorize leads to its API"),
        ({"operator": {"userNamespaces": []}}, "operator.userNamespaces lacks it"),
        ({"operator": {"conections": {}}}, "conections"),
        ({"jupyterhub": {"singleuser": {"image": {"tag": ""}}}}, "singleuser.image.tag is missing"),
    ],
)
def test_bad_values_are_refused_by_name(render: Any, values: Any, named: str) -> None:
    with pytest.raises(HelmError) as refused:
        render("coffea-shoppe", values)
    assert named in str(refused.value)


def test_all_misuse_of_a_component_is_reported_at_once(render: Any) -> None:
    instances = [{"name": "a", "preset": "generic"}, {"name": "a", "preset": "atlas"}]
    with pytest.raises(HelmError) as refused:
        render("xcache", {"instances": instances})
    assert "needs an origin" in str(refused.value)
    assert "the name is taken" in str(refused.value)


@pytest.mark.parametrize(
    "values",
    [
        {"jupyterhub": {"hub": {"config": {"GenericOAuthenticator": {"client_id": "x"}}}}},
        {"jupyterhub": {"hub": {"db": {"type": "other", "url": "postgresql://db/hub"}}}},
        {"xcache": {"instances": [{"name": "xcache", "preset": "generic", "origin": "h:1094"}]}},
        {
            "xcache": {"enabled": False},
            "operator": {"connections": {"xcache": "root://cache:1094"}},
            "servicex": {"transformer": {"cachePrefix": "root://cache:1094"}},
            "jupyterhub": {"singleuser": {"extraEnv": {"SHOPPE_XCACHE": "c=root://cache:1094"}}},
        },
        {"dask-gateway": {"gateway": {"limits": {"cores": 0.5}}}},
        {
            "dask-gateway": {"enabled": False},
            "operator": {
                "connections": {"dask-gateway": None},
                "dask": {"health": "", "pods": {"namespace": ""}},
            },
            "servicex": {"transformer": {"own": {"namespace": ""}}},
            "jupyterhub": {
                "hub": {"services": {"dask-gateway": None, "mlflow": None, "servicex": None}}
            },
        },
        {
            "servicex": {"enabled": False},
            "operator": {
                "connections": {"servicex": "https://sx"},
                "servicex": {"endpoint": ""},
            },
            **without_pages("servicex"),
        },
        {
            "servicex": {"external": {"url": "https://sx"}},
            "operator": {
                "connections": {"servicex": "https://sx"},
                "servicex": {"endpoint": ""},
            },
            **without_pages("servicex"),
        },
        {
            "operator": {"enabled": False},
            "mlflow": {"enabled": False},
            "triton": {"enabled": False},
            "servicex": {"enabled": False},
            "jupyterhub": {
                "hub": {
                    "facilityUsers": {"enabled": False},
                    "services": {"api": None, "mlflow": None, "servicex": None},
                }
            },
            "dask-gateway": {
                "gateway": {"backend": {"userSecrets": False}},
                "traefik": {"authorize": "", "pages": {"mlflow": None, "servicex": None}},
            },
        },
        {
            "operator": {"dask": {"pods": {"namespace": ""}}},
            "dask-gateway": {"gateway": {"networkPolicy": {"enabled": False}}},
        },
        {"jupyterhub": {"enabled": False}},
        {
            "operator": {"issuer": "here"},
            "mlflow": {"auth": {"issuer": "here"}},
            "triton": {"front": {"issuer": "here"}},
            "servicex": {"app": {"tokens": {"issuer": "here"}}},
        },
        {
            "postgresql": {"enabled": False},
            "mlflow": {"backendStore": {"existingDatabaseSecret": "of-the-site"}},
            "servicex": {"postgres": {"existingDatabaseSecret": "of-the-site-too"}},
        },
        {
            "mlflow": {"enabled": False},
            "triton": {"enabled": False},
            "operator": {
                "mlflow": {"endpoint": ""},
                "triton": {"endpoint": ""},
                "connections": {"mlflow": None, "triton": None, "triton-grpc": None},
            },
            **without_pages("mlflow"),
        },
        {"jupyterhub": {"singleuser": {"profileList": [{"display_name": "big"}]}}},
    ],
)
def test_good_values_render(render: Any, values: Any) -> None:
    assert render("coffea-shoppe", values)
