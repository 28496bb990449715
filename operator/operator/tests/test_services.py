"""What the operator does to a cluster: here one in memory that counts writes."""

import copy
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import botocore.session
import jwt
import pytest
import yaml
from coffea_shoppe_contract.claims import (
    AUDIENCES,
    MAX_TOKEN_LIFETIME_S,
    MLFLOW_ADMIN,
    SERVICEX_REFRESH,
    TOKEN_LIFETIME_S,
)
from coffea_shoppe_contract.files import (
    IDENTITY_FOLDER,
    S3_BUCKET_FILE,
    S3_CONFIG_FILE,
    S3_KEYS_FILE,
    WORKSPACE_FILE,
    token_file,
)
from coffea_shoppe_contract.names import account_names
from coffea_shoppe_contract.resources import USER_LABEL
from coffea_shoppe_identity import RefusedError, VerificationData, Verifier
from coffea_shoppe_operator import composition, services, signing
from coffea_shoppe_operator.adapters.dask import DaskPods, DaskSettings
from coffea_shoppe_operator.adapters.mlflow import MlflowSettings
from coffea_shoppe_operator.adapters.object_store import ObjectStoreSettings
from coffea_shoppe_operator.adapters.servicex import ServiceXQuota
from coffea_shoppe_operator.errors import StorageError
from coffea_shoppe_operator.measurements import Measurements
from coffea_shoppe_operator.models import FacilityUser, FacilityUserSpec, Settings
from coffea_shoppe_operator.s3_files import S3Key, s3_key, user_s3_files, user_s3_key
from coffea_shoppe_operator.service_buckets import ServiceBuckets
from lib import api_schemas

NOW = 3_000_000.0
SETTINGS = Settings(
    issuer="here",
    namespace="shoppe",
    user_namespaces=["shoppe", "shoppe-dask"],
    keys_secret="shoppe-keys",  # noqa: S106  (a name)
    published="shoppe-published",
    labels={"app.kubernetes.io/part-of": "coffea-shoppe"},
    connections={"xcache": "root://shoppe-xcache.shoppe:1094"},
)
STORE = ObjectStoreSettings(
    endpoint="http://store:7070",
    admin_endpoint="http://store:7080",
    region="here",
    services={"mlflow": "shoppe-mlflow-s3"},
    writers=["servicex"],
)


class Memory:
    """A cluster in memory."""

    def __init__(self) -> None:
        self.secrets: dict[tuple[str, str], dict[str, bytes]] = {}
        self.published: dict[str, Any] = {}
        self.policies: dict[tuple[str, str], Any] = {}
        self.pods: set[tuple[str, str]] = set()
        self.writes = 0

    def read_secret(self, namespace: str, name: str) -> dict[str, bytes] | None:
        return copy.deepcopy(self.secrets.get((namespace, name)))

    def write_secret(self, wanted: dict[str, Any]) -> None:
        api_schemas.check([{**wanted, "data": dict.fromkeys(wanted["data"], "base64")}])
        self.writes += 1
        metadata = wanted["metadata"]
        self.secrets[metadata["namespace"], metadata["name"]] = dict(wanted["data"])

    def delete_secret(self, namespace: str, name: str) -> None:
        self.writes += 1
        del self.secrets[namespace, name]

    def read_policy(self, namespace: str, name: str) -> dict[str, Any] | None:
        return copy.deepcopy(self.policies.get((namespace, name)))

    def write_policy(self, wanted: dict[str, Any]) -> None:
        api_schemas.check([wanted])
        self.writes += 1
        metadata = wanted["metadata"]
        self.policies[metadata["namespace"], metadata["name"]] = copy.deepcopy(wanted["spec"])

    def delete_policy(self, namespace: str, name: str) -> None:
        self.writes += 1
        del self.policies[namespace, name]

    def read_published(self, namespace: str, name: str) -> dict[str, Any]:
        return copy.deepcopy(self.published)

    def write_published(
        self, namespace: str, name: str, documents: Mapping[str, Any], labels: Mapping[str, str]
    ) -> None:
        self.writes += 1
        self.published = copy.deepcopy(dict(documents))

    def has_pods(self, namespace: str, labels: Mapping[str, str]) -> bool:
        return (namespace, labels[USER_LABEL]) in self.pods

    def delete_pods(self, namespace: str, labels: Mapping[str, str]) -> None:
        self.writes += 1
        self.pods.remove((namespace, labels[USER_LABEL]))


