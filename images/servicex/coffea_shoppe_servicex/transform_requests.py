"""Transform requests as their owners use them: submit, read, cancel, delete."""

import secrets
import uuid
from collections.abc import Sequence

from coffea_shoppe_contract.addresses import repeated, shown_address
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from coffea_shoppe_servicex import addresses
from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.database import File, Request, transaction
from coffea_shoppe_servicex.errors import ForbiddenError, NotFoundError, QueryError
from coffea_shoppe_servicex.faults import REVISION
from coffea_shoppe_servicex.lifecycle import Lifecycle
from coffea_shoppe_servicex.models import (
    MESSAGE_LENGTH,
    OPEN_STATUSES,
    History,
    Owner,
    Submission,
)

DID_SCHEMES = ("rucio", "cernopendata", "xrootd")


class TransformRequests:
    """The transform requests of all users."""

    def __init__(self, context: Context, lifecycle: Lifecycle) -> None:
        self.context, self.lifecycle = context, lifecycle

    def submit(self, owner: Owner, submission: Submission) -> Request:
        """Create a request; raises `QueryError` if it could never succeed."""
        self.context.codegens.parse(
            submission.codegen, submission.selection, submission.result_format
        )
        if submission.result_destination != "object-store":
            raise QueryError(
                f"result-destination: {submission.result_destination!r} is not offered; set "
                "'object-store' (results are also files below your bucket)"
            )
        request = self._new_request(owner, submission)
        files = []
        if submission.file_list is not None:
            files = [{"paths": [path]} for path in self.check_files(submission.file_list)]
        elif submission.did:
            scheme, separator, name = addresses.split_did(submission.did)[0].partition("://")
            if not separator or scheme not in DID_SCHEMES or not name:
                schemes = ", ".join(f"{scheme}://" for scheme in DID_SCHEMES)
                raise QueryError(f"did: {submission.did!r} must begin with one of {schemes}")
        else:
            raise QueryError("the request names no input: set did or file-list")
        with transaction(self.context.engine) as session:
            session.add(request)
            if files:
                # Their origins are asked by the controller, in a process without keys.
                self.lifecycle.store_files(session, request, files)
        return request

    def _new_request(self, owner: Owner, submission: Submission) -> Request:
        identifier = str(uuid.uuid4())
        access_key, secret_key = _new_keys()
        return Request(
            id=identifier,
            owner=owner.user,
            owner_uid=owner.uid,
            title=submission.title or "",
            did=submission.did or "",
            codegen=submission.codegen,
            selection=submission.selection,
            result_format=submission.result_format,
            status="Lookup",
            memory=self.context.settings.limits.memory_mib,
            folder=identifier,
            created=self.context.clock(),
            finished=None,
            access_key=access_key,
            secret_key=secret_key,
            dataset_id=0,
            cache_key="",
            revision=REVISION,
            files=0,
            completed=0,
            failed=0,
            bytes=0,
            last_result=0,
            reason="",
            remarks="",
            deleted=False,
            swept=False,
        )

    def check_files(self, paths: Sequence[str]) -> list[str]:
        """Return a file list unchanged; raises `QueryError` if it is not valid."""
        limit = self.context.settings.limits.files_per_request
        if not paths:
            raise QueryError("the file-list is empty: name at least one file")
        if len(paths) > limit:
            raise QueryError(
                f"the file-list has {len(paths)} files; at most {limit} are accepted in one request"
            )
        for path in paths:
            if not path.strip():
                raise QueryError("the file-list has an empty name: remove it")
            addresses.check(path, local_files=self.context.settings.local_files)
        for first, again in repeated(paths):
            spelt = "" if first == again else f", the first time as {shown_address(first)!r}"
            repetition = f"the file-list has {shown_address(again)!r} twice{spelt}"
            raise QueryError(f"{repetition}: name each file once")
        return list(paths)

    def get(self, owner: Owner, identifier: str) -> Request:
        """Return a request; raises `NotFoundError` or `ForbiddenError`."""
        with transaction(self.context.engine) as session:
            return self._owned(session, owner, identifier)

    def _owned(
        self, session: Session, owner: Owner, identifier: str, *, lock: bool = False
    ) -> Request:
        request = session.get(Request, identifier, with_for_update=lock or None)
        if request is None or request.deleted:
            raise NotFoundError(f"there is no request {identifier!r}; it may have been removed")
        if request.owner_uid != owner.uid:
            raise ForbiddenError(f"the request {identifier!r} belongs to another user")
        if not request.access_key:
            # The user's access was revoked, and is granted again.
            request.access_key, request.secret_key = _new_keys()
        return request

    def owned_by(self, owner: Owner) -> list[Request]:
        """Return all requests of a user, newest first."""
        with transaction(self.context.engine) as session:
            owned = and_(Request.owner_uid == owner.uid, Request.deleted.is_(False))
            newest_first = select(Request).where(owned).order_by(Request.created.desc())
            return list(session.scalars(newest_first))

    def files(
        self, owner: Owner, identifier: str, *, after: int = 0, states: Sequence[str] = ()
    ) -> list[File]:
        """Return a request's files in the order of submission.

        With `after`, only those with a later result (Unix, µs); with `states`, only those in
        one of them.
        """
        with transaction(self.context.engine) as session:
            self._owned(session, owner, identifier)
            statement = select(File).where(File.request_id == identifier)
            if after:
                statement = statement.where(File.result_at > after)
            if states:
                statement = statement.where(File.state.in_(states))
            return list(session.scalars(statement.order_by(File.number)))

    def has_object(self, identifier: str, name: str) -> bool:
        """Return whether an object of that name is a result of a request."""
        with transaction(self.context.engine) as session:
            done = and_(File.request_id == identifier, File.state == "done", File.object == name)
            return session.scalars(select(File.number).where(done)).first() is not None

    def results(self, owner: Owner, identifier: str, after: int) -> list[File]:
        """Return the files that ended after a time (Unix, µs), in order of time."""
        files = self.files(owner, identifier, after=max(after, 1), states=("done", "failed"))
        return sorted(files, key=lambda file: file.result_at)

    def cancel(self, owner: Owner, identifier: str) -> Request:
        """Cancel a request; idempotent, and without effect on a request that has ended."""
        with transaction(self.context.engine) as session:
            request = self._owned(session, owner, identifier, lock=True)
            if request.status in OPEN_STATUSES:
                self.lifecycle.end(session, request, "Canceled", "canceled by its user")
            return request

    def delete(self, owner: Owner, identifier: str) -> None:
        """Delete a request, and its objects unless another request reuses them."""
        with transaction(self.context.engine) as session:
            request = self._owned(session, owner, identifier, lock=True)
            self.lifecycle.delete(session, request, "deleted by its user")

    def history(self, owner: Owner, codegen: str, selection: str) -> History:
        """Return the totals of a user's completed files of one query."""
        with transaction(self.context.engine) as session:
            sums = (func.count(), func.sum(File.read), func.sum(File.bytes), func.sum(File.seconds))
            files, read, size, seconds = session.execute(
                select(*sums)
                .join(Request, Request.id == File.request_id)
                .where(
                    File.state == "done",
                    Request.owner_uid == owner.uid,
                    Request.codegen == codegen,
                    Request.selection == selection,
                )
            ).one()
            return History(files, int(read or 0), int(size or 0), float(seconds or 0))

    def by_access_key(self, access_key: str) -> Request | None:
        """Return the request to which an S3 access key belongs, if any."""
        if not access_key:
            return None
        with transaction(self.context.engine) as session:
            return session.scalars(select(Request).where(Request.access_key == access_key)).first()

    def is_running(self, identifier: str) -> bool:
        """Return whether a request exists and its files are being transformed."""
        with transaction(self.context.engine) as session:
            request = session.get(Request, identifier)
            return request is not None and request.status == "Running"

    def note_delay(self, identifier: str, reason: str) -> None:
        """Record why an open request creates no progress; shown on its page."""
        with transaction(self.context.engine) as session:
            request = session.get(Request, identifier, with_for_update=True)
            if request and request.status in OPEN_STATUSES:
                request.reason = reason[:MESSAGE_LENGTH]


def _new_keys() -> tuple[str, str]:
    """Return a new S3 access key and secret key."""
    return f"SX{secrets.token_hex(9).upper()}", secrets.token_urlsafe(30)
