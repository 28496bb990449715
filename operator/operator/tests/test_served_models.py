"""What becomes of a wish to serve a model, with MLflow and Triton in memory."""

from collections.abc import Mapping
from typing import Any

import pytest
from coffea_shoppe_contract import identity
from coffea_shoppe_operator import builders, services
from coffea_shoppe_operator.errors import ModelError, StorageError
from coffea_shoppe_operator.mlflow import Booster, Reader, Version, features, signature
from coffea_shoppe_operator.models import (
    ServedModel,
    ServedModelSpec,
    ServedModelStatus,
    TritonSettings,
)
from coffea_shoppe_operator.serving import Serving
from test_services import NOW, SETTINGS, Memory, verify

NAME = "ann.bdt"


class World:
    """MLflow, Triton with its repository, and the users, in memory."""

    def __init__(self, cluster: Memory) -> None:
        self.cluster = cluster
        self.users = {"ann": {"username": "ann"}}
        self.alias, self.boosters = "1", {"1": b"first", "2": b"second"}
        self.files: dict[str, bytes] = {}
        self.served: dict[str, str] = {}
        self.down: set[str] = set()
        self.broken: set[bytes] = set()
        self.loads = 0

    def _look(self, what: str) -> None:
        if what in self.down:
            raise StorageError(f"{what}: connection refused")

    def _admin(self, token: str) -> None:
        assert verify(self.cluster, token.encode(), NOW, identity.TRITON_ADMIN).user == "operator"

    def read_user(self, namespace: str, name: str) -> dict[str, Any] | None:
        spec = self.users.get(name)
        return {"metadata": {"name": name, "uid": "u1"}, "spec": spec} if spec else None

    def resolve(self, uri: str, who: Reader) -> Version:
        self._look("MLflow")
        assert verify(self.cluster, who.token.encode(), NOW, "mlflow").user == "ann"
        assert who.workspace == "user-ann"
        number = self.alias if uri.endswith("@prod") else uri.rpartition("/")[2]
        if number not in self.boosters:
            raise ModelError("NotFound", f"MLflow: no version {number}")
        return Version(uri.removeprefix("models:/").split("@")[0].split("/")[0], number, "run")

    def fetch(self, version: Version, who: Reader, *, megabytes: int) -> Booster:
        self._look("MLflow")
        return Booster(self.boosters[version.number], "model.ubj", 20, "{}", "ttbar:d1", "c0de")

    def put(self, bucket: str, files: Mapping[str, bytes]) -> None:
        self._look("the object store")
        assert bucket == "service-triton"
        self.files.update(files)

    def remove_folder(self, bucket: str, folder: str) -> None:
        self._look("the object store")
        self.files = {k: v for k, v in self.files.items() if not k.startswith(f"{folder}/")}

    def _configured(self) -> str:
        config = self.files[f"{NAME}/config.pbtxt"].decode()
        return config.partition("versions: [")[2].partition("]")[0]

    def ready(self, model: str, version: str, token: str) -> bool:
        self._look("Triton")
        self._admin(token)
        return self.served.get(model) == version

    def load(self, model: str, token: str) -> None:
        self._look("Triton")
        self._admin(token)
        self.loads += 1
        version = self._configured()
        assert f"{model}/{version}/model.py" in self.files
        if self.files[f"{model}/{version}/model.ubj"] in self.broken:
            # Triton keeps what it had, if its files are still configured.
            raise ModelError("LoadFailed", "Triton: not a model")
        self.served[model] = version

    def probe(self, model: str, version: str, features: int, token: str) -> None:
        self._look("Triton")
        assert (self.served[model], features) == (version, 20)

    def unload(self, model: str, token: str) -> None:
        self._look("Triton")
        self._admin(token)
        self.served.pop(model, None)


@pytest.fixture
def world() -> World:
    return World(Memory())


@pytest.fixture
def serving(world: World) -> Serving:
    facility = services.Facility(SETTINGS, world.cluster)
    facility.keys(NOW)
    triton = TritonSettings(endpoint="http://triton:8000", bucket="service-triton")
    return Serving(
        SETTINGS,
        triton,
        keys=facility.keys,
        users=world,
        registry=world,
        repository=world,
        server=world,
    )