class Store:
    """An object store in memory."""

    def __init__(self) -> None:
        self.accounts: dict[str, str] = {}
        self.buckets: dict[str, str] = {}
        self.policies: dict[str, str] = {}
        self.sizes: dict[str, tuple[int, int]] = {}
        self.removed: list[str] = []
        self.down = False
        self.writes = 0

    def _look(self) -> None:
        if self.down:
            raise StorageError("the object store: connection refused")

    def has_access(self, account: str, key: str, bucket: str) -> bool:
        self._look()
        let_in = account == self.buckets.get(bucket) or account in self.policies.get(bucket, "")
        return self.accounts.get(account) == key and bucket in self.buckets and let_in

    def ensure(self, account: str, key: str, bucket: str) -> None:
        self._look()
        self.writes += 1
        self.accounts[account] = key
        self.buckets.setdefault(bucket, account)

    def create_account_if_absent(self, account: str, key: str) -> None:
        self._look()
        if account not in self.accounts:
            self.writes += 1
            self.accounts[account] = "nobody's"

    def put_bucket_policy(self, bucket: str, policy: str) -> None:
        self._look()
        self.writes += 1
        self.policies[bucket] = policy

    def size(self, bucket: str, folder: str) -> tuple[int, int]:
        self._look()
        return self.sizes.get(bucket, (0, 0))

    def folder_size(self, bucket: str, folder: str) -> int:
        self._look()
        return self.sizes.get(f"{bucket}/{folder}", (0, 0))[0]

    def remove_account(self, account: str) -> None:
        self._look()
        self.accounts.pop(account, None)

    def remove_bucket(self, bucket: str) -> None:
        self._look()
        self.buckets.pop(bucket, None)

    def remove_folder(self, bucket: str, folder: str) -> None:
        self._look()
        self.removed.append(f"{bucket}/{folder}")


class Tracking:
    """MLflow in memory; it knows who was welcomed by which token."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.removed: list[tuple[str, str, str]] = []
        self.down = False

    def _look(self) -> None:
        if self.down:
            raise StorageError("MLflow: connection refused")

    def create_workspace(self, token: str) -> None:
        self._look()
        self.tokens.append(token)

    def remove(self, user: str, workspace: str, token: str) -> None:
        self._look()
        self.removed.append((user, workspace, token))


class Delivering:
    """ServiceX in memory; it knows what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, float | None, float | None]] = []
        self.removed: list[str] = []
        self.down = False

    def _look(self, token: str) -> None:
        assert jwt.decode(token, options={"verify_signature": False})["aud"] == "servicex-admin"
        if self.down:
            raise StorageError("ServiceX: connection refused")

    def set_quota(self, user: str, quota: ServiceXQuota, token: str) -> None:
        self._look(token)
        self.told.append((user, quota.gigabytes, quota.share))

    def remove(self, user: str, token: str) -> None:
        self._look(token)
        self.removed.append(user)


