"""What an administrator gets wrong is named, with the remedy, before any object exists."""

from typing import Any

import pytest
from rendering import ALONE, HelmError


def services(**rows: Any) -> Any:
    """Return values of `global.services`; `_` in a name stands for a hyphen."""
    return {"global": {"services": {name.replace("_", "-"): row for name, row in rows.items()}}}


def off(*names: str, **more: Any) -> Any:
    """Return values that switch services off."""
    return services(**{name: {"enabled": False} for name in names}) | more


EXTERNAL = {"enabled": False, "url": "https://external.example"}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"jupyterhubb": {}}, "jupyterhubb"),
        ({"global": {"servicess": {}}}, "servicess"),
        (services(mlfow={"enabled": False}), "mlfow"),
        (services(mlflow={"enable": False}), "'enable'"),
        (services(mlflow=None), "missing property 'mlflow'"),
        (services(servicex={**EXTERNAL, "url": "sx.example"}), "/services/servicex/url"),
        ({"global": {"environment": {"A": 1}}}, "/global/environment/A"),
        ({"jupyterhub": {"hub": {"imagee": {}}}}, "imagee"),
        ({"jupyterhub": {"cull": {"timeout": "soon"}}}, "/cull/timeout"),
        ({"xcache": {"instances": [{"name": "a", "preset": "belle"}]}}, "'atlas', 'cms'"),
        (
            {"xcache": {"instances": [{"name": "a", "preset": "generic"}]}},
            "set origin to HOST:PORT",
        ),
        ({"xcache": {"XCacheConfig": {"RamSize": "lots"}}}, "/XCacheConfig/RamSize"),
        (
            {"operator": {"objectStore": {"keyLifetimeSeconds": 599}}},
            "/objectStore/keyLifetimeSeconds",
        ),
        ({"xcache": {"XCacheConfig": {"FileUsage": "8g"}}}, "/XCacheConfig/FileUsage"),
        ({"dask-gateway": {"gateway": {"auth": {"type": "pam"}}}}, "/gateway/auth/type"),
        (
            {"dask-gateway": {"gateway": {"auth": {"type": "kerberos"}}}},
            "gateway.auth.type is kerberos, but the gateway's image has no library",
        ),
        ({"dask-gateway": {"gateway": {"replicas": 2}}}, "gateway.replicas is 2"),
        (
            services(dask_gateway={"namespace": "{{ .Release.Namespace }}"}),
            "Traefik could read every Secret",
        ),
        ({"jupyterhub": {"hub": {"db": {"type": "other"}}}}, "jupyterhub.hub.db.url is empty"),
        (
            {"jupyterhub": {"hub": {"baseUrl": "/jupyter/"}}},
            "give the facility a host of its own (jupyterhub.ingress.hosts)",
        ),
        ({"jupyterhub": {"hub": {"config": {"loadRoles": {}}}}}, "config.loadRoles is not a class"),
        (
            {"jupyterhub": {"proxy": {"https": {"enabled": True}}}},
            "set jupyterhub.proxy.https.type to secret with a certificate",
        ),
        (
            {"jupyterhub": {"singleuser": {"storage": {"type": "static"}}}},
            "singleuser.storage.static.pvcName is empty",
        ),
        (
            {"dask-gateway": {"traefik": {"service": {"ports": {"tcp": {"port": 8786}}}}}},
            "traefik.service.ports.tcp.port is 8786, but notebooks connect",
        ),
        (
            {"jupyterhub": {"hub": {"facilityUsers": {"enabled": "yes"}}}},
            'jupyterhub.hub.facilityUsers.enabled is "yes": set it to true or false',
        ),
        (
            {"xcache": {"instances": [{"name": "cms", "preset": "cms"}]}},
            "lacks xcache, through which users and ServiceX read: add it, or rename one of: cms",
        ),
        (
            {"global": {"environment": {"SHOPPE_XCACHE": "a=root://a:1094"}}},
            'names the cache "a", but xcache.instances has only xcache: correct the name, or',
        ),
        ({"xcache": {"Service": {"Port": 1095}}}, "xcache.Service.Port is 1095"),
        ({"mlflow": {"service": {"port": 80}}}, "other services connect to 5000: remove the key"),
        (
            {"triton": {"autoscaling": {"enabled": True}, "keda": {"enabled": True}}},
            "set one of them",
        ),
        ({"triton": {"keda": {"enabled": True}}}, "set it to Prometheus' address"),
        (
            {"triton": {"autoscaling": {"enabled": True, "minReplicas": 9}}},
            "is above triton.autoscaling.maxReplicas",
        ),
        (
            {"triton": {"replicas": 2, "modelRepository": {"s3": {"endpoint": ""}}}},
            "or triton.replicas to 1, and triton.autoscaling.enabled and triton.keda.enabled to",
        ),
        ({"operator": {"triton": {"backend": "fil"}}}, "set operator.triton.backend to python, or"),
        (
            {"triton": {"server": {"image": {"name": "nvcr.io/x", "tag": "1"}}}},
            "set operator.triton.backend to fil, or",
        ),
        ({"operator": {"triton": {"backend": "onnx"}}}, "/triton/backend"),
        # Services that cannot be without one another.
        (off("jupyterhub"), "dask-gateway authenticates users at the hub"),
        (off("operator"), "MLflow requires its tokens"),
        (off("operator"), "ServiceX requires its tokens"),
        (off("operator"), "Triton requires its tokens"),
        (off("mlflow"), "no MLflow that accepts the facility's tokens"),
        (services(mlflow={**EXTERNAL, "token": "none"}), "no MLflow that accepts"),
        (off("objectstore"), "no object store with accounts"),
        (off("postgresql"), "set mlflow.backendStore.existingDatabaseSecret to a Secret of"),
        (off("postgresql"), "set servicex.postgres.existingDatabaseSecret to a Secret of"),
        ({"postgresql": {"databases": ["mlflow"]}}, "postgresql.databases lacks servicex"),
        (
            {"postgresql": {"networkPolicy": {"clients": ["mlflow", "servicex"]}}},
            "postgresql.networkPolicy.clients lacks servicex-controller",
        ),
        (
            off("operator", jupyterhub={"hub": {"facilityUsers": {"enabled": True}}}),
            "jupyterhub.hub.facilityUsers.enabled is true: set it to false",
        ),
        (
            off("operator", servicex={"transformer": {"dedicated": {"userSecrets": True}}}),
            "servicex.transformer.dedicated.userSecrets is true: set it to false",
        ),
        (
            {"jupyterhub": {"hub": {"services": {"dask-gateway": None}}}},
            "services.dask-gateway is null, but the gateway authenticates users as this service",
        ),
        (
            {"jupyterhub": {"hub": {"services": {"api": None}}}},
            "services.api is null, but browsers log in to services through it: remove the null",
        ),
        (
            {"jupyterhub": {"singleuser": {"profileList": [{"display_name": ""}]}}},
            "profileList[0] has no display_name: add one",
        ),
        # External services.
        (
            services(jupyterhub={"url": "https://hub"}),
            "jupyterhub.url is set, but a facility needs its own hub, from which all users come: "
            "remove the key",
        ),
        (services(operator=EXTERNAL), "operator.url is set, but a facility needs its own operator"),
        (services(dask_gateway=EXTERNAL), "dask-gateway.url is set, but an external gateway"),
        (services(postgresql=EXTERNAL), "name an external PostgreSQL: remove the key"),
        (services(mlflow={"url": "https://m"}), "set enabled to false for an external service"),
        (services(mlflow=EXTERNAL), "global.services.mlflow.token is missing: set it to facility"),
        (services(mlflow={**EXTERNAL, "token": "basic"}), "/services/mlflow/token"),
        (
            services(servicex=EXTERNAL),
            "issuer is missing: set it to the issuer of this facility's tokens, which the external "
            'ServiceX must accept ("coffea-shoppe:facility:shoppe")',
        ),
        (
            services(servicex={**EXTERNAL, "issuer": "another"}),
            "set global.services.operator.issuer to the one",
        ),
        (
            services(triton=EXTERNAL),
            "global.services.triton.grpcUrl is missing: set it to its address",
        ),
        (
            services(objectstore=EXTERNAL),
            "adminUrl or global.services.objectstore.bucket is missing",
        ),
        (services(objectstore=EXTERNAL), "global.services.objectstore.existingSecret is missing"),
        (
            services(objectstore={**EXTERNAL, "adminUrl": "http://a:1", "bucket": "b"}),
            "objectstore.bucket are both set: set one of them",
        ),
        # Keys that follow now.
        ({"mlflow": {"enabled": False}}, "set global.services.mlflow.enabled instead"),
        ({"xcache": {"enabled": True}}, "set global.services.xcache.enabled instead"),
        ({"servicex": {"external": {"url": "https://sx"}}}, "set global.services.servicex.url"),
        (
            {"operator": {"connections": {"mlflow": "http://m"}}},
            "operator.connections is set, but follows from global.services: set "
            "global.services.NAME.url instead",
        ),
        (
            {"operator": {"api": {"hub": {"publicUrl": "https://hub.example.org"}}}},
            "publicUrl is set, but follows from global.services: set "
            "global.services.jupyterhub.subdomainHost instead",
        ),
        (
            {"operator": {"api": {"hub": {"servicesUrl": "https://all.example.org"}}}},
            "servicesUrl is set, but follows from global.services: set "
            "global.services.jupyterhub.subdomainHost instead",
        ),
        ({"operator": {"issuer": "mine"}}, "set global.services.operator.issuer instead"),
        (
            {"mlflow": {"auth": {"issuer": "mine"}}, "triton": {"proxy": {"issuer": "mine"}}},
            "mlflow.auth.issuer is set",
        ),
        (
            {"jupyterhub": {"hub": {"existingSecret": "mine"}}},
            "set global.services.jupyterhub.existingSecret instead",
        ),
        (
            {"dask-gateway": {"gateway": {"backend": {"namespace": "other"}}}},
            "set global.services.dask-gateway.namespace instead",
        ),
        ({"mlflow": {"auth": {"api": ""}}}, "mlflow.auth.api is empty"),
        ({"triton": {"proxy": {"api": ""}}}, "triton.proxy.api is empty"),
        (
            {"triton": {"front": {"resources": {}}}},
            "triton.front is set: set triton.proxy instead",
        ),
        ({"triton": {"modelRepository": {"s3": {"bucket": ""}}}}, "s3.bucket is not"),
        ({"postgresql": {"databases": ["a-b"]}}, "/databases/0"),
        (
            {"operator": {"dask": {"pods": {"labels": None}}}},
            "operator.dask.pods.labels is not",
        ),
        ({"operator": {"api": {"hub": {"existingSecret": ""}}}}, "api.hub.existingSecret is not"),
        ({"dask-gateway": {"traefik": {"authorize": ""}}}, "gateway.traefik.authorize is not"),
        ({"servicex": {"app": {"tokens": {"api": ""}}}}, "servicex.app.tokens.api is empty"),
        (
            {"servicex": {"transformer": {"dedicated": {"namespace": "a"}}}},
            "servicex.transformer.dedicated.userSecrets to false",
        ),
        (
            {"servicex": {"transformer": {"own": {"maxPods": 2}}}},
            "servicex.transformer.own is set: set servicex.transformer.dedicated instead",
        ),
        ({"servicex": {"transformer": {"memoryMaxMiB": 512}}}, "raise the latter"),
        (
            {"servicex": {"transformer": {"autoscaler": {"minReplicas": 9}}}},
            "autoscaler.maxReplicas (2): lower the former",
        ),
        ({"servicex": {"didFinder": {"rucio": {"enabled": True}}}}, "rucio_host or existingSecret"),
        ({"servicex": {"objectStore": {"endpoint": ""}, "app": {"replicas": 2}}}, "on one volume"),
        (
            {"servicex": {"postgres": {"existingDatabaseSecret": ""}}},
            "is empty: set it to a Secret",
        ),
        (
            {"dask-gateway": {"traefik": {"pages": {"mlflow": "http://m"}}}},
            "jupyterhub.hub.services.servicex needs a page in dask-gateway's Traefik",
        ),
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
    assert "another instance has the same name" in str(refused.value)


