"""Kubernetes' API in memory, for the tests of services that are its clients.

It knows namespaced objects of any kind: create, read, list, watch, delete and patch (merge
patches, and the `add` of JSON patches).  Labels select by equality.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import kubernetes_asyncio.config.kube_config
import pytest
import yaml
from aiohttp import web

Object = dict[str, Any]
Key = tuple[str, str, str]
"""Plural, namespace and name."""
PREFIX = r"/{api:api|apis/[^/]+}/{version:[^/]+}"
CREATED = "2026-01-01T00:00:00Z"


def merged(old: Object, change: Object) -> Object:
    """Return an object after a merge patch (RFC 7396)."""
    result = {**old}
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(result.get(key) or {}, value)
        else:
            result[key] = value
    return result


@dataclass
class KubeApi:
    """The objects, and what the API server responds instead of doing as it is asked."""

    objects: dict[Key, Object] = field(default_factory=dict)
    refusals: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    """(HTTP method, plural) → status and message of the refusal."""
    after_write: Callable[[Key, Object], None] = lambda key, written: None
    """Called with each written object, which it may change: a controller."""
    writes: list[tuple[str, Key]] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self.changed = asyncio.Condition()
        self.closed = False
        self.events: list[tuple[str, Key, Object]] = []

    def of(self, plural: str) -> list[Object]:
        """Return all objects of a kind."""
        return [content for key, content in self.objects.items() if key[0] == plural]

    async def put(self, plural: str, content: Object, event: str = "MODIFIED") -> Object:
        """Write an object, as another client of the API server does."""
        namespace = content["metadata"]["namespace"]
        key = (plural, namespace, content["metadata"]["name"])
        self.after_write(key, content)
        content["metadata"]["resourceVersion"] = str(len(self.events) + 1)
        self.objects[key] = content
        await self._record(event, key, content)
        return content

    async def close(self) -> None:
        """End all watches."""
        async with self.changed:
            self.closed = True
            self.changed.notify_all()

    async def _record(self, event: str, key: Key, content: Object) -> None:
        async with self.changed:
            self.events.append((event, key, json.loads(json.dumps(content))))
            self.changed.notify_all()

    def application(self) -> web.Application:
        """Return the server."""
        application = web.Application()
        in_namespace = PREFIX + r"/namespaces/{namespace}/{plural}"
        application.router.add_get(PREFIX + r"/{plural}", self._list)
        application.router.add_get(in_namespace, self._list)
        application.router.add_post(in_namespace, self._create)
        for path in (in_namespace + r"/{name}", in_namespace + r"/{name}/status"):
            application.router.add_get(path, self._read)
            application.router.add_patch(path, self._patch)
            application.router.add_delete(path, self._delete)
        return application

    def _key(self, request: web.Request, name: str = "") -> Key:
        """Return the key of the object; respond with the configured error, if any."""
        plural = request.match_info["plural"]
        if refusal := self.refusals.get((request.method, plural)):
            raise _problem(*refusal)
        name = name or request.match_info["name"]
        return plural, request.match_info["namespace"], name

    def _present(self, request: web.Request) -> tuple[Key, Object]:
        key = self._key(request)
        if key not in self.objects:
            raise _problem(404, f"{key[0]} {key[2]} not found")
        return key, self.objects[key]

    async def _create(self, request: web.Request) -> web.Response:
        content = await request.json()
        metadata = content["metadata"]
        metadata.setdefault("name", metadata.get("generateName", "") + str(len(self.events)))
        key = self._key(request, metadata["name"])
        if key in self.objects:
            raise _problem(409, f"{key[0]} {key[2]} already exists")
        uid = f"uid-{len(self.events)}"
        metadata |= {"namespace": key[1], "creationTimestamp": CREATED, "uid": uid}
        self.writes.append(("POST", key))
        return web.json_response(await self.put(key[0], content, "ADDED"), status=201)

    async def _read(self, request: web.Request) -> web.Response:
        return web.json_response(self._present(request)[1])

    async def _patch(self, request: web.Request) -> web.Response:
        key, old = self._present(request)
        change = await request.json()
        if isinstance(change, list):
            for operation in change:
                assert operation["op"] == "add"
                *parents, last = operation["path"].strip("/").split("/")
                target = old
                for part in parents:
                    target = target[part]
                target[last] = operation["value"]
            change = {}
        self.writes.append(("PATCH", key))
        return web.json_response(await self.put(key[0], merged(old, change)))

    async def _delete(self, request: web.Request) -> web.Response:
        key, content = self._present(request)
        del self.objects[key]
        self.writes.append(("DELETE", key))
        await self._record("DELETED", key, content)
        return web.json_response(content)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        plural = request.match_info["plural"]
        selector = dict(
            pair.split("=") for pair in request.query.get("labelSelector", "").split(",") if pair
        )

        def chosen(key: Key, content: Object) -> bool:
            labels = content["metadata"].get("labels") or {}
            return key[0] == plural and selector.items() <= labels.items()

        if request.query.get("watch", "").lower() == "true":
            return await self._watch(request, chosen)
        listed = [content for key, content in self.objects.items() if chosen(key, content)]
        metadata = {"resourceVersion": str(len(self.events))}
        return web.json_response(
            {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": listed}
        )

    async def _watch(
        self, request: web.Request, chosen: Callable[[Key, Object], bool]
    ) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        seen = int(request.query["resourceVersion"])
        while not self.closed:
            for event, key, content in self.events[seen:]:
                if chosen(key, content):
                    line = json.dumps({"type": event, "object": content})
                    await response.write(f"{line}\n".encode())
            seen = len(self.events)
            async with self.changed:
                while len(self.events) == seen and not self.closed:
                    await self.changed.wait()
        return response


def _problem(status: int, message: str) -> web.HTTPException:
    text = json.dumps({"kind": "Status", "status": "Failure", "message": message, "code": status})
    problem = web.HTTPException(text=text, content_type="application/json")
    problem.set_status(status)
    return problem


@asynccontextmanager
async def kube_api(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeApi]:
    """Serve an empty API, which clients in this process find as theirs meanwhile."""
    api = KubeApi()
    runner = web.AppRunner(api.application())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    api.url = f"http://127.0.0.1:{port}"
    file = folder / "kubeconfig"
    file.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "test",
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
                "clusters": [{"name": "test", "cluster": {"server": api.url}}],
                "users": [{"name": "test", "user": {}}],
            }
        )
    )
    kube_config = kubernetes_asyncio.config.kube_config
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(file))
    try:
        yield api
    finally:
        await api.close()
        await runner.cleanup()