class Well:
    """Services that are well, or not."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}

    def problem(self, url: str) -> str:
        return self.problems.get(url, "")


def facility_of(
    settings: Settings,
    cluster: Memory,
    store: Store | None = None,
    mlflow: Tracking | None = None,
    *,
    servicex: Delivering | None = None,
    health: Well | None = None,
) -> services.Facility:
    """Return a facility with these services."""
    clients = composition.Clients(store, mlflow, servicex, health or Well())  # type: ignore[arg-type]
    adapters = composition.adapters(settings, cluster, clients)  # type: ignore[arg-type]
    artifact_bucket = settings.mlflow.bucket if settings.mlflow else ""
    measurements = Measurements(store, artifact_bucket=artifact_bucket) if store else None
    return services.Facility(settings, cluster, adapters, measurements)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def facility_with_store(cluster: Memory, store: Store) -> services.Facility:
    """A facility with an object store."""
    return facility_of(SETTINGS.model_copy(update={"object_store": STORE}), cluster, store)


@pytest.fixture
def mlflow() -> Tracking:
    return Tracking()


@pytest.fixture
def tracking(cluster: Memory, store: Store, mlflow: Tracking) -> services.Facility:
    """A facility with an object store and MLflow."""
    where = MlflowSettings(endpoint="http://mlflow:5000", bucket="service-mlflow")
    settings = SETTINGS.model_copy(update={"object_store": STORE, "mlflow": where})
    return facility_of(settings, cluster, store, mlflow)


@pytest.fixture
def cluster() -> Memory:
    return Memory()


@pytest.fixture
def facility(cluster: Memory) -> services.Facility:
    return services.Facility(SETTINGS, cluster)


def ann(**changes: Any) -> FacilityUser:
    spec = FacilityUserSpec(username="ann", groups=["cms"])
    return FacilityUser(name="ann", uid="u1", spec=spec).model_copy(update=changes)


def verify(cluster: Memory, token: bytes, now: float, audience: str = "servicex") -> Any:
    verifier = Verifier(
        lambda: VerificationData.parse(*signing.published_keys(cluster.published)),
        issuer="here",
        audience=audience,
        clock=lambda: now,
    )
    assert verifier.refresh()
    return verifier.verify(token.decode())


HELD = ("shoppe", "shoppe-user-ann")
DAY = 24 * 3600


def test_a_user_gets_tokens_that_services_accept(
    facility: services.Facility, cluster: Memory
) -> None:
    status = facility.reconcile(ann(), NOW)
    assert status.secret_name == HELD[1]
    assert status.valid_until == NOW + TOKEN_LIFETIME_S
    assert [(c.type, c.status) for c in status.conditions] == [("Ready", "True")]
    files = cluster.secrets[HELD]
    assert files == cluster.secrets["shoppe-dask", "shoppe-user-ann"]
    for audience in AUDIENCES:
        who = verify(cluster, files[token_file(audience)], NOW + 60, audience)
        assert (who.user, who.uid, who.groups) == ("ann", "u1", ("cms",))
    # Each service accepts its own alone.
    with pytest.raises(RefusedError, match="not for 'servicex'"):
        verify(cluster, files["token-mlflow"], NOW + 60)


def test_a_second_look_writes_nothing(facility: services.Facility, cluster: Memory) -> None:
    first = facility.reconcile(ann(), NOW)
    writes = cluster.writes
    assert facility.reconcile(ann(status=first), NOW + 30) == first
    assert cluster.writes == writes


@pytest.mark.parametrize("where", HELD[:1] + ("shoppe-dask",))
@pytest.mark.parametrize("harm", ["delete", "edit", "empty"])
def test_a_secret_that_was_harmed_is_mended(
    facility: services.Facility, cluster: Memory, harm: str, where: str
) -> None:
    facility.reconcile(ann(), NOW)
    key = (where, "shoppe-user-ann")
    if harm == "delete":
        del cluster.secrets[key]
    elif harm == "edit":
        cluster.secrets[key]["token-servicex"] = b"rubbish"
    else:
        cluster.secrets[key].clear()
    facility.reconcile(ann(), NOW + 30)
    assert cluster.secrets[HELD] == cluster.secrets["shoppe-dask", "shoppe-user-ann"]
    assert verify(cluster, cluster.secrets[key]["token-servicex"], NOW + 31).user == "ann"


def test_tokens_are_renewed_at_half_their_life_while_a_pod_lives(
    facility: services.Facility, cluster: Memory
) -> None:
    facility.reconcile(ann(), NOW)
    before = cluster.secrets[HELD]
    half = NOW + TOKEN_LIFETIME_S / 2
    assert facility.reconcile(ann(), half + 30).valid_until == NOW + TOKEN_LIFETIME_S
    assert cluster.secrets[HELD] == before, "nobody needs them"
    cluster.pods.add(("shoppe-dask", "ann"))
    facility.reconcile(ann(), half - 30)
    assert cluster.secrets[HELD] == before, "they are young"
    renewed = facility.reconcile(ann(), half + 30)
    assert renewed.valid_until == int(half + 30) + TOKEN_LIFETIME_S
    assert verify(cluster, cluster.secrets[HELD]["token-s3"], half + 31, "s3").user == "ann"


def test_who_asks_gets_fresh_tokens_before_the_pod_is_there(
    facility: services.Facility, cluster: Memory
) -> None:
    facility.reconcile(ann(), NOW)
    days_later = NOW + 3 * 86400
    assert facility.reconcile(ann(), days_later).valid_until < days_later
    asked = ann(tokens_requested_at=days_later - 1)
    assert facility.reconcile(asked, days_later).valid_until > days_later + 800


def test_changed_groups_are_in_the_tokens_at_once(
    facility: services.Facility, cluster: Memory
) -> None:
    facility.reconcile(ann(), NOW)
    spec = FacilityUserSpec(username="ann", groups=["atlas"])
    facility.reconcile(ann(spec=spec), NOW + 10)
    assert verify(cluster, cluster.secrets[HELD]["token-servicex"], NOW + 11).groups == ("atlas",)


def test_a_disabled_user_loses_everything_once(
    facility: services.Facility, cluster: Memory
) -> None:
    facility.reconcile(ann(), NOW)
    held = cluster.secrets[HELD]["token-servicex"]
    cluster.pods |= {("shoppe", "ann"), ("shoppe-dask", "ann"), ("shoppe", "bob")}
    disabled = FacilityUserSpec(username="ann", disabled=True)
    status = facility.reconcile(ann(spec=disabled), NOW + 60)
    assert [(c.status, c.reason) for c in status.conditions] == [("False", "Disabled")]
    assert HELD not in cluster.secrets
    assert cluster.pods == {("shoppe", "bob")}
    with pytest.raises(RefusedError, match="revoked"):
        verify(cluster, held, NOW + 70)
    writes = cluster.writes
    facility.reconcile(ann(spec=disabled, status=status), NOW + 90)
    assert cluster.writes == writes
    # Enabled again, the old token stays void and the new one is good.
    facility.reconcile(ann(status=status), NOW + 120)
    with pytest.raises(RefusedError, match="revoked"):
        verify(cluster, held, NOW + 130)
    assert verify(cluster, cluster.secrets[HELD]["token-servicex"], NOW + 130).user == "ann"


def test_a_deleted_user_who_comes_back_is_another_one(
    facility: services.Facility, cluster: Memory
) -> None:
    facility.reconcile(ann(), NOW)
    held = cluster.secrets[HELD]["token-servicex"]
    facility.revoke(ann(), NOW + 60)
    facility.revoke(ann(), NOW + 61)  # the handler may be run again
    facility.reconcile(ann(uid="u2"), NOW + 60)
    with pytest.raises(RefusedError, match="revoked"):
        verify(cluster, held, NOW + 70)
    assert verify(cluster, cluster.secrets[HELD]["token-servicex"], NOW + 70).uid == "u2"


def test_revocations_are_dropped_when_no_token_can_be_alive(
    facility: services.Facility, cluster: Memory
) -> None:
    facility.reconcile(ann(), NOW)
    facility.revoke(ann(), NOW)
    facility.keys(NOW + MAX_TOKEN_LIFETIME_S)
    assert cluster.published["revocations.json"]["revoked"] == {"u1": NOW}
    facility.keys(NOW + MAX_TOKEN_LIFETIME_S + 60)
    assert cluster.published["revocations.json"]["revoked"] == {}


def test_a_resource_of_a_wrong_name_gets_nothing(
    facility: services.Facility, cluster: Memory
) -> None:
    status = facility.reconcile(ann(name="bob"), NOW)
    assert [(c.reason, c.status) for c in status.conditions] == [("WrongName", "False")]
    assert "must be named 'ann'" in status.conditions[0].message
    assert not cluster.secrets


def test_secret_keys_never_leave_their_secret(facility: services.Facility, cluster: Memory) -> None:
    facility.reconcile(ann(), NOW)
    assert all(
        set(key) <= {"kty", "crv", "x", "y", "kid", "use", "alg"}
        for key in cluster.published["keys.json"]["keys"]
    )
    assert all(b"PRIVATE" not in text for text in cluster.secrets[HELD].values())
    said = jwt.decode(cluster.secrets[HELD]["token-api"], options={"verify_signature": False})
    assert set(said) == {"iss", "aud", "sub", "uid", "groups", "iat", "exp"}


@pytest.fixture
def separated_facility(cluster: Memory) -> services.Facility:
    """A facility in which users' Dask pods cannot reach one another."""
    pods = DaskPods(namespace="shoppe-dask", labels={"app": "dask"})
    settings = SETTINGS.model_copy(update={"dask": DaskSettings(pods=pods)})
    return facility_of(settings, cluster)


