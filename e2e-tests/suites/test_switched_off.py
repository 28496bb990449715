"""A facility without MLflow and Triton, whose ServiceX is another release's: one key for each."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from coffea_shoppe_contract.names import resource_name
from coffea_shoppe_contract.resources import FACILITY_USERS
from lib.fixtures import administrator, forwarded, passing_user, run_code
from lib.second_servicex import second_servicex, stored
from shoppe_ci import origin, release
from shoppe_ci.cluster import Cluster, free_port
from shoppe_ci.facility import User
from shoppe_ci.testing import with_values
from shoppe_ci.wait import eventually

pytestmark = pytest.mark.part("faults")

NAME = "elsewhere"
"""Of the other release and its namespace."""
SERVICEX = f"http://{NAME}-servicex.{NAME}:5000"
ISSUER = "coffea-shoppe:shoppe:shoppe"
ROWS: dict[str, Any] = {
    "mlflow": {"enabled": False},
    "triton": {"enabled": False},
    "servicex": {"enabled": False, "url": SERVICEX, "issuer": ISSUER},
}
NAMESPACE = {"matchLabels": {"kubernetes.io/metadata.name": NAME}}
VALUES: dict[str, Any] = {
    "global": {"services": ROWS},
    "operator": {"networkPolicy": {"verifiers": [{"namespaceSelector": NAMESPACE}]}},
}
OTHER: dict[str, Any] = {
    "app": {"tokens": {"api": "http://shoppe-api.shoppe", "issuer": ISSUER}},
    "networkPolicy": {"enabled": False},
    "objectStore": {"publicURL": f"{NAME}-servicex.{NAME}:7000"},
}
LOOK = """
import json, os
from pathlib import Path
import coffea_shoppe as shoppe
# The image's own switches are there in any facility.
own = {"MLFLOW_DISABLE_TELEMETRY"}
variables = [name for name in os.environ if name.startswith("MLFLOW") and name not in own]
client = Path("/run/coffea-shoppe/servicex.yaml").read_text()
print(json.dumps([variables, shoppe.connections(), sorted(shoppe.status().services), client]))
"""


@pytest.fixture(scope="module")
def smaller(facility: Cluster) -> Iterator[Cluster]:
    """The facility with what differs; as it was again afterwards."""
    with second_servicex(facility, NAME, OTHER), with_values(facility, VALUES):
        yield facility


@pytest.fixture(scope="module")
def sue(smaller: Cluster) -> Iterator[User]:
    yield from passing_user(smaller, "sue.smaller")


def test_what_is_switched_off_does_not_run(smaller: Cluster) -> None:
    names = [workload["metadata"]["name"] for workload in release.workloads(smaller, "shoppe")]
    assert [name for name in names if "hub" in name]
    gone = ("mlflow", "triton", "servicex")
    assert [name for name in names if any(service in name for service in gone)] == []


def test_a_user_finds_what_there_is(sue: User) -> None:
    variables, connections, services, client = json.loads(run_code(sue, LOOK).splitlines()[-1])
    assert variables == []
    assert connections["servicex"] == SERVICEX
    assert SERVICEX in client
    assert not {"mlflow", "triton", "triton-grpc"} & set(connections)
    assert {"api", "dask-gateway", "s3", "xcache"} <= set(services)
    assert set(services) == set(connections)


def test_a_user_has_the_conditions_of_what_there_is(smaller: Cluster, sue: User) -> None:
    def ready() -> bool:
        user = smaller.get(FACILITY_USERS, "-n", "shoppe", resource_name(sue.name))
        conditions = {entry["type"]: entry["status"] for entry in user["status"]["conditions"]}
        return conditions == {"Ready": "True", "ObjectStore": "True", "Dask": "True"}

    eventually(ready, "the user has these conditions and no other", timeout=60)


def test_the_hub_has_no_menu_entry_that_leads_nowhere(smaller: Cluster) -> None:
    services = set(administrator(smaller).hub("GET", "/services").json())
    assert {"api", "dask-gateway"} <= services
    assert not {"mlflow", "servicex"} & services


DELIVER = """
import pyarrow.parquet as pq
from servicex import ProgressBarFormat, dataset, deliver, query
events = query.UprootRaw({{"treename": "Events", "expressions": ["event"]}})
sample = {{"Name": "other", "Dataset": dataset.FileList([{url!r}]), "Query": events}}
spec = {{"General": {{"OutputFormat": "parquet"}}, "Sample": [sample]}}
((path,),) = deliver(spec, progress_bar=ProgressBarFormat.none).values()
print(pq.read_metadata(path).num_rows)
"""


def test_the_other_servicex_delivers_to_this_user(
    smaller: Cluster, sue: User, data_origin: Cluster, samples: list[tuple[Path, str, str, int]]
) -> None:
    path, _, _, events = next(sample for sample in samples if sample[1] == "wjets")
    url = origin.publish(data_origin, path)
    assert run_code(sue, DELIVER.format(url=url)).splitlines()[-1] == str(events)
    (result,) = stored(smaller, NAME)
    assert result.startswith(f"{resource_name(sue.name)}/")


def test_the_other_servicex_refuses_who_has_no_token(smaller: Cluster) -> None:
    port = free_port()
    with forwarded(smaller, NAME, f"{NAME}-servicex", {port: 5000}):
        url = f"http://127.0.0.1:{port}/services/servicex/servicex/transformation"
        assert requests.get(url, timeout=20).status_code == 401


def test_a_dask_cluster_works(sue: User) -> None:
    code = (
        "from dask_gateway import Gateway\n"
        "with Gateway().new_cluster() as cluster:\n"
        "    cluster.scale(1)\n"
        "    print(cluster.get_client().submit(sum, [1, 2]).result(timeout=180))"
    )
    assert run_code(sue, code).splitlines()[-1] == "3"