def test_all_misuse_of_the_facility_is_reported_at_once(render: Any) -> None:
    with pytest.raises(HelmError) as refused:
        render("coffea-shoppe", off("operator", triton={"enabled": False}))
    for named in ("MLflow requires", "ServiceX requires", "set global.services.triton.enabled"):
        assert named in str(refused.value)


@pytest.mark.parametrize(
    ("chart", "values", "named"),
    [
        ("xcache", {"enabled": False}, "a chart that is installed alone has no switch"),
        ("postgresql", {"enabled": False}, "a chart that is installed alone has no switch"),
        ("servicex", {"external": {"url": "https://sx"}}, "this chart installs a ServiceX"),
    ],
)
def test_what_a_facility_says_is_refused_by_a_chart_alone(
    render: Any, chart: str, values: Any, named: str
) -> None:
    with pytest.raises(HelmError, match=named):
        render(chart, {**ALONE[chart], **values})


@pytest.mark.parametrize(
    "values",
    [
        {"jupyterhub": {"hub": {"config": {"GenericOAuthenticator": {"client_id": "x"}}}}},
        {"jupyterhub": {"hub": {"db": {"type": "other", "url": "postgresql://db/hub"}}}},
        {"xcache": {"instances": [{"name": "xcache", "preset": "generic", "origin": "h:1094"}]}},
        {
            "xcache": {
                "instances": [
                    {"name": "xcache", "preset": "atlas"},
                    {"name": "cms", "preset": "cms"},
                ]
            },
            "global": {"environment": {"SHOPPE_XCACHE": "xcache=root://x:1094,cms=root://c:1094"}},
        },
        {"dask-gateway": {"gateway": {"limits": {"cores": 0.5}}}},
        {"operator": {"objectStore": {"keyLifetimeSeconds": 600}}},
        {
            "dask-gateway": {"controller": {"enabled": True}},
            "jupyterhub": {"cull": {"enabled": False}},
        },
        off("jupyterhub", "dask-gateway"),
        off("jupyterhub", **{"dask-gateway": {"gateway": {"auth": {"type": "simple"}}}}),
        off("operator", "mlflow", "triton", "servicex"),
        {
            "dask-gateway": {"gateway": {"networkPolicy": {"enabled": False}}},
            "operator": {"userNamespaces": ["batch"]},
            "servicex": {"transformer": {"dedicated": {"namespace": "batch"}}},
        },
        off(
            "postgresql",
            mlflow={"backendStore": {"existingDatabaseSecret": "of-the-site"}},
            servicex={"postgres": {"existingDatabaseSecret": "of-the-site-too"}},
        ),
        {"postgresql": {"databases": ["mlflow", "servicex", "of_the_site"]}},
        off("objectstore", "triton"),
        services(triton={**EXTERNAL, "grpcUrl": "grpc://external.example:8001"}),
        {"jupyterhub": {"hub": {"services": {"mlflow": None}}}},
        {"jupyterhub": {"singleuser": {"profileList": [{"display_name": "big"}]}}},
    ],
)
def test_good_values_render(render: Any, values: Any) -> None:
    assert render("coffea-shoppe", values)