OWN = ("shoppe-dask", "shoppe-user-ann")


def test_a_user_s_dask_pods_reach_one_another(
    separated_facility: services.Facility, cluster: Memory
) -> None:
    first = separated_facility.reconcile(ann(), NOW)
    own = {"podSelector": {"matchLabels": {"app": "dask", USER_LABEL: "ann"}}}
    wanted = {**own, "policyTypes": ["Ingress"], "ingress": [{"from": [own]}]}
    assert cluster.policies == {OWN: wanted}
    writes = cluster.writes
    separated_facility.reconcile(ann(status=first), NOW + 30)
    assert cluster.writes == writes, "a second look writes nothing"
    # By hand: opened to everybody, or removed.
    cluster.policies[OWN]["ingress"] = [{}]
    separated_facility.reconcile(ann(status=first), NOW + 60)
    assert cluster.policies == {OWN: wanted}
    del cluster.policies[OWN]
    separated_facility.reconcile(ann(status=first), NOW + 90)
    assert cluster.policies == {OWN: wanted}


def test_the_policy_goes_with_its_user(
    separated_facility: services.Facility, cluster: Memory
) -> None:
    separated_facility.reconcile(ann(), NOW)
    bob = FacilityUser(name="bob", uid="u2", spec=FacilityUserSpec(username="bob"))
    separated_facility.reconcile(bob, NOW)
    separated_facility.remove(ann(), NOW + 60)
    assert set(cluster.policies) == {("shoppe-dask", "shoppe-user-bob")}
    separated_facility.remove(ann(), NOW + 61)  # tried again: nothing is left to remove
    bob.spec.disabled = True
    separated_facility.reconcile(bob, NOW + 120)
    assert cluster.policies == {}


