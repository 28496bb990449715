"""The S3 front: the bucket of a request's name is a folder of the user's, to read.

Clients sign with the request's own keys, which are good for its objects alone, for as
long as it is kept and its user is let in.  What the stock client signs for a year is
taken; stores do not.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import aiohttp
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from coffea_shoppe_servicex.database import Request as Asked
from coffea_shoppe_servicex.delivery import Delivery, Owner
from coffea_shoppe_servicex.objects import FolderStore, Place
from coffea_shoppe_servicex.signatures import SignatureError, Signed

LOG = logging.getLogger(__name__)
BLOCK = 1 << 20
INTERNAL_S = 60
"""How long the address is good by which the front itself fetches an object."""
PASSED = ("content-length", "content-type", "content-range", "etag", "last-modified")


class S3Error(Exception):
    """What S3 calls an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def response(self) -> Response:
        """Return it as S3 does."""
        told = f"<Code>{self.code}</Code><Message>{escape(str(self))}</Message>"
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error>{told}</Error>'
        return Response(body, self.status, media_type="application/xml")


@dataclass(frozen=True)
class Front:
    """What the front needs."""

    delivery: Delivery
    revoked: Callable[[str, float], str]
    """Tells why a user's keys of some time are void, or ''."""

    def admit(self, signed: Signed, bucket: str) -> Asked:
        """Return the request whose keys sign this; raises `S3Error`."""
        try:
            found = self.delivery.grant(signed.access_key)
            if found is None:
                raise S3Error(403, "InvalidAccessKeyId", "the key is of no request that is kept")
            signed.verify(found.secret_key, self.delivery.clock())
        except SignatureError as error:
            raise S3Error(403, error.code, str(error)) from error
        if why := self.revoked(found.owner_uid, found.created):
            raise S3Error(403, "AccessDenied", why)
        if found.id != bucket:
            raise S3Error(403, "AccessDenied", "the key is of another request")
        return found


def _signed(request: Request) -> Signed:
    raw: bytes = request.scope["raw_path"]
    return Signed(
        method=request.method,
        path=raw.decode("latin-1").partition("?")[0],
        query=list(request.query_params.multi_items()),
        headers={key.lower(): value for key, value in request.headers.items()},
    )


def application(front: Front) -> Starlette:
    """Return the front as an application."""
    delivery = front.delivery
    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        limits = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        async with aiohttp.ClientSession(timeout=limits, read_bufsize=BLOCK) as session:
            sessions.append(session)
            yield

    async def handle(request: Request) -> Response:
        bucket = request.path_params["bucket"]
        name = unquote(request.path_params.get("name", ""))
        try:
            if request.method not in ("GET", "HEAD", "PUT"):
                raise S3Error(405, "MethodNotAllowed", "results are only read")
            found = await run_in_threadpool(front.admit, _signed(request), bucket)
            if not name:
                return await run_in_threadpool(_listing, delivery, found, request)
            if "/" in name or name in (".", ".."):
                raise S3Error(404, "NoSuchKey", "there is no such object")
            place = Place(found.owner, found.folder)
            if request.method == "PUT":
                return await _put(request, place, name)
            return await _get(request, place, name)
        except S3Error as error:
            LOG.info("%s %s: %s", request.method, request.url.path, error)
            return error.response()

    async def _put(request: Request, place: Place, name: str) -> Response:
        if not isinstance(delivery.store, FolderStore):
            raise S3Error(405, "MethodNotAllowed", "results are only read")
        path = delivery.store.path(place, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{name}.partial")
        with partial.open("wb") as file:
            async for block in request.stream():
                await run_in_threadpool(file.write, block)
        partial.rename(path)
        return Response(status_code=200)

    async def _get(request: Request, place: Place, name: str) -> Response:
        if isinstance(delivery.store, FolderStore):
            path = delivery.store.path(place, name)
            if not path.is_file():
                raise S3Error(404, "NoSuchKey", "there is no such object")
            return FileResponse(path, media_type="application/octet-stream")
        return await _passed(request, delivery.store.url(request.method, place, name, INTERNAL_S))

    async def _passed(request: Request, url: str) -> Response:
        """Answer as the store does at an address."""
        headers = {"Range": request.headers["range"]} if "range" in request.headers else {}
        try:
            from yarl import URL

            answer = await sessions[0].request(
                request.method,
                URL(url, encoded=True),
                headers=headers,
                skip_auto_headers=["Accept"],
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise S3Error(503, "SlowDown", f"the object store does not answer ({error})") from error
        if answer.status == 404:
            answer.release()
            raise S3Error(404, "NoSuchKey", "there is no such object")
        kept = {key: answer.headers[key] for key in PASSED if key in answer.headers}
        if answer.status >= 400:
            told = (await answer.text())[:300]
            LOG.warning("the store answered %s: %s", answer.status, told)
            code = 416 if answer.status == 416 else 503
            word = "InvalidRange" if code == 416 else "SlowDown"
            raise S3Error(code, word, f"the object store answered {answer.status}")
        kept["accept-ranges"] = "bytes"
        if request.method == "HEAD":
            answer.release()
            return Response(status_code=answer.status, headers=kept)

        async def body() -> AsyncIterator[bytes]:
            async with answer:
                async for block in answer.content.iter_chunked(BLOCK):
                    yield block

        return StreamingResponse(body(), answer.status, headers=kept)

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    every = ["GET", "HEAD", "PUT", "POST", "DELETE"]
    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/healthz", health),
            Route("/{bucket}", handle, methods=every),
            Route("/{bucket}/", handle, methods=every),
            Route("/{bucket}/{name:path}", handle, methods=every),
        ],
    )


def _listing(delivery: Delivery, found: Asked, request: Request) -> Response:
    """Return what a bucket holds, all at once."""
    if request.method == "HEAD":
        return Response(status_code=200)
    prefix = request.query_params.get("prefix", "")
    owner = Owner(found.owner, found.owner_uid)
    files = [
        file
        for file in delivery.files(owner, found.id, states=("done",))
        if file.object.startswith(prefix)
    ]

    def entry(file: Any) -> str:
        moment = datetime.fromtimestamp(file.result_at / 1e6, UTC).strftime(
            "%Y-%m-%dT%H:%M:%S.000Z"
        )
        told = f"<Key>{escape(file.object)}</Key><LastModified>{moment}</LastModified>"
        return f"<Contents>{told}<Size>{file.bytes}</Size></Contents>"

    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{found.id}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(files)}</KeyCount>"
        f"<MaxKeys>{max(1000, len(files))}</MaxKeys><IsTruncated>false</IsTruncated>"
        f"{''.join(map(entry, files))}</ListBucketResult>"
    )
    return Response(body, media_type="application/xml")
