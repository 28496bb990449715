"""Uploads of artifacts within their users' quotas: refused before anything of a body is read.

The facility API says how much a user may store, and how much of it is stored elsewhere.  The
artifacts are counted in the artifact store, and uploads since then are added.
"""

import asyncio
import logging
import os
import posixpath
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
from coffea_shoppe_contract.api import ARTIFACT_QUOTA_PATH
from coffea_shoppe_contract.names import artifact_folder, workspace_name
from coffea_shoppe_identity import bearer
from mlflow.exceptions import _UnsupportedMultipartUploadException
from mlflow.server import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coffea_shoppe_mlflow import auth
from coffea_shoppe_mlflow.endpoints import MULTIPART, UPLOAD

LOG = logging.getLogger(__name__)
FRESH_S = 30
"""Quota and count are used for so long, plus what is uploaded meanwhile."""
RECOUNT_S = 2
"""Before a refusal, both are read again unless they are this fresh: space may be free again."""
TIMEOUT_S = 5
GB = 10**9


class OverQuotaError(Exception):
    """An upload that would exceed its user's quota; the text says so to the user."""


@dataclass(frozen=True)
class Quota:
    """What a user may store, as the facility API says."""

    limit: int = 0
    """Bytes of bucket and artifacts; 0: no limit."""
    elsewhere: int = 0
    """Bytes in the user's bucket."""


def read_quota(token: str) -> Quota:
    """Return the quota of a token's user; raises what `requests` does, and `ValueError`."""
    url = f"{auth.settings()['facility']['api'].rstrip('/')}{ARTIFACT_QUOTA_PATH}"
    headers = {"Authorization": f"Bearer {token}"}
    response = requests.get(url, headers=headers, timeout=TIMEOUT_S)
    response.raise_for_status()
    return Quota(**response.json())


def stored_bytes(workspace: str) -> int:
    """Return the size of a workspace's artifacts, as the artifact store counts it."""
    destination = os.environ[ARTIFACTS_DESTINATION_ENV_VAR]
    folder = artifact_folder(workspace)
    if urlsplit(destination).scheme != "s3":
        return sum(_size(path) for path in (Path(destination) / folder).rglob("*"))
    repository = get_artifact_repository(destination)
    bucket, root = repository.parse_s3_compliant_uri(destination)
    pages = repository._get_s3_client().get_paginator("list_objects_v2")
    listed = pages.paginate(Bucket=bucket, Prefix=f"{posixpath.join(root, folder)}/")
    return sum(entry["Size"] for page in listed for entry in page.get("Contents", ()))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0  # removed meanwhile


class Account:
    """What one user has stored, and uploads at present."""

    def __init__(
        self, user: str, read: Callable[[str], Quota], count: Callable[[str], int]
    ) -> None:
        self.workspace, self.read, self.count = workspace_name(user), read, count
        self.quota = Quota()
        self.counted = 0
        """Bytes of artifacts at the last count."""
        self.since = 0
        """Bytes of uploads that have ended since."""
        self.arriving = 0
        """Bytes of uploads that go on."""
        self._refreshed = -float("inf")
        self._lock = asyncio.Lock()

    def fits(self, size: int) -> bool:
        """Return whether so many bytes more are within the quota, as far as it is known."""
        stored = self.quota.elsewhere + self.counted + self.since + self.arriving
        return not self.quota.limit or stored + size <= self.quota.limit

    async def reserve(self, size: int, token: str) -> None:
        """Count an upload of so many bytes as arriving; raises `OverQuotaError`."""
        async with self._lock:
            await self._refresh(token, older_than_s=FRESH_S)
            if not self.fits(size):
                await self._refresh(token, older_than_s=RECOUNT_S)
            self.require(size)
            self.arriving += size

    def require(self, size: int, *, before: int = 0) -> None:
        """Raise `OverQuotaError` unless so many bytes more are within the quota.

        `before` bytes of the same upload have arrived.
        """
        if not self.fits(size):
            artifacts = self.counted + self.since + self.arriving - before
            raise OverQuotaError(
                f"this upload would exceed your quota of {_gigabytes(self.quota.limit)}: you have "
                f"{_gigabytes(artifacts)} of artifacts in MLflow and "
                f"{_gigabytes(self.quota.elsewhere)} in your bucket, and it has "
                f"{_gigabytes(before + size)}; delete what you do not need, or ask for more"
            )

    def end(self, size: int, *, stored: bool) -> None:
        """Count an upload of so many bytes as ended."""
        self.arriving -= size
        self.since += size if stored else 0

    async def _refresh(self, token: str, *, older_than_s: float) -> None:
        """Read the quota and count the artifacts, unless both are fresh.

        A failure leaves both as they are: the operator still counts, and a training that
        took hours should not lose its results.
        """
        if time.monotonic() - self._refreshed <= older_than_s:
            return
        self._refreshed = time.monotonic()
        try:
            self.quota = await asyncio.to_thread(self.read, token)
            if self.quota.limit:
                ended_before = self.since
                self.counted = await asyncio.to_thread(self.count, self.workspace)
                # An upload that ended during the count may be in it, or not.
                self.since -= ended_before
        except Exception as error:
            LOG.warning("%s: its quota is unknown: %s", self.workspace, error)


