from typing import Any

import generate_secrets
import pytest
from rendering import ALONE, containers, generated_secrets

# Third-party servers that take a secret by environment only.
ENVIRONMENT = {
    ("shoppe-proxy/chp", "CONFIGPROXY_AUTH_TOKEN"),
    ("shoppe-mlflow/mlflow", "MLFLOW_AUTH_ADMIN_PASSWORD"),
    ("shoppe-mlflow/mlflow", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
    ("shoppe-objectstore/objectstore", "ROOT_ACCESS_KEY"),
    ("shoppe-objectstore/objectstore", "ROOT_SECRET_KEY"),
}


def test_secrets_reach_pods_as_files_but_for_a_known_few(manifests: list[Any]) -> None:
    for name, container in containers(manifests):
        assert "envFrom" not in container, name
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                assert (name, variable["name"]) in ENVIRONMENT


@pytest.mark.parametrize("chart", ["jupyterhub", "mlflow", "objectstore", "postgresql", "servicex"])
def test_generated_secrets_are_long_and_differ(render: Any, chart: str) -> None:
    (keys,) = generated_secrets(render(chart, ALONE[chart])).values()
    first, second = (generate_secrets.entries(keys, {}) for _ in range(2))
    assert set(first) == set(second) == set(keys)
    for key, value in first.items():
        assert len(value) >= 24, key
        assert value != second[key], f"{key} is the same in two installations"
    assert generate_secrets.entries(keys, first) == first


def test_a_service_that_is_taken_out_has_no_token(render: Any) -> None:
    services = {"a": {"url": "http://a"}, "b": None}
    keys = generated_secrets(render("jupyterhub", {"hub": {"services": services}}))["shoppe-hub"]
    tokens = [key for key in keys if key.startswith("hub.services.")]
    assert tokens == ["hub.services.a.apiToken"]


def test_an_existing_secret_replaces_the_generated_one(render: Any) -> None:
    manifests = render("jupyterhub", {"hub": {"existingSecret": "mine"}})
    rendered = [m["metadata"]["name"] for m in manifests if m["kind"] == "Secret"]
    assert rendered == ["shoppe-hub-settings"]
    hub = next(
        m for m in manifests if m["metadata"]["name"] == "shoppe-hub" and m["kind"] == "Deployment"
    )
    volumes = hub["spec"]["template"]["spec"]["volumes"]
    assert {"secretName": "mine"} in [volume.get("secret") for volume in volumes]