BUCKET, SECOND = account_names("ann")


def held_key(cluster: Memory) -> S3Key:
    """Return the key to the store that the user's Secret holds."""
    found = user_s3_key(cluster.secrets[HELD])
    assert found
    return found


def test_a_user_gets_a_bucket_and_the_files_that_lead_there(
    facility_with_store: services.Facility, cluster: Memory, store: Store
) -> None:
    status = facility_with_store.reconcile(ann(), NOW)
    kinds = [(c.type, c.status, c.reason) for c in status.conditions]
    assert kinds == [("Ready", "True", "Ready"), ("ObjectStore", "True", "Ready")]
    files = cluster.secrets[HELD]
    assert store.buckets == {BUCKET: BUCKET}
    key = held_key(cluster)
    assert key.account == BUCKET
    assert store.accounts == {BUCKET: key.secret, SECOND: "nobody's"}
    assert len(key.secret) >= 40
    assert files[S3_BUCKET_FILE] == BUCKET.encode()
    assert b"endpoint_url = http://store:7070" in files[S3_CONFIG_FILE]
    writes = (cluster.writes, store.writes)
    assert facility_with_store.reconcile(ann(status=status), NOW + 30) == status
    assert (cluster.writes, store.writes) == writes, "a second look writes nothing"


def test_services_write_to_a_folder_of_a_user_s_bucket_and_no_other(
    facility_with_store: services.Facility, store: Store
) -> None:
    first = facility_with_store.reconcile(ann(), NOW)
    told = next(c for c in first.conditions if c.type == "ObjectStore")
    assert "servicex may write to it" in told.message
    statements = json.loads(store.policies["user-ann"])["Statement"]
    of: dict[str, list[tuple[list[str], list[str]]]] = {
        account: [] for one in statements for account in one["Principal"]["AWS"]
    }
    for one in statements:
        for account in one["Principal"]["AWS"]:
            of[account].append((one["Action"], one["Resource"]))
    everything = ["arn:aws:s3:::user-ann", "arn:aws:s3:::user-ann/*"]
    assert of[BUCKET] == of[SECOND] == [(["s3:*"], everything)], "the owner's rights stay"
    objects, listing = of["service-servicex"]
    assert objects[1] == ["arn:aws:s3:::user-ann/servicex/*"]
    assert listing == (["s3:ListBucket"], ["arn:aws:s3:::user-ann"])
    # One of the user's own does not last, and a second look writes nothing.
    store.policies["user-ann"] = "public"
    writes = store.writes
    facility_with_store.reconcile(ann(status=first), NOW + 30)
    assert store.writes == writes
    facility_with_store.reconcile(ann(status=first, tokens_requested_at=NOW + 800), NOW + 800)
    assert store.policies["user-ann"] != "public"


def test_the_stock_servicex_client_finds_its_token_beside_the_others(cluster: Memory) -> None:
    connections = {"servicex": "http://shoppe-servicex.shoppe:5000/"}
    facility = services.Facility(SETTINGS.model_copy(update={"connections": connections}), cluster)
    facility.reconcile(ann(), NOW)
    files = cluster.secrets[HELD]
    (endpoint,) = yaml.safe_load(files["servicex.yaml"])["api_endpoints"]
    assert endpoint["endpoint"] == "http://shoppe-servicex.shoppe:5000", "paths are appended"
    token = endpoint["token"].encode()
    assert token == files["token-servicex-refresh"]
    day = NOW + MAX_TOKEN_LIFETIME_S - 60
    facility.keys(day)
    assert verify(cluster, token, day, SERVICEX_REFRESH).user == "ann"
    with pytest.raises(RefusedError, match="not for 'servicex'"):
        verify(cluster, token, NOW + 60, "servicex")
    writes = cluster.writes
    facility.reconcile(ann(), NOW + 30)
    assert cluster.writes == writes
    facility.reconcile(ann(tokens_requested_at=NOW + 800), NOW + 800)
    renewed = yaml.safe_load(cluster.secrets[HELD]["servicex.yaml"])["api_endpoints"][0]["token"]
    assert renewed.encode() == cluster.secrets[HELD]["token-servicex-refresh"] != token


