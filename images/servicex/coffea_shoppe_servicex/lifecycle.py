"""Status changes of transform requests: start, reuse of a result, end, deletion.

Callers open the transaction and, where the request is in the database already, lock its row.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import CursorResult, delete, insert, select, update
from sqlalchemy.orm import Session

from coffea_shoppe_servicex import identities
from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.database import File, Request, add_to_total
from coffea_shoppe_servicex.models import END_STATUSES, OPEN_STATUSES, REUSED
from coffea_shoppe_servicex.objects import ObjectPrefix

SUMMARY_FILES, SUMMARY_LENGTH, SUMMARY_LOG_LINES = 5, 300, 3
"""Limits of the failure summary: number of files, characters per reason, log lines."""


class Lifecycle:
    """Changes of a request's status, each within the caller's transaction."""

    def __init__(self, context: Context) -> None:
        self.context, self.codegens = context, context.codegens

    def cache_key(self, request: Request, files: Sequence[Mapping[str, Any]]) -> str:
        """Return a hash that is equal for requests with equal results; '' if there is none.

        It covers owner, query, format, transformer image, revision of the code, the file of an
        added code generator, and the input files with their identities; their order is ignored.
        Without the identity of each file, a result may be that of an earlier content.
        """
        if not all(identities.is_known(file["identity"]) for file in files):
            return ""
        parts = [
            *(request.owner_uid, request.codegen, request.selection, request.result_format),
            *(self.context.settings.image, request.revision),
            sorted([file["paths"][0], identities.content(file["identity"])] for file in files),
        ]
        if version := self.codegens.versions.get(request.codegen):
            parts.append(version)
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def reuse_result(self, session: Session, request: Request) -> bool:
        """Complete a request with the result of an earlier one that has the same cache key.

        Return whether there is such a result.
        """
        if not self.context.settings.result_cache or not request.cache_key:
            return False
        earlier = session.scalars(
            select(Request)
            .where(
                Request.cache_key == request.cache_key,
                Request.status == "Complete",
                Request.deleted.is_(False),
            )
            .order_by(Request.finished.desc())
            .limit(1)
            .with_for_update()
        ).first()
        if earlier is None:
            return False
        session.execute(delete(File).where(File.request_id == request.id))
        request.folder, request.status = earlier.folder, "Complete"
        request.files = request.completed = earlier.files
        request.bytes, request.finished = earlier.bytes, self.context.clock()
        request.last_result = earlier.last_result
        names = [c.name for c in File.__table__.columns if c.name not in ("id", "request_id")]
        rows = session.execute(
            select(*(getattr(File, name) for name in names)).where(File.request_id == earlier.id)
        )
        session.add(request)
        session.flush()
        copies = [dict(zip(names, row, strict=True)) | {"request_id": request.id} for row in rows]
        session.execute(insert(File), copies)
        add_to_total(session, "requests", REUSED)
        return True

    def start(self, session: Session, request: Request, files: Sequence[Mapping[str, Any]]) -> None:
        """Queue the files of a request and set its status to Running."""
        request.status = "Running"
        self.store_files(session, request, files)

    def store_files(
        self, session: Session, request: Request, files: Sequence[Mapping[str, Any]]
    ) -> None:
        """Store the files of a request in place of earlier ones.

        Each has `paths` and, once it was looked up, `address` and `identity`.
        """
        session.add(request)
        request.files = len(files)
        session.flush()
        session.execute(delete(File).where(File.request_id == request.id))
        session.execute(
            insert(File),
            [
                {
                    "request_id": request.id,
                    "owner": request.owner,
                    "number": number,
                    "urls": file["paths"],
                    "address": file.get("address", ""),
                    "identity": file.get("identity", []),
                    "pool": self.codegens.is_declared(request.codegen),
                    "state": "waiting",
                    "memory": request.memory,
                    **dict.fromkeys(("attempt", "bytes", "read", "events", "result_at"), 0),
                    **dict.fromkeys(("not_before", "lease_until", "seconds"), 0.0),
                    **dict.fromkeys(("transformer", "object", "reason", "message", "log"), ""),
                }
                for number, file in enumerate(files)
            ],
        )

    def count_file(self, session: Session, request: Request, file: File) -> None:
        """Count a file that is done or failed, and end the request after its last file."""
        request.last_result = max(int(self.context.clock() * 1e6), request.last_result + 1)
        file.result_at = request.last_result
        request.bytes += file.bytes
        add_to_total(session, "files", file.state)
        if file.state == "done":
            request.completed += 1
            add_to_total(session, "delivered_bytes", "", file.bytes)
        else:
            request.failed += 1
            if request.failed == 1:
                request.reason = f"{file.reason}: {file.message}"
        ended = request.completed + request.failed == request.files
        if request.status == "Running" and ended:
            success = request.failed == 0 or not self.context.settings.fail_closed
            reason = _failure_summary(session, request) if request.failed else request.reason
            self.end(session, request, "Complete" if success else "Fatal", reason)

    def end(self, session: Session, request: Request, status: str, reason: str) -> None:
        """Set the final status of an open request; unless it is Complete, cancel its open files."""
        request.status, request.reason = status, reason
        request.finished = self.context.clock()
        add_to_total(session, "requests", END_STATUSES[status])
        if status == "Complete":
            return
        canceled = session.execute(
            update(File)
            .where(File.request_id == request.id, File.state.in_(("waiting", "leased")))
            .values(state="canceled")
        )
        add_to_total(session, "files", "canceled", cast("CursorResult[Any]", canceled).rowcount)

    def delete(self, session: Session, request: Request, reason: str) -> None:
        """Cancel a request that is open, revoke its keys and remove its objects.

        The row stays: a transformer may still have a lease, and upload later.
        """
        if request.status in OPEN_STATUSES:
            self.end(session, request, "Canceled", reason)
        request.deleted = True
        request.access_key = request.secret_key = ""
        self._remove_objects(session, request)

    def purge(self, session: Session, request: Request) -> None:
        """Remove a request, its files and its objects."""
        # Objects first: if this fails, the row is still there and the next call tries again.
        self._remove_objects(session, request)
        session.execute(delete(File).where(File.request_id == request.id))
        session.delete(request)

    def _remove_objects(self, session: Session, request: Request) -> None:
        """Remove a request's objects unless another request reuses them."""
        sharing = select(Request.id).where(
            Request.folder == request.folder,
            Request.id != request.id,
            Request.deleted.is_(False),
        )
        if session.scalars(sharing.limit(1)).first() is None:
            self.context.store.remove_all(ObjectPrefix(request.owner, request.folder))


def _failure_summary(session: Session, request: Request) -> str:
    """Return the reasons of a request's first failed files, and the end of the first log."""
    session.flush()
    failed = select(File).where(File.request_id == request.id, File.state == "failed")
    first = list(session.scalars(failed.order_by(File.number).limit(SUMMARY_FILES)))
    reasons = [f"{file.reason}: {file.message}"[:SUMMARY_LENGTH] for file in first]
    if lines := [line.strip() for line in first[0].log.splitlines() if line.strip()]:
        tail = " / ".join(lines[-SUMMARY_LOG_LINES:])[-SUMMARY_LENGTH:]
        reasons[0] += f" [its log ends: {tail}]"
    if request.failed > len(first):
        reasons.append(f"and {request.failed - len(first)} more")
    if request.files > 1:
        reasons.insert(0, f"{request.failed} of {request.files} files failed")
    return "; ".join(reasons)