def _gigabytes(size: int) -> str:
    return f"{size / GB:.3g} GB"


class UploadQuota:
    """Middleware: refuses uploads that would exceed their user's quota."""

    def __init__(
        self,
        application: ASGIApp,
        *,
        read: Callable[[str], Quota] = read_quota,
        count: Callable[[str], int] = stored_bytes,
    ) -> None:
        self.application, self.read, self.count = application, read, count
        self.accounts: dict[str, Account] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        request = f"{scope['method']} {scope['path']}" if scope["type"] == "http" else ""
        identity, authorization = None, ""
        if UPLOAD.fullmatch(request) or MULTIPART.fullmatch(request):
            authorization = Headers(scope=scope).get("authorization", "")
            identity = auth.sender_of(authorization).identity
        if identity is None:
            # MLflow itself refuses a sender who is not known.
            await self.application(scope, receive, send)
            return
        token = bearer(authorization)
        account = self.accounts.setdefault(
            identity.uid, Account(identity.user, self.read, self.count)
        )
        try:
            if MULTIPART.fullmatch(request):
                await account.reserve(0, token)
                if account.quota.limit:
                    # MLflow's client uploads the file in one part then.
                    message = _UnsupportedMultipartUploadException.MESSAGE
                    await _refuse(501, "NOT_IMPLEMENTED", message, scope, receive, send)
                else:
                    await self.application(scope, receive, send)
            else:
                await self._upload(account, token, scope, receive, send)
        except OverQuotaError as error:
            await _refuse(413, "RESOURCE_EXHAUSTED", str(error), scope, receive, send)

    async def _upload(
        self, account: Account, token: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Serve an upload; raises `OverQuotaError` before a response to it."""
        announced = Headers(scope=scope).get("content-length")
        size = int(announced) if announced else 0
        await account.reserve(size, token)
        status, refusal = 0, None

        async def receive_counted() -> Message:
            nonlocal size, refusal
            message = await receive()
            if announced is None and (more := len(message.get("body", b""))):
                try:
                    account.require(more, before=size)
                except OverQuotaError as error:
                    refusal = error
                    raise
                account.arriving += more
                size += more
            return message

        async def send_noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.application(scope, receive_counted, send_noted)
        except Exception:
            # The application may have put the refusal into a group of exceptions.
            if refusal and not status:
                raise refusal from None
            raise
        finally:
            account.end(size, stored=200 <= status < 300)


async def _refuse(
    status: int, code: str, message: str, scope: Scope, receive: Receive, send: Send
) -> None:
    """Send an error in MLflow's form; what is left of the body is not read."""
    content = {"error_code": code, "message": message}
    await JSONResponse(content, status, {"Connection": "close"})(scope, receive, send)