def test_who_was_away_for_a_week_gets_tokens_again(
    facility: services.Facility, cluster: Memory
) -> None:
    status = facility.reconcile(ann(), NOW)
    before, later = cluster.secrets[HELD], NOW + 7 * DAY
    for now in range(int(NOW), int(later), 3600):
        status = facility.reconcile(ann(status=status), now)
    assert cluster.secrets[HELD] == before, "nobody needed others"
    facility.reconcile(ann(status=status, tokens_requested_at=later), later)
    assert verify(cluster, cluster.secrets[HELD]["token-api"], later, "api").user == "ann"


def test_the_bucket_s_key_outlives_the_tokens(
    facility_with_store: services.Facility, cluster: Memory, store: Store
) -> None:
    facility_with_store.reconcile(ann(tokens_requested_at=NOW), NOW)
    before = cluster.secrets[HELD]
    later = NOW + TOKEN_LIFETIME_S
    facility_with_store.reconcile(ann(tokens_requested_at=later), later)
    after = cluster.secrets[HELD]
    assert after["token-s3"] != before["token-s3"]
    assert after[S3_KEYS_FILE] == before[S3_KEYS_FILE]
    assert held_key(cluster).secret == store.accounts[BUCKET]


ASK_AGAIN_S = 900
"""So long before a key expires botocore asks for the next."""


class Client:
    """A client of S3 that asks for keys as botocore does."""

    def __init__(self, cluster: Memory, store: Store) -> None:
        self.cluster, self.store = cluster, store
        self.key = held_key(cluster)

    def ask(self, now: float) -> None:
        """Make a request: it must not fail."""
        if now > self.key.expires - ASK_AGAIN_S:
            self.key = held_key(self.cluster)
        assert self.store.has_access(self.key.account, self.key.secret, BUCKET), now


def test_keys_take_turns_and_no_client_notices(
    facility_with_store: services.Facility, cluster: Memory, store: Store
) -> None:
    status, clients, keys = facility_with_store.reconcile(ann(), NOW), [], []
    for now in range(int(NOW), int(NOW) + 4 * DAY, 600):
        status = facility_with_store.reconcile(ann(status=status), now)
        assert all(condition.status == "True" for condition in status.conditions)
        clients.append(Client(cluster, store))
        for client in clients:
            client.ask(now)
        if held_key(cluster) not in keys:
            keys.append(held_key(cluster))
        for old in keys[:-2]:
            assert not store.has_access(old.account, old.secret, BUCKET), "its time is over"
    assert [key.account for key in keys] == [BUCKET, SECOND] * 4
    assert len({key.secret for key in keys}) == len(keys)
    assert set(store.accounts) == {BUCKET, SECOND}


@pytest.mark.parametrize(("first", "then"), [(DAY, 600), (7200, DAY)])
def test_another_lifetime_cuts_no_key_short(
    cluster: Memory, store: Store, first: int, then: int
) -> None:
    def facility(lifetime: int) -> services.Facility:
        where = STORE.model_copy(update={"key_lifetime": lifetime})
        return facility_of(SETTINGS.model_copy(update={"object_store": where}), cluster, store)

    now, clients = NOW, []
    for lifetime, until in ((first, NOW + 1.6 * first), (then, NOW + 1.6 * first + 1.5 * DAY)):
        while now < until:
            facility(lifetime).reconcile(ann(), now)
            clients.append(Client(cluster, store))
            for client in clients[-1:] + clients[-DAY // 200 :: 7]:
                client.ask(now)
            now += 200
    assert held_key(cluster).expires - now <= then


def test_a_key_that_cannot_be_made_is_made_later(
    facility_with_store: services.Facility, cluster: Memory, store: Store
) -> None:
    facility_with_store.reconcile(ann(), NOW)
    first, due = held_key(cluster), NOW + DAY / 2 + 1
    store.down = True
    status = facility_with_store.reconcile(ann(), due)
    assert [c.status for c in status.conditions] == ["True", "False"]
    assert held_key(cluster) == first
    store.down = False
    facility_with_store.reconcile(ann(status=status), due + 30)
    assert held_key(cluster).account == SECOND
    assert store.has_access(first.account, first.secret, BUCKET), "who has it keeps it for a while"


def test_a_key_of_an_earlier_release_is_good_while_it_is_used(
    facility_with_store: services.Facility, cluster: Memory, store: Store
) -> None:
    facility_with_store.reconcile(ann(), NOW)
    old = {"aws-credentials": f"[default]\naws_access_key_id = {BUCKET}\n".encode()}
    old["aws-credentials"] += b"aws_secret_access_key = old"
    files = cluster.secrets[HELD]
    cluster.secrets[HELD] = {k: v for k, v in files.items() if k != S3_KEYS_FILE} | old
    store.accounts = {BUCKET: "old"}
    store.policies = {BUCKET: f'"{BUCKET}"'}
    facility_with_store.reconcile(ann(), NOW + 30)
    assert "aws-credentials" not in cluster.secrets[HELD]
    assert held_key(cluster).account == SECOND
    assert store.has_access(SECOND, held_key(cluster).secret, BUCKET)
    assert store.has_access(BUCKET, "old", BUCKET)


def test_the_stock_client_asks_for_the_next_key_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def put(account: str, expires: float) -> None:
        for name, text in user_s3_files(BUCKET, S3Key(account, "secret", expires), STORE).items():
            moved = text.decode().replace(IDENTITY_FOLDER, str(tmp_path))
            (tmp_path / name).write_text(moved)

    put(BUCKET, time.time() + 300)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / S3_CONFIG_FILE))
    session = botocore.session.get_session()
    assert session.create_client("s3").meta.endpoint_url == STORE.endpoint
    credentials = session.get_credentials()
    assert credentials.get_frozen_credentials().access_key == BUCKET
    put(SECOND, time.time() + DAY)
    assert credentials.get_frozen_credentials().access_key == SECOND
    put(BUCKET, time.time() + DAY)
    assert credentials.get_frozen_credentials().access_key == SECOND, "it is not asked each time"


