"""Processes that touch users' files and hosts: what they may read, use and send."""

import asyncio
import functools
import multiprocessing
import os
import socket
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import uproot
from coffea_shoppe_contract.confinement import confine
from coffea_shoppe_identity.capacity import Capacity
from coffea_shoppe_servicex import api, estimate, finders, isolation, lookups, root_files
from coffea_shoppe_servicex.access import TransformerAuthenticator, UserAuthenticator
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.errors import QueryError, TransformError, UnreadableError
from coffea_shoppe_servicex.estimate import Estimate, estimate_submission
from coffea_shoppe_servicex.finders import LookupFailedError
from coffea_shoppe_servicex.isolation import Limits, call
from coffea_shoppe_servicex.models import Owner, Submission
from coffea_shoppe_servicex.settings import Auth, Finders
from isolated_functions import (
    allocate,
    connect,
    denied,
    end,
    environment,
    fail,
    open_files,
    read,
    resolve,
    start_processes,
    wait,
)
from servicex_helpers import ANN, RAW, Service

LIMITS = Limits(seconds=60, memory_mib=256)


def test_a_call_has_no_environment_and_no_files_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_KEY", "secret")
    monkeypatch.setenv("TZ", "UTC")
    assert set(call(environment, limits=LIMITS)) <= set(isolation.RETAINED)
    key, catalogue = tmp_path / "keys" / "session-key", tmp_path / "catalogue" / "own"
    for path in (key, catalogue):
        path.parent.mkdir()
        path.write_text("content")
    readable = Limits(60, 256, readable=[catalogue.parent])
    assert call(denied, str(key), limits=readable)
    assert call(read, str(catalogue), limits=readable) == "content"
    assert call(denied, f"/proc/{os.getpid()}/environ", limits=readable)
    everything = Limits(60, 256, confined=False)
    assert call(read, str(key), limits=everything) == "content"
    assert call(resolve, "127.0.0.1", limits=readable)


def test_a_call_cannot_connect_to_processes_of_its_machine(tmp_path: Path) -> None:
    """They may act for whoever connects, as the server that starts processes of calls does."""
    address = str(tmp_path / "socket")
    unconfined = Limits(60, 256, confined=False)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        assert call(connect, address, limits=unconfined) == "done"
        assert call(connect, address, limits=LIMITS) == "PermissionError"


def test_a_call_starts_threads_and_no_processes() -> None:
    unconfined = Limits(60, 256, confined=False)
    assert call(start_processes, limits=unconfined) == ["done"] * 3
    assert call(start_processes, limits=LIMITS) == ["PermissionError"] * 2 + ["done"]


def test_a_call_has_no_open_files_but_that_of_its_result() -> None:
    assert call(open_files, limits=LIMITS) == 1