def wish(
    model: str = "models:/bdt@prod", status: ServedModelStatus | None = None, name: str = NAME
) -> ServedModel:
    spec = ServedModelSpec(username="ann", name="bdt", model=model)
    return ServedModel(name=name, spec=spec, status=status or ServedModelStatus())


def told(status: ServedModelStatus) -> tuple[str, str]:
    (condition,) = status.conditions
    return condition.status, condition.reason


def test_a_model_is_served_and_a_second_look_does_nothing(serving: Serving, world: World) -> None:
    status = serving.reconcile(wish(), NOW)
    assert told(status) == ("True", "Served")
    assert (status.model, status.registered, status.version) == (NAME, "bdt", "1")
    assert status.url == f"http://triton:8000/v2/models/{NAME}"
    config = world.files[f"{NAME}/config.pbtxt"].decode()
    for key, value in (("training", "ttbar:d1"), ("code", "c0de"), ("run_id", "run")):
        assert f'"mlflow.v1.{key}" value {{string_value: "{value}"}}' in config
    assert world.served == {NAME: "1"}
    assert world.files[f"{NAME}/1/model.ubj"] == b"first"
    assert f'mlflow.v1.sha256" value {{string_value: "{status.sha256}"}}' in (
        world.files[f"{NAME}/config.pbtxt"].decode()
    )
    assert serving.reconcile(wish(status=status), NOW) == status
    assert world.loads == 1


def test_an_alias_that_moves_is_followed_and_back(serving: Serving, world: World) -> None:
    first = serving.reconcile(wish(), NOW)
    world.alias = "2"
    second = serving.reconcile(wish(status=first), NOW)
    assert (second.version, world.served) == ("2", {NAME: "2"})
    assert not [path for path in world.files if path.startswith(f"{NAME}/1/")]
    world.alias = "1"
    again = serving.reconcile(wish(status=second), NOW)
    assert (again, world.served) == (first, {NAME: "1"})


def test_a_broken_version_is_told_and_the_one_before_is_still_served(
    serving: Serving, world: World
) -> None:
    first = serving.reconcile(wish(), NOW)
    world.broken.add(b"second")
    world.alias = "2"
    second = serving.reconcile(wish(status=first), NOW)
    assert told(second) == ("False", "LoadFailed")
    assert "version 1 is still served" in second.conditions[0].message
    assert (second.version, world.served) == ("1", {NAME: "1"})
    assert not [path for path in world.files if path.startswith(f"{NAME}/2/")]
    # Mended in MLflow, it is served.
    world.broken.clear()
    assert told(serving.reconcile(wish(status=second), NOW)) == ("True", "Served")


def test_another_model_of_the_same_run_and_version_is_another_model(
    serving: Serving, world: World
) -> None:
    first = serving.reconcile(wish(), NOW)
    world.boosters["1"] = b"other"
    second = serving.reconcile(wish("models:/other/1", status=first), NOW)
    assert (second.registered, world.files[f"{NAME}/1/model.ubj"]) == ("other", b"other")
    assert second.sha256 != first.sha256


def test_a_served_version_that_cannot_be_loaded_again_is_not_said_to_be_served(
    serving: Serving, world: World
) -> None:
    status = serving.reconcile(wish(), NOW)
    world.served.clear()
    world.broken.add(b"first")
    again = serving.reconcile(wish(status=status), NOW)
    assert (told(again), again.version) == (("False", "LoadFailed"), "")
    assert "still served" not in again.conditions[0].message


def test_a_broken_first_version_leaves_nothing_behind(serving: Serving, world: World) -> None:
    world.broken.add(b"first")
    status = serving.reconcile(wish(), NOW)
    assert told(status) == ("False", "LoadFailed")
    assert (status.version, world.served, world.files) == ("", {}, {})


@pytest.mark.parametrize(
    ("model", "reason"), [("models:/bdt/9", "NotFound"), ("models:/bdt/1", "Served")]
)
def test_a_version_that_is_not_there_is_told(serving: Serving, model: str, reason: str) -> None:
    assert told(serving.reconcile(wish(model), NOW))[1] == reason


