"""The release gate: open on the facility, and closed by each service that is broken."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import uproot
from lib.components import without
from shoppe_ci import analysis, facility, origin, release
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User
from shoppe_ci.gate import badge, client, record, results
from shoppe_ci.gate import run as gates
from shoppe_ci.gate.hops import ABSENT, HOPS, PROVED, SEEN
from shoppe_ci.testing import with_values

pytestmark = pytest.mark.part("gate")

EVENTS = analysis.FEWEST_EVENTS
WRONG_KEYS = "wrong-keys"
COMPONENTS = {hop.title: hop.endpoint.component for hop in HOPS}


def test_the_gate_is_open(engine: Engine, data_origin: Cluster, tmp_path: Path) -> None:
    outcome = gates.run(engine, data_origin, tmp_path / "gate", events=EVENTS)
    assert outcome.passed, (outcome.problem, outcome.differences, outcome.hops)
    assert {hop.name for hop in outcome.hops if hop.state == PROVED} == {h.name for h in HOPS}
    assert {section.title for section in outcome.sections} >= {"Fit", "Serve the models"}
    again = record.verified(tmp_path / "gate")
    assert again.images.keys() == outcome.images.keys()
    message = json.loads((tmp_path / "gate" / badge.ENDPOINT).read_text())["message"]
    assert message == "AGC crosses 7 of 7 services"


@pytest.mark.parametrize("title", COMPONENTS)
def test_a_service_that_is_away_closes_the_gate(
    engine: Engine, data_origin: Cluster, tmp_path: Path, title: str
) -> None:
    with without(data_origin, COMPONENTS[title]):
        outcome = gates.run(engine, data_origin, tmp_path / "gate", events=EVENTS)
    assert_closed(outcome, tmp_path / "gate", title)


def assert_closed(outcome: record.Record, folder: Path, title: str) -> None:
    """The badge is red and names the service; its reason and logs are there."""
    assert not outcome.passed
    assert outcome.broken == title, outcome
    message = json.loads((folder / badge.ENDPOINT).read_text())["message"]
    assert message == f"broken: {title}"
    assert any((folder / "logs").iterdir())


def test_an_origin_that_is_away_closes_the_gate(
    engine: Engine, data_origin: Cluster, tmp_path: Path
) -> None:
    origin.scale(data_origin, 0)
    try:
        outcome = gates.run(engine, data_origin, tmp_path / "gate", events=EVENTS)
    finally:
        origin.scale(data_origin, 1)
    assert_closed(outcome, tmp_path / "gate", "XCache")


def test_models_that_are_not_served_close_the_gate(
    engine: Engine, data_origin: Cluster, tmp_path: Path
) -> None:
    """The operator, which serves models, is away."""
    with without(data_origin, "operator"):
        outcome = gates.run(engine, data_origin, tmp_path / "gate", events=EVENTS)
    assert_closed(outcome, tmp_path / "gate", "Triton")


def test_wrong_keys_of_the_object_store_close_the_gate(
    engine: Engine, data_origin: Cluster, tmp_path: Path
) -> None:
    """ServiceX signs with keys that the store does not know."""
    keys = "[default]\naws_access_key_id = servicex\naws_secret_access_key = not-the-key\n"
    metadata = {"name": WRONG_KEYS, "namespace": release.NAMESPACE}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    data_origin.apply({**secret, "stringData": {"aws-credentials": keys}})
    try:
        with with_values(
            data_origin, {"servicex": {"objectStore": {"existingSecret": WRONG_KEYS}}}
        ):
            outcome = gates.run(engine, data_origin, tmp_path / "gate", events=EVENTS)
    finally:
        data_origin.kubectl("-n", release.NAMESPACE, "delete", "secret", WRONG_KEYS)
    assert_closed(outcome, tmp_path / "gate", "object store")


def test_one_bin_that_is_off_closes_the_gate(
    engine: Engine, data_origin: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bin of the facility's histograms has one event more than there is."""
    unchanged = results.analyse_alone

    def analyse_alone(samples: Sequence[analysis.Sample], folder: Path) -> None:
        unchanged(samples, folder)
        path = folder / results.FACILITY / results.HISTOGRAMS[0]
        with uproot.open(path) as file:
            histograms = {key.partition(";")[0]: file[key].to_hist() for key in file}
        changed = next(iter(histograms.values()))
        changed.view(flow=False)[0] += 1
        with uproot.recreate(path) as file:
            for name, histogram in histograms.items():
                file[name] = histogram

    monkeypatch.setattr(results, "analyse_alone", analyse_alone)
    outcome = gates.run(engine, data_origin, tmp_path / "gate", events=EVENTS)
    assert_closed(outcome, tmp_path / "gate", "results")
    assert {text.partition(":")[0] for text in outcome.differences} == {results.HISTOGRAMS[0]}


@pytest.fixture
def token(data_origin: Cluster) -> str:
    """A token of a user, as the hub's page gives it."""
    user = User(data_origin.url, "gate.client")
    user.login(facility.password(data_origin))
    response = user.hub("POST", f"/users/{user.name}/tokens", json={"expires_in": 3600})
    return str(response.json()["token"])


@pytest.fixture
def fileset(data_origin: Cluster) -> dict[str, Any]:
    return analysis.published(data_origin, analysis.synthetic(EVENTS), below="gate/")


def states(outcome: record.Record) -> dict[str, str]:
    return {hop.name: hop.state for hop in outcome.hops}


def test_a_user_tests_a_facility_by_a_token(
    data_origin: Cluster, token: str, fileset: dict[str, Any], tmp_path: Path
) -> None:
    outcome = client.run(data_origin.url, token, fileset, tmp_path / "gate")
    assert outcome.passed, (outcome.problem, outcome.differences, outcome.hops)
    assert states(outcome) == dict.fromkeys(states(outcome), SEEN)
    assert outcome.results["fit in the facility"] != "none"
    assert token not in "".join(
        path.read_text(errors="ignore") for path in tmp_path.rglob("*") if path.is_file()
    )
    with pytest.raises(ShoppeError, match="a badge needs the services' counters"):
        badge.write(tmp_path / "gate")


def test_services_that_a_facility_lacks_are_absent(
    data_origin: Cluster, token: str, fileset: dict[str, Any], tmp_path: Path
) -> None:
    missing = {name: {"enabled": False} for name in ("servicex", "mlflow", "triton")}
    user = User.with_token(data_origin.url, token)
    with with_values(data_origin, {"global": {"services": missing}}):
        try:
            user.stop()
            outcome = client.run(data_origin.url, token, fileset, tmp_path / "gate")
        finally:
            # A server keeps the environment with which it started.
            user.stop()
    assert outcome.passed, (outcome.problem, outcome.differences, outcome.hops)
    assert {name for name, state in states(outcome).items() if state == ABSENT} == set(missing)
    assert {"hub", "dask", "xcache"} <= {n for n, s in states(outcome).items() if s == SEEN}


def test_a_wrong_token_is_refused(data_origin: Cluster) -> None:
    with pytest.raises(ShoppeError, match="refused the token: HTTP status 403"):
        User.with_token(data_origin.url, "0" * 32)
