"""What becomes of a wish to serve a model, with MLflow and Triton in memory."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from coffea_shoppe_contract.claims import TRITON_ADMIN
from coffea_shoppe_operator import builders, services
from coffea_shoppe_operator.adapters.mlflow import MlflowSettings
from coffea_shoppe_operator.adapters.triton import TritonSettings
from coffea_shoppe_operator.boosters import Inspected
from coffea_shoppe_operator.clients.mlflow import (
    Booster,
    Mlflow,
    Reader,
    Version,
    features,
    signature,
)
from coffea_shoppe_operator.errors import ModelError, StorageError
from coffea_shoppe_operator.models import (
    ServedModel,
    ServedModelSpec,
    ServedModelStatus,
)
from coffea_shoppe_operator.serving import Serving
from test_services import NOW, SETTINGS, Memory, verify

NAME = "ann.bdt"
KIND = Inspected(
    method="predict_proba",
    objective="binary:logistic",
    outputs=2,
    rounds=7,
    features=20,
    names=[],
    rows=1,
    probe=b"",
    scores=b"",
    cut=b"",
)


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
        self.refused: set[bytes] = set()
        self.other: set[bytes] = set()
        self.loads = 0

    def _look(self, what: str) -> None:
        if what in self.down:
            raise StorageError(f"{what}: connection refused")

    def _admin(self, token: str) -> None:
        assert verify(self.cluster, token.encode(), NOW, TRITON_ADMIN).user == "operator"

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
        data = self.boosters[version.number]
        return Booster(data, "model.ubj", 20, (), "{}", "ttbar:d1", "c0de")

    def inspect(self, model: bytes, file: str, *, cut: bool) -> Inspected:
        if model in self.refused:
            raise ModelError("Categories", "columns hold names of categories")
        return KIND

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

    def probe(self, model: str, version: str, inspected: Inspected, token: str) -> None:
        self._look("Triton")
        assert (self.served[model], inspected) == (version, KIND)
        if self.files[f"{model}/{version}/model.ubj"] in self.other:
            raise ModelError("DifferentScores", "Triton does not score as the model does")

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
        inspect=world.inspect,
    )


def model_resource(
    model: str = "models:/bdt@prod", status: ServedModelStatus | None = None, name: str = NAME
) -> ServedModel:
    spec = ServedModelSpec(username="ann", name="bdt", model=model)
    return ServedModel(name=name, spec=spec, status=status or ServedModelStatus())


def condition_of(status: ServedModelStatus) -> tuple[str, str]:
    (condition,) = status.conditions
    return condition.status, condition.reason


def test_a_model_is_served_and_a_second_look_does_nothing(serving: Serving, world: World) -> None:
    status = serving.reconcile(model_resource(), NOW)
    assert condition_of(status) == ("True", "Served")
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
    assert serving.reconcile(model_resource(status=status), NOW) == status
    assert world.loads == 1


def test_an_alias_that_moves_is_followed_and_back(serving: Serving, world: World) -> None:
    first = serving.reconcile(model_resource(), NOW)
    world.alias = "2"
    second = serving.reconcile(model_resource(status=first), NOW)
    assert (second.version, world.served) == ("2", {NAME: "2"})
    assert not [path for path in world.files if path.startswith(f"{NAME}/1/")]
    world.alias = "1"
    again = serving.reconcile(model_resource(status=second), NOW)
    assert (again, world.served) == (first, {NAME: "1"})


def test_a_broken_version_is_told_and_the_one_before_is_still_served(
    serving: Serving, world: World
) -> None:
    first = serving.reconcile(model_resource(), NOW)
    world.broken.add(b"second")
    world.alias = "2"
    second = serving.reconcile(model_resource(status=first), NOW)
    assert condition_of(second) == ("False", "LoadFailed")
    assert "version 1 is still served" in second.conditions[0].message
    assert (second.version, world.served) == ("1", {NAME: "1"})
    assert not [path for path in world.files if path.startswith(f"{NAME}/2/")]
    # Mended in MLflow, it is served.
    world.broken.clear()
    assert condition_of(serving.reconcile(model_resource(status=second), NOW)) == ("True", "Served")


def test_another_model_of_the_same_run_and_version_is_another_model(
    serving: Serving, world: World
) -> None:
    first = serving.reconcile(model_resource(), NOW)
    world.boosters["1"] = b"other"
    second = serving.reconcile(model_resource("models:/other/1", status=first), NOW)
    assert (second.registered, world.files[f"{NAME}/1/model.ubj"]) == ("other", b"other")
    assert second.sha256 != first.sha256


def test_a_served_version_that_cannot_be_loaded_again_is_not_said_to_be_served(
    serving: Serving, world: World
) -> None:
    status = serving.reconcile(model_resource(), NOW)
    world.served.clear()
    world.broken.add(b"first")
    again = serving.reconcile(model_resource(status=status), NOW)
    assert (condition_of(again), again.version) == (("False", "LoadFailed"), "")
    assert "still served" not in again.conditions[0].message


def test_a_model_that_is_refused_is_told_and_what_was_served_still_is(
    serving: Serving, world: World
) -> None:
    first = serving.reconcile(model_resource(), NOW)
    world.refused.add(b"second")
    world.alias = "2"
    second = serving.reconcile(model_resource(status=first), NOW)
    assert condition_of(second) == ("False", "Categories")
    assert "version 1 is still served" in second.conditions[0].message
    assert world.served == {NAME: "1"}
    assert not [path for path in world.files if path.startswith(f"{NAME}/2/")]


def test_a_model_that_triton_scores_otherwise_is_not_served(serving: Serving, world: World) -> None:
    first = serving.reconcile(model_resource(), NOW)
    world.other.add(b"second")
    world.alias = "2"
    second = serving.reconcile(model_resource(status=first), NOW)
    assert condition_of(second) == ("False", "DifferentScores")
    assert (second.version, world.served) == ("1", {NAME: "1"})


def test_configuration_and_status_contain_the_method(serving: Serving, world: World) -> None:
    status = serving.reconcile(model_resource(), NOW)
    assert (status.method, status.outputs, status.rounds) == ("predict_proba", 2, 7)
    config = world.files[f"{NAME}/config.pbtxt"].decode()
    assert 'output {name: "output__0" data_type: TYPE_FP32 dims: [2]}' in config
    assert '"xgboost.method" value {string_value: "predict_proba"}' in config
    assert '"xgboost.rounds" value {string_value: "7"}' in config


def test_a_model_of_an_earlier_release_keeps_its_output_until_it_is_served_again(
    serving: Serving, world: World
) -> None:
    status = serving.reconcile(model_resource(), NOW)
    before = status.model_copy(
        update={"method": "", "outputs": 1, "rounds": 0, "objective": "", "requested_at": 5.0}
    )
    looked_at = model_resource(status=before)
    looked_at = looked_at.model_copy(
        update={"spec": looked_at.spec.model_copy(update={"requested_at": 5.0})}
    )
    assert serving.reconcile(looked_at, NOW) == before
    assert world.loads == 1
    asked = looked_at.model_copy(
        update={"spec": looked_at.spec.model_copy(update={"requested_at": 6.0})}
    )
    assert serving.reconcile(asked, NOW).method == "predict_proba"
    assert world.loads == 2


@pytest.mark.parametrize(
    ("count", "columns", "message"),
    [
        (19, (), "has 19 columns, the model 20"),
        (20, tuple("ba" + "cdefghijklmnopqrst"), "column 0 is 'b' in its signature and 'a'"),
    ],
)
def test_a_signature_of_other_columns_is_refused(
    serving: Serving,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    columns: tuple[str, ...],
    message: str,
) -> None:
    other = Booster(b"first", "model.ubj", count, columns)
    monkeypatch.setattr(world, "fetch", lambda *_, **__: other)
    named = KIND.model_copy(update={"names": list("abcdefghijklmnopqrst")})
    serving.inspect = lambda *_, **__: named
    refused = serving.reconcile(model_resource(), NOW)
    assert condition_of(refused) == ("False", "WrongFeatures")
    assert message in refused.conditions[0].message


@pytest.mark.parametrize(
    "source", ["s3://service-mlflow/workspaces/user-vic/1", "mlflow-artifacts://host/x", "dbfs:/x"]
)
def test_a_version_whose_source_is_not_in_mlflow_is_not_fetched(
    monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    registry = Mlflow(MlflowSettings(endpoint="http://mlflow"))
    monkeypatch.setattr(registry, "_query", lambda *_, **__: {"artifact_uri": source})
    monkeypatch.setattr(registry, "_artifact", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModelError, match="not in MLflow") as refused:
        registry.fetch(Version("bdt", "1", ""), Reader("token", "user-att"), megabytes=1)
    assert refused.value.reason == "WrongSource"


def test_a_broken_first_version_leaves_nothing_behind(serving: Serving, world: World) -> None:
    world.broken.add(b"first")
    status = serving.reconcile(model_resource(), NOW)
    assert condition_of(status) == ("False", "LoadFailed")
    assert (status.version, world.served, world.files) == ("", {}, {})


@pytest.mark.parametrize(
    ("model", "reason"), [("models:/bdt/9", "NotFound"), ("models:/bdt/1", "Served")]
)
def test_a_version_that_is_not_there_is_told(serving: Serving, model: str, reason: str) -> None:
    assert condition_of(serving.reconcile(model_resource(model), NOW))[1] == reason


@pytest.mark.parametrize("away", ["MLflow", "Triton", "the object store"])
def test_what_is_away_is_waited_for(serving: Serving, world: World, away: str) -> None:
    world.down.add(away)
    assert condition_of(serving.reconcile(model_resource(), NOW)) == ("False", "Unavailable")
    world.down.clear()
    status = serving.reconcile(model_resource(), NOW)
    assert condition_of(status) == ("True", "Served")
    world.down.add(away)
    world.served.clear()  # as after a restart of Triton with an empty store
    again = serving.reconcile(model_resource(status=status), NOW)
    assert condition_of(again) == ("False", "Unavailable")
    world.down.clear()
    assert serving.reconcile(model_resource(status=again), NOW) == status
    assert world.served == {NAME: "1"}


def test_a_user_who_is_gone_has_nothing_served(serving: Serving, world: World) -> None:
    status = serving.reconcile(model_resource(), NOW)
    world.users["ann"]["disabled"] = True  # type: ignore[assignment]
    gone = serving.reconcile(model_resource(status=status), NOW)
    assert condition_of(gone) == ("False", "NoUser")
    assert (world.served, world.files) == ({}, {})
    world.users["ann"].pop("disabled")
    assert serving.reconcile(model_resource(status=gone), NOW) == status


def test_a_resource_of_a_wrong_name_serves_and_removes_nothing(
    serving: Serving, world: World
) -> None:
    serving.reconcile(model_resource(), NOW)
    assert condition_of(serving.reconcile(model_resource(name="bob.bdt"), NOW)) == (
        "False",
        "WrongName",
    )
    serving.remove(model_resource(name="bob.bdt"), NOW)
    assert world.served == {NAME: "1"}
    serving.remove(model_resource(), NOW)
    assert (world.served, world.files) == ({}, {})


TENSOR = '[{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 20]}}]'
COLUMNS = '[{"type": "double", "name": "a"}, {"type": "double", "name": "b"}]'


@pytest.mark.parametrize(("inputs", "columns"), [(TENSOR, (20, ())), (COLUMNS, (2, ("a", "b")))])
def test_the_signature_tells_the_features(inputs: str, columns: tuple[int, Any]) -> None:
    assert features({"signature": {"inputs": inputs}}) == columns


@pytest.mark.parametrize("signature", [None, {"inputs": None}, {"inputs": "[]"}])
def test_a_model_without_a_signature_is_refused(signature: Any) -> None:
    with pytest.raises(ModelError, match="with a signature") as refused:
        features({"signature": signature})
    assert refused.value.reason == "NoSignature"


@pytest.mark.parametrize(
    ("file", "form"), [("model.ubj", "xgboost_ubj"), ("model.json", "xgboost_json")]
)
def test_fil_gets_the_file_under_its_own_name_and_the_same_tensors(file: str, form: str) -> None:
    parameters = {"mlflow.v3.run_id": "r"}
    model = builders.TritonModel(NAME, "3", file, 20, "fil", parameters)
    fil = builders.triton_files(model, b"booster")
    suffix = file.partition(".")[2]
    assert fil.keys() == {f"{NAME}/3/xgboost.{suffix}", f"{NAME}/config.pbtxt"}
    ours = builders.triton_files(replace(model, backend="python"), b"booster")
    assert ours.keys() == {f"{NAME}/3/{file}", f"{NAME}/3/model.py", f"{NAME}/config.pbtxt"}
    configs = [files[f"{NAME}/config.pbtxt"].decode() for files in (fil, ours)]
    for line in ("input {", "output {", "max_batch_size", "version_policy", "mlflow.v3.run_id"):
        (one,), (other,) = ([x for x in c.splitlines() if line in x] for c in configs)
        assert one == other
    assert f'"model_type" value {{string_value: "{form}"}}' in configs[0]
    assert 'backend: "fil"' in configs[0]
    assert "model_type" not in configs[1]


@pytest.mark.parametrize(
    ("method", "outputs", "classifier"), [("predict_proba", 3, True), ("predict", 1, False)]
)
def test_the_configuration_of_fil_contains_the_method(
    method: str, outputs: int, classifier: bool
) -> None:
    model = builders.TritonModel(
        name=NAME,
        version="3",
        file="model.ubj",
        features=20,
        backend="fil",
        parameters={},
        method=method,
        outputs=outputs,
        rounds=7,
    )
    config = builders.triton_config(model)
    assert f"dims: [{outputs}]" in config
    assert f'"is_classifier" value {{string_value: "{str(classifier).lower()}"}}' in config
    assert ('"predict_proba" value {string_value: "true"}' in config) is classifier


def test_fil_gets_the_model_that_was_cut(serving: Serving, world: World) -> None:
    asked: list[bool] = []

    def inspect(model: bytes, file: str, *, cut: bool) -> Inspected:
        asked.append(cut)
        return KIND.model_copy(update={"cut": b"shorter"})

    serving.inspect = inspect
    serving.triton = serving.triton.model_copy(update={"backend": "fil"})
    with pytest.raises(AssertionError):  # the Triton of these tests knows model.py alone
        serving.reconcile(model_resource(), NOW)
    assert asked == [True]
    assert world.files[f"{NAME}/1/xgboost.ubj"] == b"shorter"


def test_a_model_of_many_columns_takes_fewer_rows_at_once() -> None:
    def most(outputs: int) -> int:
        model = builders.TritonModel(
            name=NAME,
            version="1",
            file="model.ubj",
            features=1,
            backend="python",
            parameters={},
            outputs=outputs,
        )
        config = builders.triton_config(model)
        return int(config.partition("max_batch_size: ")[2].partition("\n")[0])

    assert (most(1), most(2)) == (1_000_000, 1_000_000)
    assert most(1000) * 1000 * 4 <= builders.MAX_OUTPUT_BYTES


def test_a_signature_is_one_json_object_and_none_is_none() -> None:
    described = {"signature": {"inputs": '[{"type": "tensor"}]', "outputs": None}}
    assert signature(described) == '{"inputs": [{"type": "tensor"}]}'
    assert signature({}) == ""