@pytest.mark.parametrize("away", ["MLflow", "Triton", "the object store"])
def test_what_is_away_is_waited_for(serving: Serving, world: World, away: str) -> None:
    world.down.add(away)
    assert told(serving.reconcile(wish(), NOW)) == ("False", "Unavailable")
    world.down.clear()
    status = serving.reconcile(wish(), NOW)
    assert told(status) == ("True", "Served")
    world.down.add(away)
    world.served.clear()  # as after a restart of Triton with an empty store
    again = serving.reconcile(wish(status=status), NOW)
    assert told(again) == ("False", "Unavailable")
    world.down.clear()
    assert serving.reconcile(wish(status=again), NOW) == status
    assert world.served == {NAME: "1"}


def test_a_user_who_is_gone_has_nothing_served(serving: Serving, world: World) -> None:
    status = serving.reconcile(wish(), NOW)
    world.users["ann"]["disabled"] = True  # type: ignore[assignment]
    gone = serving.reconcile(wish(status=status), NOW)
    assert told(gone) == ("False", "NoUser")
    assert (world.served, world.files) == ({}, {})
    world.users["ann"].pop("disabled")
    assert serving.reconcile(wish(status=gone), NOW) == status


def test_a_resource_of_a_wrong_name_serves_and_removes_nothing(
    serving: Serving, world: World
) -> None:
    serving.reconcile(wish(), NOW)
    assert told(serving.reconcile(wish(name="bob.bdt"), NOW)) == ("False", "WrongName")
    serving.remove(wish(name="bob.bdt"), NOW)
    assert world.served == {NAME: "1"}
    serving.remove(wish(), NOW)
    assert (world.served, world.files) == ({}, {})


TENSOR = '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 20]}}]'
COLUMNS = '[{"type": "double", "name": "a"}, {"type": "double", "name": "b"}]'


@pytest.mark.parametrize(("inputs", "count"), [(TENSOR, 20), (COLUMNS, 2)])
def test_the_signature_tells_the_number_of_features(inputs: str, count: int) -> None:
    assert features({"signature": {"inputs": inputs}}) == count


@pytest.mark.parametrize("signature", [None, {"inputs": None}, {"inputs": "[]"}])
def test_a_model_without_a_signature_is_refused(signature: Any) -> None:
    with pytest.raises(ModelError, match="with a signature") as refused:
        features({"signature": signature})
    assert refused.value.reason == "NoSignature"


@pytest.mark.parametrize(
    ("file", "form"), [("model.ubj", "xgboost_ubj"), ("model.json", "xgboost_json")]
)
def test_fil_gets_the_file_under_its_own_name_and_the_same_tensors(file: str, form: str) -> None:
    told = {"version": "3", "file": file, "features": 20, "parameters": {"mlflow.v3.run_id": "r"}}
    fil = builders.triton_files(builders.TritonModel(name=NAME, backend="fil", **told), b"booster")
    suffix = file.partition(".")[2]
    assert fil.keys() == {f"{NAME}/3/xgboost.{suffix}", f"{NAME}/config.pbtxt"}
    python = builders.TritonModel(name=NAME, backend="python", **told)
    ours = builders.triton_files(python, b"booster")
    assert ours.keys() == {f"{NAME}/3/{file}", f"{NAME}/3/model.py", f"{NAME}/config.pbtxt"}
    configs = [files[f"{NAME}/config.pbtxt"].decode() for files in (fil, ours)]
    for line in ("input {", "output {", "max_batch_size", "version_policy", "mlflow.v3.run_id"):
        (one,), (other,) = ([x for x in c.splitlines() if line in x] for c in configs)
        assert one == other
    assert f'"model_type" value {{string_value: "{form}"}}' in configs[0]
    assert 'backend: "fil"' in configs[0]
    assert "model_type" not in configs[1]


def test_a_signature_is_one_json_object_and_none_is_none() -> None:
    described = {"signature": {"inputs": '[{"type": "tensor"}]', "outputs": None}}
    assert signature(described) == '{"inputs": [{"type": "tensor"}]}'
    assert signature({}) == ""