def test_boto3_presigns_as_the_store_accepts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = S3Key(BUCKET, "secret", time.time() + DAY)
    for name, text in user_s3_files(BUCKET, key, STORE).items():
        moved = text.decode().replace(IDENTITY_FOLDER, str(tmp_path))
        (tmp_path / name).write_text(moved)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / S3_CONFIG_FILE))
    client = botocore.session.get_session().create_client("s3")
    url = client.generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "a/b"})
    assert url.startswith(f"{STORE.endpoint}/{BUCKET}/a/b?X-Amz-Algorithm=AWS4-HMAC-SHA256&")


@pytest.mark.parametrize("harm", ["account", "bucket", "secret", "credentials"])
def test_whatever_is_lost_comes_back(
    facility_with_store: services.Facility, cluster: Memory, store: Store, harm: str
) -> None:
    facility_with_store.reconcile(ann(), NOW)
    if harm == "account":
        store.accounts.clear()
    elif harm == "bucket":
        store.buckets.clear()
    elif harm == "secret":
        del cluster.secrets[HELD]
    else:
        cluster.secrets[HELD][S3_KEYS_FILE] = b"no keys"
    facility_with_store.reconcile(ann(), NOW + 30)
    key = held_key(cluster)
    assert key.account == BUCKET
    assert store.accounts == {BUCKET: key.secret, SECOND: "nobody's"}
    assert store.buckets == {BUCKET: BUCKET}


def test_a_store_that_is_down_keeps_nobody_out_and_is_reported(
    facility_with_store: services.Facility, cluster: Memory, store: Store
) -> None:
    store.down = True
    status = facility_with_store.reconcile(ann(), NOW)
    assert [(c.type, c.status) for c in status.conditions] == [
        ("Ready", "True"),
        ("ObjectStore", "False"),
    ]
    assert "connection refused" in status.conditions[1].message
    store.down = False
    again = facility_with_store.reconcile(ann(status=status), NOW + 3600)
    assert [c.status for c in again.conditions] == ["True", "True"]
    assert store.has_access(BUCKET, held_key(cluster).secret, BUCKET)


@pytest.mark.parametrize(("data", "left"), [("keep", {BUCKET: BUCKET}), ("remove", {})])
def test_a_deleted_user_s_data_stay_or_go_as_the_resource_says(
    facility_with_store: services.Facility, store: Store, data: str, left: dict[str, str]
) -> None:
    user = ann(spec=FacilityUserSpec.model_validate({"username": "ann", "data": data}))
    facility_with_store.reconcile(user, NOW)
    store.down = True
    with pytest.raises(StorageError):
        facility_with_store.remove(user, NOW + 1)
    store.down = False
    facility_with_store.remove(user, NOW + 6)
    assert store.accounts == {}
    assert store.buckets == left


def test_a_disabled_user_has_no_account_and_gets_another_key_when_enabled(
    facility_with_store: services.Facility, cluster: Memory, store: Store
) -> None:
    facility_with_store.reconcile(ann(), NOW)
    before = store.accounts[BUCKET]
    disabled = FacilityUserSpec(username="ann", disabled=True)
    facility_with_store.reconcile(ann(spec=disabled), NOW + 1)
    assert store.accounts == {}
    assert store.buckets == {BUCKET: BUCKET}
    facility_with_store.reconcile(ann(), NOW + 2)
    assert store.accounts[BUCKET] != before


