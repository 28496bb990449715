"""The queue of input files: leased by transformers, then completed, retried or failed.

Each call is one transaction, so that a process that is killed leaves a request as it was
before or after the call.  An object is stored before its file counts as done.
"""

import logging
from collections.abc import Sequence
from pathlib import PurePosixPath

from coffea_shoppe_contract import Cache, cache_of
from sqlalchemy import and_, func, select, true
from sqlalchemy.orm import Session

from coffea_shoppe_servicex import identities
from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.database import File, Request, User, transaction
from coffea_shoppe_servicex.errors import LeaseLostError
from coffea_shoppe_servicex.formats import SUFFIXES
from coffea_shoppe_servicex.identities import Identity
from coffea_shoppe_servicex.lifecycle import Lifecycle
from coffea_shoppe_servicex.models import MESSAGE_LENGTH, Lease, Result
from coffea_shoppe_servicex.objects import Key, ObjectPrefix

LOG = logging.getLogger(__name__)
LOG_LENGTH = 20_000
"""Characters that are kept of a file's log, from its end."""
LONGEST_BACKOFF_S = 60
RELEASED_S = 60
"""Seconds until a released file is leased again."""
EXPIRED_PER_ROUND = 500


class FileQueue:
    """The input files of all running requests."""

    def __init__(self, context: Context, lifecycle: Lifecycle) -> None:
        self.context, self.lifecycle = context, lifecycle

    def lease(
        self, transformer: str, *, memory: int, request_id: str = "", any_codegen: bool = False
    ) -> Lease | None:
        """Lease the next file that needs at most `memory` MiB; None if none is waiting.

        Shared transformers (no `request_id`) get files of declared queries, or of all
        queries with `any_codegen`; dedicated ones get files of their request.  Fair share:
        first comes the user with the fewest leased files per share, then that user's request
        with the fewest leased files, so that small requests do not wait for large ones.
        """
        now, limits = self.context.clock(), self.context.settings.limits
        leased = File.state == "leased"
        count = func.count().label("count")
        per_user = select(File.owner, count).where(leased).group_by(File.owner).subquery()
        per_request = (
            select(File.request_id, count).where(leased).group_by(File.request_id).subquery()
        )
        if request_id:
            eligible = File.request_id == request_id
        else:
            eligible = true() if any_codegen else File.pool.is_(True)
        with transaction(self.context.engine) as session:
            file = session.scalars(
                select(File)
                .join(Request, Request.id == File.request_id)
                .outerjoin(per_user, per_user.c.owner == File.owner)
                .outerjoin(per_request, per_request.c.request_id == File.request_id)
                .outerjoin(User, User.name == File.owner)
                .where(
                    and_(File.state == "waiting", File.not_before <= now, File.memory <= memory),
                    Request.status == "Running",
                    eligible,
                )
                .order_by(
                    func.coalesce(per_user.c.count, 0) / func.coalesce(User.share, 1.0),
                    func.coalesce(per_request.c.count, 0),
                    Request.created,
                    File.id,
                )
                .limit(1)
                .with_for_update(of=File, skip_locked=True)
            ).first()
            if file is None:
                return None
            file.state, file.transformer = "leased", transformer
            file.attempt += 1
            file.lease_until = now + limits.lease_s
            request = session.get_one(Request, file.request_id)
            return Lease(
                file=file.id,
                attempt=file.attempt,
                request=request.id,
                codegen=request.codegen,
                selection=request.selection,
                result_format=request.result_format,
                source_urls=self.source_urls(file.urls, file.identity),
                identity=file.identity,
                memory=file.memory,
                deadline_s=limits.deadline_s,
                lease_s=limits.lease_s,
            )

    def source_urls(self, replicas: Sequence[str], identity: Sequence[Identity] = ()) -> list[str]:
        """Return the URLs to read a file from: first through the cache, then its replicas.

        The cache has an entry for each identity.  It is not asked for a file that its origin
        lacks, which it may have, nor for one of which its origin gives an earlier content.
        """
        origins = [url.replace("davs://", "https://", 1) for url in replicas]
        caches = self.context.settings.caches
        if identities.is_absent(identity) or identities.is_earlier(identity):
            return origins
        remote = (url for url in origins if url.startswith(("root://", "xroot://")))
        cached = [in_cache for url in remote if (in_cache := _in_cache(caches, url))]
        if identities.is_known(identity):
            cached = [identities.with_content(url, identity) for url in cached]
        return [*cached, *origins]

    def _leased(
        self,
        session: Session,
        file_id: int,
        attempt: int,
        request_id: str,
        *,
        lock_request: bool = False,
    ) -> File:
        """Return a file, locked, if this attempt still has its lease; else `LeaseLostError`.

        With `lock_request`, its request is locked first: always in this order, since two
        transactions that lock both in different orders would block each other.
        """
        of_request = session.scalar(select(File.request_id).where(File.id == file_id))
        if of_request and lock_request:
            session.get(Request, of_request, with_for_update=True)
        file = session.get(File, file_id, with_for_update=True)
        if file is None or file.state != "leased" or file.attempt != attempt:
            raise LeaseLostError("the lease of this file has ended")
        if request_id and file.request_id != request_id:
            raise LeaseLostError("this file belongs to another request")
        return file

    def renew(self, file_id: int, attempt: int, *, request_id: str = "") -> None:
        """Extend a lease; raises `LeaseLostError`."""
        with transaction(self.context.engine) as session:
            file = self._leased(session, file_id, attempt, request_id)
            file.lease_until = self.context.clock() + self.context.settings.limits.lease_s

    def upload_url(self, file_id: int, attempt: int, *, request_id: str = "") -> str:
        """Return a presigned URL for the upload of a result; raises `LeaseLostError`."""
        with transaction(self.context.engine) as session:
            file = self._leased(session, file_id, attempt, request_id)
            request = session.get_one(Request, file.request_id)
            key = Key(request.access_key, request.secret_key)
            prefix = ObjectPrefix(request.owner, request.folder)
            name = object_name(file, request.result_format, attempt)
            return self.context.store.upload_url(prefix, name, request.id, key)

    def expects(self, request_id: str, name: str) -> bool:
        """Return whether a leased attempt of a request stores its result by this name."""
        with transaction(self.context.engine) as session:
            request = session.get_one(Request, request_id)
            leased = and_(File.request_id == request_id, File.state == "leased")
            return any(
                object_name(file, request.result_format, file.attempt) == name
                for file in session.scalars(select(File).where(leased))
            )

    def complete(self, file_id: int, attempt: int, result: Result, *, request_id: str = "") -> None:
        """Mark a file as done after its object is stored; raises `LeaseLostError`.

        Its size counts as the store has it.  Without an object, the attempt has failed.
        """
        stored_bytes = self._stored_bytes(file_id, attempt, request_id)
        with transaction(self.context.engine) as session:
            file = self._leased(session, file_id, attempt, request_id, lock_request=True)
            request = session.get_one(Request, file.request_id)
            if request.status != "Running":
                raise LeaseLostError("the request has ended")
            if stored_bytes is None:
                message = "its transformer reported a result and stored none"
                self._record_failure(session, request, file, "MissingResult", message, retry=True)
                return
            file.state, file.bytes, file.read = "done", stored_bytes, result.read
            file.events, file.seconds = result.events, result.seconds
            file.log = result.log[-LOG_LENGTH:]
            file.object = object_name(file, request.result_format, attempt)
            file.reason = file.message = ""
            if not request.failed:
                request.reason = ""  # a delay that was noted is over
            self.lifecycle.count_file(session, request, file)
            prefix = ObjectPrefix(request.owner, request.folder)
        for earlier in range(1, attempt):
            name = object_name(file, request.result_format, earlier)
            try:
                self.context.store.remove(prefix, name)
            except Exception as error:
                # Housekeeping removes orphaned objects after the request's end.
                LOG.warning("%s: cannot remove the orphan %s: %s", request.id, name, error)

    def _stored_bytes(self, file_id: int, attempt: int, request_id: str) -> int | None:
        """Return the size of the object of an attempt; None if there is no object."""
        with transaction(self.context.engine) as session:
            file = self._leased(session, file_id, attempt, request_id)
            request = session.get_one(Request, file.request_id)
            prefix = ObjectPrefix(request.owner, request.folder)
            name = object_name(file, request.result_format, attempt)
        # Outside of a transaction: a slow store must not block those who need the rows.
        return self.context.store.size(prefix, name)

    def fail(
        self,
        file_id: int,
        attempt: int,
        *,
        reason: str,
        message: str,
        retry: bool,
        log: str = "",
        request_id: str = "",
    ) -> None:
        """Record a failed attempt; raises `LeaseLostError`.

        `retry` returns the file to the queue while attempts are left.  After `OutOfMemory`
        it returns with twice the memory, up to the limit.
        """
        with transaction(self.context.engine) as session:
            file = self._leased(session, file_id, attempt, request_id, lock_request=True)
            request = session.get_one(Request, file.request_id)
            self._record_failure(session, request, file, reason, message, retry=retry, log=log)

    def _record_failure(
        self,
        session: Session,
        request: Request,
        file: File,
        reason: str,
        message: str,
        *,
        retry: bool,
        log: str = "",
    ) -> None:
        limits = self.context.settings.limits
        file.reason, file.message = reason, message[:MESSAGE_LENGTH]
        file.log = log[-LOG_LENGTH:] or file.log
        if reason == "OutOfMemory":
            retry = file.memory < limits.memory_max_mib
            file.memory = min(2 * file.memory, limits.memory_max_mib)
        if retry and file.attempt < limits.attempts and request.status == "Running":
            file.state = "waiting"
            file.not_before = self.context.clock() + min(2.0**file.attempt, LONGEST_BACKOFF_S)
            return
        file.state = "failed"
        self.lifecycle.count_file(session, request, file)

    def release(self, transformer: str, request_id: str) -> None:
        """Return the files of a transformer that is ended for others' sake to the queue.

        The attempt does not count.  Its number is given out again once the transformer has
        surely ended.
        """
        with transaction(self.context.engine) as session:
            leased = and_(
                File.request_id == request_id,
                File.state == "leased",
                File.transformer == transformer,
            )
            for file in session.scalars(select(File).where(leased).with_for_update()):
                file.state, file.attempt = "waiting", file.attempt - 1
                file.not_before = self.context.clock() + RELEASED_S

    def expire_leases(self) -> int:
        """Return files with an expired lease to the queue, or fail them; return how many."""
        now = self.context.clock()
        with transaction(self.context.engine) as session:
            overdue = select(File.id, File.attempt, File.request_id).where(
                File.state == "leased", File.lease_until < now
            )
            leases = session.execute(overdue.limit(EXPIRED_PER_ROUND)).all()
        expired = 0
        for file_id, attempt, request_id in leases:
            with transaction(self.context.engine) as session:
                try:
                    file = self._leased(session, file_id, attempt, request_id, lock_request=True)
                except LeaseLostError:
                    continue  # completed, failed or canceled in the meantime
                if file.lease_until < now:
                    request = session.get_one(Request, request_id)
                    message = f"its transformer ended without a result {file.attempt} times"
                    self._record_failure(
                        session, request, file, "TransformerLost", message, retry=True
                    )
                    expired += 1
        return expired


def object_name(file: File, result_format: str, attempt: int) -> str:
    """Return the object name of a file's result: its number and a readable part of its URL.

    Each attempt has its own name, so that a late upload overwrites nothing.
    """
    stem = PurePosixPath(str(file.urls[0]).split("?")[0]).name.rpartition(".")[0] or "file"
    readable = "".join(c if c.isalnum() or c in "-_" else "_" for c in stem)[-80:]
    suffix = f".{attempt}" if attempt > 1 else ""
    return f"{file.number:06d}-{readable}{suffix}{SUFFIXES[result_format]}"


def _in_cache(caches: Sequence[Cache], url: str) -> str:
    """Return the URL of a file in the cache for it; '' without one."""
    try:
        cache = cache_of(caches, url)
    except ValueError:
        return ""
    return cache.url(url) if cache else ""
