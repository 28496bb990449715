"""Read-only S3 gateway: bucket REQUEST_ID maps to the request's prefix in the result store.

That is servicex/REQUEST_ID/ in the owner's bucket, or a folder.  Clients sign with the
request's own key, which is valid for its objects only, until the request is removed or its
owner's access revoked.  The stock client signs for a year, which object stores refuse; the
gateway accepts it, and fetches objects with the service's own key.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.sax.saxutils import escape

import aiohttp
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from yarl import URL

from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.database import File
from coffea_shoppe_servicex.database import Request as TransformRequest
from coffea_shoppe_servicex.models import Owner
from coffea_shoppe_servicex.objects import FolderStore, ObjectPrefix
from coffea_shoppe_servicex.signatures import SignatureError, SignedRequest

LOG = logging.getLogger(__name__)
BLOCK_SIZE = 1 << 20
FETCH_URL_S = 60
"""Lifetime of the presigned URLs by which the gateway fetches objects."""
FORWARDED_HEADERS = ("content-length", "content-type", "content-range", "etag", "last-modified")
LARGEST_UPLOAD = 5 * 2**30
"""Bytes of an object: as many as S3 accepts in one PUT."""
UPLOAD_S = 900
"""An upload ends within this time, as its presigned URL does."""
METHODS = ["GET", "HEAD", "PUT", "POST", "DELETE"]
NO_SUCH_KEY = "there is no such object"
READ_ONLY = "this store is read-only: it accepts GET and HEAD"


class S3Error(Exception):
    """An error with S3's status and code."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code

    def response(self) -> Response:
        """Return the error in S3's XML format."""
        fields = f"<Code>{self.code}</Code><Message>{escape(str(self))}</Message>"
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error>{fields}</Error>'
        return Response(body, self.status, media_type="application/xml")


@dataclass(frozen=True)
class Gateway:
    """Authentication of the gateway's clients."""

    backend: Backend
    revocation: Callable[[str, float], str]
    """Returns why a user (uid) has no access with keys of a time (Unix, s), or ''."""

    def authenticate(self, signed: SignedRequest, bucket: str) -> TransformRequest:
        """Return the transform request whose key signed this; raises `S3Error`."""
        try:
            request = self.backend.requests.by_access_key(signed.access_key)
            if request is None:
                message = "the access key belongs to no request; it may have been removed"
                raise S3Error(403, "InvalidAccessKeyId", message)
            signed.verify(request.secret_key, self.backend.context.clock())
        except SignatureError as error:
            raise S3Error(403, error.code, str(error)) from error
        if reason := self.revocation(request.owner_uid, request.created):
            raise S3Error(403, "AccessDenied", reason)
        if request.id != bucket:
            raise S3Error(403, "AccessDenied", "the access key belongs to another request")
        return request


def _signed(request: Request) -> SignedRequest:
    raw: bytes = request.scope["raw_path"]
    return SignedRequest(
        method=request.method,
        path=raw.decode("latin-1").partition("?")[0],
        query=list(request.query_params.multi_items()),
        headers={key.lower(): value for key, value in request.headers.items()},
    )


