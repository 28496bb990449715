"""The program that completes a release's Secrets, against an API of Kubernetes in memory."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import generate_secrets
import pytest
from kube_api import KubeApi, kube_api

LABELS = {"app.kubernetes.io/component": "hub"}
RULES: dict[str, Any] = {
    "password": {"characters": 32},
    "cookie": {"hex": 32},
    "explicit": {"hex": 32, "value": "given"},
    "service.conf": {"text": "user=a\npassword={password}\n{other}\n"},
}


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubeApi]:
    """An API that responds in a thread, while the program waits in this one."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    server = kube_api(tmp_path, monkeypatch)
    try:
        yield asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(30)
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def run(api: KubeApi, folder: Path) -> None:
    """Run the program for one Secret, as the job does."""
    (folder / "token").write_text("token")
    (folder / "namespace").write_text("facility")
    file = folder / "secrets.json"
    file.write_text(json.dumps([{"name": "a", "labels": LABELS, "keys": RULES}]))
    generate_secrets.main(str(file), server=api.url, account=folder)


def data(api: KubeApi) -> dict[str, str]:
    (secret,) = api.of("secrets")
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def put(api: KubeApi, entries: dict[str, str]) -> None:
    """Let the API have the Secret with these keys."""
    metadata = {"name": "a", "namespace": "facility", "resourceVersion": "7"}
    api.objects["secrets", "facility", "a"] = {
        "metadata": metadata,
        "data": generate_secrets.encode(entries),
    }


def test_a_missing_secret_is_created_with_all_keys(
    api: KubeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(api, tmp_path)
    entries = data(api)
    (secret,) = api.of("secrets")
    assert secret["metadata"]["labels"] == LABELS
    assert len(entries["password"]) == 32
    assert len(bytes.fromhex(entries["cookie"])) == 32
    assert entries["explicit"] == "given"
    assert entries["service.conf"] == f"user=a\npassword={entries['password']}\n{{other}}\n"
    assert capsys.readouterr().out == "Secret a: created\n"


def test_a_second_run_writes_nothing(
    api: KubeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(api, tmp_path)
    before, writes = data(api), len(api.writes)
    run(api, tmp_path)
    assert (data(api), len(api.writes)) == (before, writes)
    assert capsys.readouterr().out.endswith("Secret a: has all keys\n")


def test_keys_that_are_there_keep_their_bytes(
    api: KubeApi, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"password": "of an older release", "hub.config.Own.secret": "an administrator's"}
    put(api, {**own, "explicit": "old"})
    run(api, tmp_path)
    entries = data(api)
    assert own.items() <= entries.items()
    assert entries["service.conf"].startswith("user=a\npassword=of an older release\n")
    # What the values say wins.
    assert entries["explicit"] == "given"
    printed = capsys.readouterr().out
    assert printed == "Secret a: set cookie, explicit, service.conf\n"
    assert not [value for value in entries.values() if value in printed]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_refusal_names_the_secret_and_the_remedy(
    api: KubeApi, tmp_path: Path, method: str
) -> None:
    api.refusals[method, "secrets"] = (403, "secrets is forbidden")
    with pytest.raises(SystemExit, match=r"^Secret a: secrets is forbidden: create it your"):
        run(api, tmp_path)
    api.refusals.clear()
    run(api, tmp_path)
    assert data(api)


def test_a_secret_that_another_client_changes_meanwhile_is_tried_again(
    api: KubeApi, tmp_path: Path
) -> None:
    put(api, {})
    api.refusals["PATCH", "secrets"] = (409, "the object has been modified")
    with pytest.raises(SystemExit, match="has been modified: the job tries again"):
        run(api, tmp_path)


def test_an_api_server_that_is_away_is_named(tmp_path: Path) -> None:
    api = KubeApi(url="http://127.0.0.1:1")
    with pytest.raises(SystemExit, match="Kubernetes' API server does not respond"):
        run(api, tmp_path)
