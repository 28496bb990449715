"""JSON responses of the REST API, in the stock client's format."""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from coffea_shoppe_identity import RefusedError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.responses import JSONResponse

from coffea_shoppe_servicex.database import Dataset, File, Request
from coffea_shoppe_servicex.errors import (
    BusyServiceError,
    ForbiddenError,
    LeaseLostError,
    NotFoundError,
    QueryError,
)
from coffea_shoppe_servicex.settings import Settings

LOG = logging.getLogger(__name__)
VERSION = "1.8.0+shoppe"
TITLE_LENGTH = 3000
"""Maximum length of a title with the reason of a failure: the client shows no other text."""
DATABASE_UNAVAILABLE = (OperationalError, InterfaceError, PoolTimeoutError)
"""Errors while the database is down or restarts."""
STATUSES: Mapping[type[Exception], int] = {
    QueryError: 400,
    RefusedError: 401,
    ForbiddenError: 403,
    NotFoundError: 404,
    LeaseLostError: 409,
    BusyServiceError: 503,
    **dict.fromkeys(DATABASE_UNAVAILABLE, 503),
}
"""HTTP status of each error that a client may get."""
EXPECTED_ERRORS = tuple(STATUSES)


def iso_time(seconds: float | None) -> str | None:
    """Return a Unix time in ISO 8601, as the client parses it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def request_status(request: Request, settings: Settings, *, external: bool) -> dict[str, Any]:
    """Return a transform request; the client requires every key.

    `external`: the client is outside of the cluster, and needs the public S3 endpoint.
    """
    gateway = settings.s3_gateway
    public = external and bool(gateway.public_endpoint)
    title, reason = request.title, request.reason
    if reason and request.status in ("Fatal", "Bad Dataset"):
        title = f"{title}: {reason}"[:TITLE_LENGTH]
    ended = request.completed + request.failed
    pages_url = settings.pages.format(user=request.owner)
    return {
        "request_id": request.id,
        "did": request.did or f"file list of {request.files}",
        "did_id": request.dataset_id,
        "title": title,
        "selection": request.selection,
        "tree-name": None,
        "image": settings.image,
        "result-destination": "object-store",
        "result-format": request.result_format,
        "generated-code-cm": "",
        "status": request.status,
        "reason": reason,
        "remarks": request.remarks,
        "app-version": VERSION,
        "files": request.files,
        "files-completed": request.completed,
        "files-failed": request.failed,
        "files-remaining": request.files - ended,
        "submit-time": iso_time(request.created),
        "finish-time": iso_time(request.finished),
        "minio-endpoint": gateway.public_endpoint if public else gateway.endpoint,
        "minio-secured": gateway.public_secure if public else gateway.secure,
        "minio-access-key": request.access_key,
        "minio-secret-key": request.secret_key,
        "log-url": f"{pages_url}/{request.id}/log",
    }


def file_result(file: File) -> dict[str, Any]:
    """Return a file that has ended in the client's format."""
    ended_at = datetime.fromtimestamp(file.result_at / 1e6, UTC).replace(tzinfo=None)
    return {
        "transform_status": "success" if file.state == "done" else "failure",
        "s3-object-name": file.object,
        "created_at": ended_at.isoformat(timespec="microseconds"),
        "total-bytes": file.bytes,
        "total-events": file.events,
        "file-path": file.urls[0],
        "file-id": file.id,
        "reason": file.reason,
        "message": file.message,
        "attempts": file.attempt,
        "seconds": file.seconds,
        "read-bytes": file.read,
    }


def dataset_record(dataset: Dataset, *, with_files: bool) -> dict[str, Any]:
    """Return a dataset in the client's format."""
    files = [
        {
            "id": number,
            "adler32": file.get("adler32", ""),
            "file_size": file.get("size", 0),
            "file_events": file.get("events", 0),
            "paths": ",".join(file["paths"]),
        }
        for number, file in enumerate(dataset.files, 1)
    ]
    return {
        "id": dataset.id,
        "name": dataset.name,
        "did_finder": dataset.finder,
        "n_files": len(files),
        "size": sum(file["file_size"] for file in files),
        "events": sum(file["file_events"] for file in files),
        "last_used": iso_time(dataset.used),
        "last_updated": iso_time(dataset.updated),
        "lookup_status": dataset.status,
        "message": dataset.message,
        "is_stale": dataset.stale,
        "files": files if with_files else [],
    }


def error_response(error: Exception) -> JSONResponse:
    """Return one of `EXPECTED_ERRORS` with its status, and a message that the client shows."""
    status = next(code for kind, code in STATUSES.items() if isinstance(error, kind))
    message = str(error)
    if isinstance(error, DATABASE_UNAVAILABLE):
        LOG.warning("the database is not available: %s", error)
        message = "the service's database does not respond; try again in a minute"
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse({"message": message}, status, headers)