def test_a_service_gets_a_bucket_and_a_secret_with_its_keys(cluster: Memory, store: Store) -> None:
    buckets = ServiceBuckets(SETTINGS, STORE, cluster, store)
    buckets.reconcile()
    files = cluster.secrets["shoppe", "shoppe-mlflow-s3"]
    assert store.buckets == {"service-mlflow": "service-mlflow"}
    assert store.accounts == {"service-mlflow": s3_key(files)}
    writes = (cluster.writes, store.writes)
    buckets.reconcile()
    assert (cluster.writes, store.writes) == writes, "a second look writes nothing"
    store.accounts.clear()
    buckets.reconcile()
    assert store.accounts == {"service-mlflow": s3_key(files)}, "the key is still the same"


def test_a_user_is_welcomed_by_mlflow_with_each_fresh_token(
    tracking: services.Facility, cluster: Memory, mlflow: Tracking
) -> None:
    status = tracking.reconcile(ann(tokens_requested_at=NOW), NOW)
    assert [(c.type, c.status) for c in status.conditions][2:] == [("MLflow", "True")]
    files = cluster.secrets[HELD]
    assert files[WORKSPACE_FILE] == b"user-ann"
    (token,) = mlflow.tokens
    assert verify(cluster, token.encode(), NOW, "mlflow").user == "ann"
    tracking.reconcile(ann(tokens_requested_at=NOW, status=status), NOW + 30)
    assert len(mlflow.tokens) == 1, "many users would keep it busy"
    later = NOW + TOKEN_LIFETIME_S
    tracking.reconcile(ann(tokens_requested_at=later, status=status), later)
    assert len(mlflow.tokens) == 2


def test_mlflow_that_is_down_keeps_nobody_out_and_is_asked_again(
    tracking: services.Facility, cluster: Memory, mlflow: Tracking
) -> None:
    mlflow.down = True
    status = tracking.reconcile(ann(), NOW)
    assert [(c.type, c.status) for c in status.conditions] == [
        ("Ready", "True"),
        ("ObjectStore", "True"),
        ("MLflow", "False"),
    ]
    mlflow.down = False
    # It was away for longer than the token lives of a user who is away, too.
    later = NOW + 3600
    again = tracking.reconcile(ann(status=status), later)
    assert [c.status for c in again.conditions] == ["True"] * 3
    assert verify(cluster, mlflow.tokens[-1].encode(), later, "mlflow").user == "ann"


@pytest.mark.parametrize("data", ["keep", "remove"])
def test_a_deleted_user_s_workspace_stays_or_goes_as_the_resource_says(
    tracking: services.Facility, cluster: Memory, store: Store, mlflow: Tracking, data: str
) -> None:
    user = ann(spec=FacilityUserSpec.model_validate({"username": "ann", "data": data}))
    tracking.reconcile(user, NOW)
    tracking.remove(user, NOW + 6)
    assert store.removed == (["service-mlflow/workspaces/user-ann"] if data == "remove" else [])
    assert [one[:2] for one in mlflow.removed] == ([("ann", "user-ann")] if store.removed else [])
    for _, _, token in mlflow.removed:
        # It is the operator's own, and no user's.
        admin = verify(cluster, token.encode(), NOW + 7, MLFLOW_ADMIN)
        assert admin.user == "operator"
        assert MLFLOW_ADMIN not in AUDIENCES


def test_services_that_are_down_for_an_hour_cost_nobody_the_tokens(
    tracking: services.Facility, cluster: Memory, store: Store, mlflow: Tracking
) -> None:
    cluster.pods.add(("shoppe", "ann"))
    status = tracking.reconcile(ann(), NOW)
    store.down = mlflow.down = True
    hour = range(int(NOW), int(NOW) + 3600, 30)
    for now in hour:
        status = tracking.reconcile(ann(status=status), now)
        assert verify(cluster, cluster.secrets[HELD]["token-servicex"], now).user == "ann"
        assert [c.status for c in status.conditions if c.type == "Ready"] == ["True"]
    assert {c.type: c.reason for c in status.conditions if c.status == "False"} == {
        "ObjectStore": "Unavailable",
        "MLflow": "Unavailable",
    }
    store.down = mlflow.down = False
    back = hour[-1] + 30
    status = tracking.reconcile(ann(status=status), back)
    assert {c.status for c in status.conditions} == {"True"}
    writes = cluster.writes, store.writes, len(mlflow.tokens)
    assert tracking.reconcile(ann(status=status), back) == status
    assert (cluster.writes, store.writes, len(mlflow.tokens)) == writes
