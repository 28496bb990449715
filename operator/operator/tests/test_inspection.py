"""A user's model is read in a process that has nothing, and takes nobody with it."""

import json
import subprocess
import sys
from functools import partial
from typing import Any

import numpy as np
import pytest
import xgboost
from coffea_shoppe_operator import boosters
from coffea_shoppe_operator.errors import ModelError

CRASHES = 6
"""This mutation crashes XGBoost 3.2 (SIGSEGV)."""


def trained() -> xgboost.Booster:
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(200, 4)).astype(np.float32)
    matrix = xgboost.DMatrix(rows, (rows[:, 0] > 0).astype(int), nthread=1)
    options = {"objective": "binary:logistic", "max_depth": 3, "nthread": 1}
    return xgboost.train(options, matrix, 8)


def mutated(model: bytes, seed: int) -> bytes:
    found, rng = bytearray(model), np.random.default_rng(seed)
    for _ in range(int(rng.integers(1, 6))):
        found[int(rng.integers(0, len(found)))] = int(rng.integers(0, 256))
    return bytes(found)


def test_a_file_that_crashes_xgboost_is_refused_and_its_twin_is_read() -> None:
    model = bytes(trained().save_raw("ubj"))
    assert boosters.inspect(model, "model.ubj", cut=False).outputs == 2
    with pytest.raises(ModelError, match="it is damaged") as refused:
        boosters.inspect(mutated(model, CRASHES), "model.ubj", cut=False)
    assert refused.value.reason == "NoModel"
    assert "SIG" in str(refused.value)


@pytest.mark.parametrize(
    ("part", "value"), [("left_children", 0), ("split_indices", 99), ("right_children", 10**6)]
)
def test_a_tree_in_which_a_row_may_get_lost_is_refused(part: str, value: int) -> None:
    model = json.loads(trained().save_raw("json"))
    model["learner"]["gradient_booster"]["model"]["trees"][3][part][0] = value
    with pytest.raises(ModelError) as refused:
        boosters.inspect(json.dumps(model).encode(), "model.json", cut=False)
    assert refused.value.reason == "NoModel"


def test_a_file_that_was_refused_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError) as first:
        boosters.inspect(b"no model", "model.ubj", cut=False)
    monkeypatch.setattr(boosters, "_inspect", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(ModelError) as again:
        boosters.inspect(b"no model", "model.ubj", cut=False)
    assert (again.value.reason, str(again.value)) == (first.value.reason, str(first.value))


@pytest.mark.parametrize("content", [b"", b"{}", b"hello", b"\x00" * 1000])
def test_what_is_no_model_is_told(content: bytes) -> None:
    with pytest.raises(ModelError) as refused:
        boosters.inspect(content, "model.ubj", cut=False)
    assert refused.value.reason == "NoModel"


def test_a_model_that_is_not_read_in_time_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boosters, "TIMEOUT_S", 0.01)
    with pytest.raises(ModelError, match="did not read the model"):
        boosters.inspect(b"slow", "model.ubj", cut=False)
    monkeypatch.undo()
    # It may have been the machine: it is tried again.
    with pytest.raises(ModelError, match="cannot read it"):
        boosters.inspect(b"slow", "model.ubj", cut=False)


TRIES = """
import os, signal, socket, sys
from coffea_shoppe_operator.inspection import confine
def allowed():
    found = []
    for name, attempt in {
        "file": lambda: open("/etc/hostname").close(),
        "parent": lambda: open(f"/proc/{os.getppid()}/environ").close(),
        "network": lambda: socket.create_connection(("127.0.0.1", int(sys.argv[1])), 5).close(),
        "signal": lambda: os.kill(os.getppid(), 0),
    }.items():
        try:
            attempt()
        except PermissionError:
            continue
        found.append(name)
    return found
print(*allowed())
assert confine()
print(*allowed())
"""


def test_the_process_gives_up_files_and_network_before_it_reads() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        words = [sys.executable, "-c", TRIES, port]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    before, after = done.stdout.split("\n")[:2]
    assert before.split() == ["file", "parent", "network", "signal"]
    # An older kernel leaves signals, or the network, to its own users' limits.
    assert not {"file", "parent"} & set(after.split())


UNCONFINED = """
import sys
from coffea_shoppe_operator import inspection
inspection.confine = lambda: False
sys.argv[0] = "inspection"
inspection.main()
"""


@pytest.mark.parametrize("require_landlock", [True, False])
def test_no_model_is_read_in_a_process_that_is_not_confined(
    monkeypatch: pytest.MonkeyPatch, *, require_landlock: bool
) -> None:
    """Unless the administrator permits it."""
    run = subprocess.run

    def without_landlock(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        where = command.index("-m")
        return run([*command[:where], "-c", UNCONFINED, *command[where + 2 :]], **options)

    monkeypatch.setattr(boosters, "_refused", {})
    monkeypatch.setattr(subprocess, "run", without_landlock)
    model = bytes(trained().save_raw("ubj"))
    inspect = partial(boosters.inspect, model, "model.ubj", cut=False)
    if not require_landlock:
        assert inspect(require_landlock=False).outputs == 2
        return
    with pytest.raises(ModelError, match=r"triton\.requireLandlock to false") as refused:
        inspect()
    assert refused.value.reason == "NotConfined"


def test_the_process_gets_no_environment() -> None:
    assert boosters.ENVIRONMENT.keys() == {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATH"}