def test_the_kernel_confines_processes() -> None:
    """Where it does not, the tests here that files are denied would say nothing."""
    pid = os.fork()
    if not pid:
        os._exit(0 if confine() else 1)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls are forks of this process, so that they have its patches."""
    monkeypatch.setattr(isolation, "_methods", multiprocessing.get_context("fork"))
    monkeypatch.setattr(isolation, "_policy", isolation._Policy())


@pytest.mark.usefixtures("forked")
def test_a_call_that_the_kernel_does_not_confine_is_refused(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    unconfined = Limits(60, 256, confined=False)
    assert call(wait, 0, limits=LIMITS) == "done"
    isolation.configure(require_landlock=True)
    assert caplog.messages == [], "this kernel has Landlock"
    # As on a node with an older kernel.
    monkeypatch.setattr(isolation, "confine", lambda **_: False)
    monkeypatch.setattr(isolation, "is_supported", lambda: False)
    isolation.configure(require_landlock=True)
    assert "are refused, because this node does not confine processes" in caplog.text
    with pytest.raises(TransformError, match=r"servicex\.requireLandlock to false") as raised:
        call(wait, 0, limits=LIMITS)
    assert raised.value.reason == "NotConfined"
    assert call(wait, 0, limits=unconfined) == "done", "of a user's own machine"
    caplog.clear()
    isolation.configure(require_landlock=False)
    assert "can read this pod's keys" in caplog.text
    assert call(wait, 0, limits=LIMITS) == "done"


def test_memory_and_time_are_limited() -> None:
    assert call(allocate, 100, limits=LIMITS) == 100 * 2**20
    with pytest.raises(TransformError, match="more than 256 MiB") as raised:
        call(allocate, 1000, limits=LIMITS)
    assert raised.value.reason == "OutOfMemory"
    assert call(wait, 0.1, limits=LIMITS) == "done"
    with pytest.raises(TransformError, match=r"longer than 0\.5 s") as raised:
        call(wait, 60, limits=Limits(0.5, 256))
    assert raised.value.reason == "TooSlow"


def test_an_error_is_the_function_s_own() -> None:
    kinds: dict[str, tuple[type[Exception], str]] = {
        "query": (QueryError, "no such thing"),
        "transform": (TransformError, "it has no tree"),
        "unreadable": (UnreadableError, "it is cut short"),
        "other": (TransformError, "KeyError: 'met'"),
    }
    for kind, (error, message) in kinds.items():
        with pytest.raises(error, match=message):
            call(fail, kind, limits=LIMITS)


def test_a_crash_is_an_error_and_the_next_call_succeeds() -> None:
    with pytest.raises(TransformError, match="exit code 3") as raised:
        call(end, 3, limits=LIMITS)
    assert raised.value.reason == "Crashed"
    assert call(wait, 0, limits=LIMITS) == "done"


@pytest.mark.parametrize("sent", [b"no JSON", b'{"kind": "query", "message": "m"}', b"[]", b"3"])
def test_what_a_process_sends_is_never_executed(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """A file that takes a process over may send anything."""

    class Channel:
        def poll(self, _: float) -> bool:
            return True

        def recv_bytes(self, _: int) -> bytes:
            return sent

        def close(self) -> None:
            """Close nothing."""

    class Process:
        exitcode = 0

        def __init__(self, **_: Any) -> None:
            self.start = self.kill = lambda: None

        def join(self, _: float) -> None:
            """Wait for nothing."""

    monkeypatch.setattr(isolation._methods, "Pipe", lambda **_: (Channel(), Channel()))
    monkeypatch.setattr(isolation._methods, "Process", Process)
    with pytest.raises((QueryError, TransformError)):
        call(wait, 0, limits=LIMITS)


class Named(UserAuthenticator):
    """The user is whom the header names."""

    def identify(self, header: str) -> Owner:
        return Owner(header, f"uid-{header}")


def test_one_user_s_estimates_leave_room_for_another_s(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, running = threading.Event(), Counter[str]()
    largest = Counter[str]()

    def slow(_: Backend, owner: Owner, __: Submission) -> Estimate:
        running[owner.user] += 1
        largest[owner.user] = max(largest[owner.user], running[owner.user])
        if owner.user == "ann":
            assert go_on.wait(60)
        running[owner.user] -= 1
        return Estimate(1, 1, 1, 1, 1, 1.0, "")

    monkeypatch.setattr(api, "estimate_submission", slow)
    users = Named(Auth(enabled=False), None)
    application = api.application(backend, users, TransformerAuthenticator(backend))
    body = {"codegen": "uproot-raw", "selection": RAW, "file-list": ["root://h//a.root"]}

    async def story() -> list[int]:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:

            async def post(user: str) -> httpx.Response:
                headers = {"Authorization": user}
                return await client.post(
                    "/servicex/estimate", json=body, headers=headers, timeout=60
                )

            anns = [asyncio.create_task(post("ann")) for _ in range(50)]
            # More than there are threads: those that wait need none.
            statuses = [(await post("bob")).status_code for _ in range(3)]
            info = await client.get("/servicex", headers={"Authorization": "bob"})
            statuses.append(info.status_code)
            go_on.set()
            responses = await asyncio.gather(*anns)
            return [*statuses, *(response.status_code for response in responses)]

    assert asyncio.run(story()) == [200] * 54
    assert largest["ann"] == 1


@pytest.mark.parametrize(("limit", "status"), [(2, 200), (0, 503)])
def test_an_estimate_beyond_the_number_at_once_says_when_to_try_again(
    backend: Backend, monkeypatch: pytest.MonkeyPatch, limit: int, status: int
) -> None:
    monkeypatch.setattr(api, "TOTAL_ESTIMATES", limit)
    monkeypatch.setattr(api, "Capacity", functools.partial(Capacity, wait_s=0))
    monkeypatch.setattr(api, "estimate_submission", lambda *_: Estimate(1, 1, 1, 1, 1, 1.0, ""))
    users = Named(Auth(enabled=False), None)
    application = api.application(backend, users, TransformerAuthenticator(backend))
    body = {"codegen": "uproot-raw", "selection": RAW, "file-list": ["root://h//a.root"]}

    async def estimated() -> httpx.Response:
        transport = httpx.ASGITransport(application)
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            headers = {"Authorization": "ann"}
            return await client.post("/servicex/estimate", json=body, headers=headers, timeout=60)

    response = asyncio.run(estimated())
    assert response.status_code == status
    assert ("too many estimates are running" in response.text) is (status == 503)


def test_an_estimate_of_a_file_that_expands_is_refused(
    service: Service, inputs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "MEMORY_MIB", 96)
    expanding = tmp_path / "expanding.root"
    with uproot.recreate(expanding, compression=uproot.ZLIB(1)) as file:
        file["Events"] = " " * (96 * 2**20)
    assert expanding.stat().st_size < 1_000_000

    def ask(path: Path) -> requests.Response:
        body = {"codegen": "uproot-raw", "selection": RAW, "file-list": [str(path)]}
        return requests.post(f"{service.url}/servicex/estimate", json=body, timeout=60)

    refused = ask(expanding)
    assert refused.status_code == 400
    assert "more than 96 MiB of memory" in refused.json()["message"]
    assert ask(inputs[0]).json()["events"] == 1000


def test_estimates_and_look_ups_touch_files_and_hosts_in_processes_of_their_own(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(*_: object, **__: object) -> None:
        raise AssertionError("in the process of the API")

    monkeypatch.setattr(root_files, "opened", here)
    monkeypatch.setattr(finders, "find", here)
    submission = Submission.model_validate(
        {"codegen": "uproot-raw", "selection": RAW, "file-list": ["/absent.root"]}
    )
    with pytest.raises(QueryError, match="no such file"):
        estimate_submission(backend, ANN, submission)
    named = submission.model_copy(update={"file_list": None, "did": "xrootd://root://"})
    with pytest.raises(QueryError, match="give root://HOST//PATH"):
        estimate_submission(backend, ANN, named)
    with pytest.raises(LookupFailedError, match="give the number of a record") as raised:
        lookups.find("cernopendata://x", Finders())
    assert raised.value.status == "bad_name"
