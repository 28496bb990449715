"""A Secret of the administrator's takes the place of a generated one, wherever it is used."""

from typing import Any

import pytest
from references import Release
from rendering import ALONE, HelmError, template

SERVICES = {
    "jupyterhub": {"existingSecret": "my-hub"},
    "objectstore": {"existingSecret": "my-store"},
    "postgresql": {"existingSecrets": {"mlflow": "my-mlflow-database", "servicex": "my-columns"}},
}
VALUES: dict[str, Any] = {
    "global": {"services": SERVICES},
    "mlflow": {"existingSecret": "my-mlflow"},
    "servicex": {"existingSecret": "my-servicex"},
}
NAMES = {"my-hub", "my-store", "my-mlflow-database", "my-columns", "my-mlflow", "my-servicex"}


def test_a_facility_with_secrets_of_its_own_uses_these_alone() -> None:
    manifests = template("coffea-shoppe", VALUES)
    rendered = [m["metadata"]["name"] for m in manifests if m["kind"] == "Secret"]
    # What the values say is in Secrets of its own.
    assert rendered == ["shoppe-dask-gateway-settings", "shoppe-hub-settings"]
    missing = {line.partition(": Secret ")[2] for line in Release(manifests).dangling()}
    assert missing == NAMES


def test_a_secret_for_one_database_leaves_the_others_generated() -> None:
    rows = {"postgresql": {"existingSecrets": {"mlflow": "my-{{ .Release.Name }}-database"}}}
    release = Release(template("coffea-shoppe", {"global": {"services": rows}}))
    assert release.dangling() == [
        "shoppe-mlflow-gc: Secret my-shoppe-database",
        "shoppe-mlflow: Secret my-shoppe-database",
        "shoppe-postgresql: Secret my-shoppe-database",
    ]
    assert release.has("Secret", "facility", "shoppe-postgresql-servicex")
    assert not release.has("Secret", "facility", "shoppe-postgresql-mlflow")


def test_a_database_that_is_not_made_needs_no_secret() -> None:
    values = {"existingSecrets": {"mlflow": "mine"}}
    with pytest.raises(HelmError, match=r"postgresql.databases lacks mlflow: add it"):
        template("postgresql", {**ALONE["postgresql"], **values})
    assert template("postgresql", {"databases": ["mlflow"], **values})