def application(gateway: Gateway) -> Starlette:
    """Return the gateway as an ASGI application."""
    backend = gateway.backend
    sessions: list[aiohttp.ClientSession] = []
    uploads: set[Path] = set()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=BLOCK_SIZE) as session:
            sessions.append(session)
            yield

    async def handle(request: Request) -> Response:
        bucket = request.path_params["bucket"]
        name = request.path_params.get("name", "")
        try:
            if request.method not in ("GET", "HEAD", "PUT"):
                raise S3Error(405, "MethodNotAllowed", READ_ONLY)
            transform_request = await run_in_threadpool(
                gateway.authenticate, _signed(request), bucket
            )
            if not name:
                return await run_in_threadpool(_listing, backend, transform_request, request)
            prefix = ObjectPrefix(transform_request.owner, transform_request.folder)
            if request.method == "PUT":
                return await _put(request, transform_request, prefix, name)
            # The store is asked for names of results only, never for a name as sent.
            present = backend.requests.has_object
            if not await run_in_threadpool(present, transform_request.id, name):
                raise S3Error(404, "NoSuchKey", NO_SUCH_KEY)
            return await _get(request, prefix, name)
        except S3Error as error:
            LOG.info("%s %s: %s", request.method, request.url.path, error)
            return error.response()

    async def _put(
        request: Request, transform_request: TransformRequest, prefix: ObjectPrefix, name: str
    ) -> Response:
        # Transformers upload here only where results are files; else to the store itself.
        if not isinstance(backend.context.store, FolderStore):
            raise S3Error(405, "MethodNotAllowed", READ_ONLY)
        # The owner has the key of the request, too, and must not replace or add results.
        if not await run_in_threadpool(backend.queue.expects, transform_request.id, name):
            raise S3Error(403, "AccessDenied", "no transformer is processing a file of this name")
        path = backend.context.store.path(prefix, name)
        if path in uploads:
            raise S3Error(409, "OperationAborted", "another upload of this object is going on")
        uploads.add(path)
        try:
            async with asyncio.timeout(UPLOAD_S):
                await _receive(request, path)
        except TimeoutError as error:
            message = f"the object did not arrive within {UPLOAD_S:g} s"
            raise S3Error(400, "RequestTimeout", message) from error
        finally:
            uploads.discard(path)
        return Response(status_code=200)

    async def _get(request: Request, prefix: ObjectPrefix, name: str) -> Response:
        if isinstance(backend.context.store, FolderStore):
            path = backend.context.store.path(prefix, name)
            if not path.is_file():
                raise S3Error(404, "NoSuchKey", NO_SUCH_KEY)
            return FileResponse(path, media_type="application/octet-stream")
        url = backend.context.store.presigned_url(request.method, prefix, name, FETCH_URL_S)
        return await _forward(request, url)

    async def _forward(request: Request, url: str) -> Response:
        """Return the store's response for a presigned URL."""
        headers = {"Range": request.headers["range"]} if "range" in request.headers else {}
        try:
            response = await sessions[0].request(
                request.method,
                URL(url, encoded=True),
                headers=headers,
                skip_auto_headers=["Accept"],
            )
        except (aiohttp.ClientError, TimeoutError) as error:
            raise S3Error(
                503, "SlowDown", f"the object store does not respond ({error})"
            ) from error
        if response.status == 404:
            response.release()
            raise S3Error(404, "NoSuchKey", NO_SUCH_KEY)
        forwarded = {
            key: response.headers[key] for key in FORWARDED_HEADERS if key in response.headers
        }
        if response.status >= 400:
            text = (await response.text())[:300]
            LOG.warning("the object store responded with %s: %s", response.status, text)
            status, code = (416, "InvalidRange") if response.status == 416 else (503, "SlowDown")
            raise S3Error(status, code, f"the object store responded with {response.status}")
        forwarded["accept-ranges"] = "bytes"
        if request.method == "HEAD":
            response.release()
            return Response(status_code=response.status, headers=forwarded)

        async def body() -> AsyncIterator[bytes]:
            async with response:
                async for block in response.content.iter_chunked(BLOCK_SIZE):
                    yield block

        return StreamingResponse(body(), response.status, headers=forwarded)

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(
        lifespan=lifespan,
        routes=[
            Route("/healthz", health),
            Route("/{bucket}", handle, methods=METHODS),
            Route("/{bucket}/", handle, methods=METHODS),
            Route("/{bucket}/{name:path}", handle, methods=METHODS),
        ],
    )


async def _receive(request: Request, path: Path) -> None:
    """Write the body of a request to a file, which exists once it is complete."""
    too_large = S3Error(
        400, "EntityTooLarge", f"the object is larger than {LARGEST_UPLOAD / 2**30:g} GiB"
    )
    if int(request.headers.get("content-length", 0)) > LARGEST_UPLOAD:
        raise too_large
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, size = path.with_name(f".{path.name}.partial"), 0
    try:
        with partial.open("wb") as file:
            async for block in request.stream():
                size += len(block)
                if size > LARGEST_UPLOAD:
                    raise too_large
                await run_in_threadpool(file.write, block)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _listing(backend: Backend, transform_request: TransformRequest, request: Request) -> Response:
    """Return the objects of a bucket in one page."""
    if request.method == "HEAD":
        return Response(status_code=200)
    prefix = request.query_params.get("prefix", "")
    owner = Owner(transform_request.owner, transform_request.owner_uid)
    files = [
        file
        for file in backend.requests.files(owner, transform_request.id, states=("done",))
        if file.object.startswith(prefix)
    ]

    def entry(file: File) -> str:
        modified = datetime.fromtimestamp(file.result_at / 1e6, UTC)
        return (
            f"<Contents><Key>{escape(file.object)}</Key>"
            f"<LastModified>{modified:%Y-%m-%dT%H:%M:%S.000Z}</LastModified>"
            f"<Size>{file.bytes}</Size></Contents>"
        )

    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{transform_request.id}</Name><Prefix>{escape(prefix)}</Prefix>"
        f"<KeyCount>{len(files)}</KeyCount>"
        f"<MaxKeys>{max(1000, len(files))}</MaxKeys><IsTruncated>false</IsTruncated>"
        f"{''.join(map(entry, files))}</ListBucketResult>"
    )
    return Response(body, media_type="application/xml")
