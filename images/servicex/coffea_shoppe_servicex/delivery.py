"""The life of a request: submitted, looked up, given out file by file, ended, forgotten.

All state is in the database; each call is one transaction, so that whatever is killed in
between leaves the request as it was before or after it.  An object is stored before its
file counts as done.
"""

import hashlib
import json
import logging
import re
import secrets
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Engine, and_, delete, func, insert, or_, select, true, update
from sqlalchemy.orm import Session

from coffea_shoppe_servicex import queries
from coffea_shoppe_servicex.database import Dataset, File, Request, User, transaction
from coffea_shoppe_servicex.errors import (
    ForbiddenError,
    LeaseLostError,
    NotFoundError,
    QueryError,
)
from coffea_shoppe_servicex.finders import LookupFailedError
from coffea_shoppe_servicex.objects import FolderStore, Key, Place, S3Store
from coffea_shoppe_servicex.settings import Settings

LOG = logging.getLogger(__name__)
SUFFIXES = {"parquet": ".parquet", "root-file": ".root", "root-rntuple": ".root"}
OPEN = ("Lookup", "Running")
"""A request that has not ended."""
SCHEMES = ("rucio", "cernopendata", "xrootd")
URL = re.compile(r"(x?roots?|https?|davs)://(?!.*::)\S+")
"""What transformers read: no file of their own, and no chain of file systems."""
MESSAGE_LENGTH = 2000
LOG_LENGTH = 20_000
REASONS, REASON_LENGTH, LOG_LINES = 5, 300, 3
"""So many files' reasons, so much of each, and of the log, does a failed request tell."""
LATE_S = 1800
"""So long after its end a request is looked through for what lost transformers left."""


@dataclass(frozen=True)
class Owner:
    """Who asks."""

    user: str
    uid: str


class Quota(BaseModel):
    """What a user may have."""

    model_config = ConfigDict(extra="forbid")

    gigabytes: float = Field(default=0, ge=0)
    """The oldest results are removed beyond that; 0: no limit."""
    share: float = Field(default=1, gt=0)
    """How many files at a time, as against a user with a share of 1."""


class Submission(BaseModel):
    """What a client submits; what it tells besides is of no account."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    title: str | None = None
    did: str | None = None
    file_list: list[str] | None = Field(default=None, alias="file-list")
    selection: str
    codegen: str
    result_format: queries.Format = Field(default="parquet", alias="result-format")
    result_destination: str = Field(default="object-store", alias="result-destination")


@dataclass(frozen=True)
class Lease:
    """A file that a transformer has for a while, and all that it needs."""

    file: int
    attempt: int
    request: str
    codegen: str
    selection: str
    result_format: str
    places: list[str]
    memory: int
    deadline_s: float
    lease_s: float


@dataclass(frozen=True)
class Result:
    """What a transformer made of a file."""

    bytes: int
    events: int
    read: int
    seconds: float
    log: str = ""


@dataclass(frozen=True)
class OwnPods:
    """What a request needs of pods of its own."""

    request: Request
    memory: int
    files: int
    """More pods than that have nothing to do."""


@dataclass(frozen=True)
class History:
    """What transforms by a query took."""

    files: int = 0
    read: int = 0
    bytes: int = 0
    seconds: float = 0.0


class Delivery:
    """The requests of a facility."""

    def __init__(
        self,
        settings: Settings,
        engine: Engine,
        store: FolderStore | S3Store,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings, self.engine, self.store, self.clock = settings, engine, store, clock

    # What users ask for.

    def submit(self, owner: Owner, asked: Submission) -> Request:
        """Take a request; raises `QueryError` where it can never work."""
        offered = self.settings.codegens
        if asked.codegen not in offered:
            told = f"there is no codegen {asked.codegen!r} in this facility"
            raise QueryError(f"{told}; there are: {', '.join(offered)}")
        queries.parse(asked.codegen, asked.selection, asked.result_format)
        if asked.result_destination != "object-store":
            told = f"result-destination {asked.result_destination!r} is not offered"
            raise QueryError(f"{told}; results are objects, and files below your bucket")
        request = self._request(owner, asked)
        if asked.file_list is not None:
            files = [{"paths": [path]} for path in self.checked(asked.file_list)]
        elif asked.did:
            scheme, separator, name = asked.did.partition("://")
            if not separator or scheme not in SCHEMES or not name:
                known = ", ".join(f"{one}://" for one in SCHEMES)
                raise QueryError(f"did {asked.did!r}: it must begin with one of {known}")
            files = []
        else:
            raise QueryError("give a did, or a file-list")
        with transaction(self.engine) as session:
            if files:
                request.cache_key = self._cache_key(request, files)
                if not self._from_cache(session, request):
                    self._begin(session, request, files)
            session.add(request)
        return request

    def _request(self, owner: Owner, asked: Submission) -> Request:
        identifier, keys = str(uuid.uuid4()), _new_keys()
        return Request(
            id=identifier,
            owner=owner.user,
            owner_uid=owner.uid,
            title=asked.title or "",
            did=asked.did or "",
            codegen=asked.codegen,
            selection=asked.selection,
            result_format=asked.result_format,
            status="Lookup",
            memory=self.settings.limits.memory_mi_b,
            folder=identifier,
            created=self.clock(),
            finished=None,
            access_key=keys[0],
            secret_key=keys[1],
            dataset_id=0,
            cache_key="",
            files=0,
            completed=0,
            failed=0,
            bytes=0,
            last_result=0,
            reason="",
            deleted=False,
            swept=False,
            worker_key="",
        )

    def checked(self, files: Sequence[str]) -> list[str]:
        """Return a list of files; raises `QueryError` for what is wrong with it."""
        limit = self.settings.limits.files_per_request
        if not files:
            raise QueryError("the file-list is empty: there is nothing to transform")
        if len(files) > limit:
            raise QueryError(f"the file-list has {len(files)} files; at most {limit} are taken")
        seen: set[str] = set()
        for path in files:
            if not path.strip():
                raise QueryError("the file-list has an empty name")
            if not self.settings.local_files and not URL.fullmatch(path):
                raise QueryError(f"{path!r} cannot be read from here: give root:// or https://")
            if path in seen:
                raise QueryError(f"the file-list has {path!r} twice: name each file once")
            seen.add(path)
        return list(files)

    def _cache_key(self, request: Request, files: Sequence[Mapping[str, Any]]) -> str:
        """Return what two requests with the same result share, in whatever order their files."""
        parts = [
            *(request.owner_uid, request.codegen, request.selection, request.result_format),
            *(self.settings.image, sorted(file["paths"][0] for file in files)),
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _from_cache(self, session: Session, request: Request) -> bool:
        """Give a request the result of an earlier one that was the same; return whether."""
        if not self.settings.result_cache:
            return False
        found = session.scalars(
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
        if found is None:
            return False
        request.folder, request.status = found.folder, "Complete"
        request.files = request.completed = found.files
        request.bytes, request.finished = found.bytes, self.clock()
        request.last_result = found.last_result
        names = [c.name for c in File.__table__.columns if c.name not in ("id", "request_id")]
        rows = session.execute(
            select(*(getattr(File, name) for name in names)).where(File.request_id == found.id)
        )
        session.add(request)
        session.flush()
        copies = [dict(zip(names, row, strict=True)) | {"request_id": request.id} for row in rows]
        session.execute(insert(File), copies)
        return True

    def _begin(
        self, session: Session, request: Request, files: Sequence[Mapping[str, Any]]
    ) -> None:
        """Give a request its files; transformers may take them from now on."""
        session.add(request)
        request.status, request.files = "Running", len(files)
        session.flush()
        session.execute(
            insert(File),
            [
                {
                    "request_id": request.id,
                    "owner": request.owner,
                    "number": number,
                    "places": file["paths"],
                    "pool": request.codegen in queries.DECLARED,
                    "state": "waiting",
                    "memory": request.memory,
                    **dict.fromkeys(("attempt", "bytes", "read", "events", "result_at"), 0),
                    **dict.fromkeys(("not_before", "lease_until", "seconds"), 0.0),
                    **dict.fromkeys(("worker", "object", "reason", "message", "log"), ""),
                }
                for number, file in enumerate(files)
            ],
        )

    def get(self, owner: Owner, identifier: str) -> Request:
        """Return a request; raises `NotFoundError` or `ForbiddenError`."""
        with transaction(self.engine) as session:
            return self._owned(session, owner, identifier)

    def _owned(
        self, session: Session, owner: Owner, identifier: str, *, lock: bool = False
    ) -> Request:
        found = session.get(Request, identifier, with_for_update=lock or None)
        if found is None or found.deleted:
            raise NotFoundError(f"there is no request {identifier!r}; it may have been removed")
        if found.owner_uid != owner.uid:
            raise ForbiddenError(f"the request {identifier!r} is another user's")
        if not found.access_key:
            # The user was shut out, and is let in again.
            found.access_key, found.secret_key = _new_keys()
        return found

    def mine(self, owner: Owner) -> list[Request]:
        """Return all requests of a user, the latest first."""
        with transaction(self.engine) as session:
            mine = and_(Request.owner_uid == owner.uid, Request.deleted.is_(False))
            asked = select(Request).where(mine)
            return list(session.scalars(asked.order_by(Request.created.desc())))

    def files(
        self, owner: Owner, identifier: str, *, after: int = 0, states: Sequence[str] = ()
    ) -> list[File]:
        """Return a request's files by number; those with a result later than `after` (µs)."""
        with transaction(self.engine) as session:
            self._owned(session, owner, identifier)
            asked = select(File).where(File.request_id == identifier)
            if after:
                asked = asked.where(File.result_at > after)
            if states:
                asked = asked.where(File.state.in_(states))
            return list(session.scalars(asked.order_by(File.number)))

    def results(self, owner: Owner, identifier: str, after: int) -> list[File]:
        """Return the files that have ended after a time (Unix, µs), in that order."""
        found = self.files(owner, identifier, after=max(after, 1), states=("done", "failed"))
        return sorted(found, key=lambda file: file.result_at)

    def cancel(self, owner: Owner, identifier: str) -> Request:
        """End a request; one that has ended already stays as it is."""
        with transaction(self.engine) as session:
            found = self._owned(session, owner, identifier, lock=True)
            if found.status in OPEN:
                self._end(session, found, "Canceled", "canceled by its user")
            return found

    def delete(self, owner: Owner, identifier: str) -> None:
        """Delete a request; its objects go unless another one shares them.

        A transformer may still have a file of it, and an address for the result: the
        row stays until what comes late can be removed, too.
        """
        with transaction(self.engine) as session:
            found = self._owned(session, owner, identifier, lock=True)
            self._delete(session, found, "deleted by its user")

    def _delete(self, session: Session, request: Request, reason: str) -> None:
        if request.status in OPEN:
            self._end(session, request, "Canceled", reason)
        request.deleted = True
        request.access_key = request.secret_key = ""
        self._remove_objects(session, request)

    def _remove_objects(self, session: Session, request: Request) -> None:
        shared = select(Request.id).where(
            Request.folder == request.folder,
            Request.id != request.id,
            Request.deleted.is_(False),
        )
        if session.scalars(shared.limit(1)).first() is None:
            self.store.remove_all(Place(request.owner, request.folder))

    def _forget(self, session: Session, request: Request) -> None:
        # The objects first: should that fail, the request is still there to try again.
        self._remove_objects(session, request)
        session.execute(delete(File).where(File.request_id == request.id))
        session.delete(request)

    def _end(self, session: Session, request: Request, status: str, reason: str) -> None:
        request.status, request.reason, request.finished = status, reason, self.clock()
        if status == "Complete":
            return
        session.execute(
            update(File)
            .where(File.request_id == request.id, File.state.in_(("waiting", "leased")))
            .values(state="canceled")
        )

    def history(self, owner: Owner, codegen: str, selection: str) -> History:
        """Return what a user's transforms by a query took."""
        with transaction(self.engine) as session:
            sums = (func.count(), func.sum(File.read), func.sum(File.bytes), func.sum(File.seconds))
            done = session.execute(
                select(*sums)
                .join(Request, Request.id == File.request_id)
                .where(
                    File.state == "done",
                    Request.owner_uid == owner.uid,
                    Request.codegen == codegen,
                    Request.selection == selection,
                )
            ).one()
            count, read, size, seconds = done
            return History(count, int(read or 0), int(size or 0), float(seconds or 0))

    # Datasets.

    def datasets(self, owner: Owner, *, finder: str = "", deleted: bool = False) -> list[Dataset]:
        """Return the datasets that a user's requests named."""
        with transaction(self.engine) as session:
            asked = select(Dataset).where(Dataset.owner == owner.uid)
            if finder:
                asked = asked.where(Dataset.finder == finder)
            if not deleted:
                asked = asked.where(Dataset.stale.is_(False))
            return list(session.scalars(asked.order_by(Dataset.id)))

    def dataset(self, owner: Owner, identifier: int) -> Dataset:
        """Return one of them; raises `NotFoundError` or `ForbiddenError`."""
        with transaction(self.engine) as session:
            return self._dataset(session, owner, identifier)

    def _dataset(self, session: Session, owner: Owner, identifier: int) -> Dataset:
        found = session.get(Dataset, identifier)
        if found is None:
            raise NotFoundError(f"there is no dataset {identifier}")
        if found.owner != owner.uid:
            raise ForbiddenError(f"the dataset {identifier} is another user's")
        return found

    def forget_dataset(self, owner: Owner, identifier: int) -> Dataset:
        """Have a dataset looked up anew by the next request that names it."""
        with transaction(self.engine) as session:
            found = self._dataset(session, owner, identifier)
            found.stale = True
            return found

    def look_up(self, find: Callable[[str], list[dict[str, Any]]]) -> bool:
        """Look up the dataset of one request that waits for it; return whether there was one.

        `find` raises `LookupFailedError`.
        """
        with transaction(self.engine) as session:
            waiting = select(Request).where(Request.status == "Lookup")
            request = session.scalars(waiting.order_by(Request.created).limit(1)).first()
            if request is None:
                return False
            name, _, options = request.did.partition("?")
            known = self._known(session, request.owner_uid, name)
        # Not within a transaction: it may take minutes.
        files: list[dict[str, Any]] = []
        status, message = "complete", ""
        if known is None:
            try:
                files = find(name)
            except LookupFailedError as error:
                status, message = error.status, str(error)
            if status == "complete" and not files:
                status, message = "does_not_exist", f"{name} has no files"
        with transaction(self.engine) as session:
            found = session.get(Request, request.id, with_for_update=True)
            if found is None or found.status != "Lookup":
                return True  # canceled meanwhile
            now = self.clock()
            dataset = session.get(Dataset, known.id) if known else None
            if dataset is None:
                dataset = Dataset(
                    owner=found.owner_uid,
                    name=name,
                    finder=name.partition("://")[0],
                    status=status,
                    message=message,
                    stale=False,
                    files=files,
                    updated=now,
                    used=now,
                )
                session.add(dataset)
            dataset.used = now
            session.flush()
            found.dataset_id = dataset.id
            if dataset.status != "complete":
                self._end(session, found, "Bad Dataset", dataset.message)
                return True
            chosen = self._first(dataset.files, options)
            found.cache_key = self._cache_key(found, chosen)
            if not self._from_cache(session, found):
                self._begin(session, found, chosen)
        return True

    @staticmethod
    def _known(session: Session, owner: str, name: str) -> Dataset | None:
        """Return a dataset that was looked up for a user before."""
        asked = select(Dataset).where(
            Dataset.owner == owner,
            Dataset.name == name,
            Dataset.status == "complete",
            Dataset.stale.is_(False),
        )
        return session.scalars(asked.limit(1)).first()

    @staticmethod
    def _first(files: list[dict[str, Any]], options: str) -> list[dict[str, Any]]:
        """Return the files that `?files=N` asks for: always the same ones."""
        wanted = dict(part.partition("=")[::2] for part in options.split("&")).get("files", "")
        ordered = sorted(files, key=lambda file: str(file["paths"][0]))
        return ordered[: int(wanted)] if wanted.isdigit() else ordered

    # What transformers ask for.

    def lease(
        self, worker: str, *, memory: int, request: str = "", everything: bool = False
    ) -> Lease | None:
        """Give a transformer a file, or None where none waits.

        A shared one gets files of the user who has the fewest under way for the user's
        share, and of that user's request which has the fewest, so that nothing waits for the
        whole of a large one; with
        declared queries unless it takes `everything`.  One of a request's own (`request`)
        gets that request's.
        """
        now, limits = self.clock(), self.settings.limits
        with transaction(self.engine) as session:
            leased = File.state == "leased"
            number = func.count().label("number")
            busy = select(File.owner, number).where(leased).group_by(File.owner).subquery()
            going = (
                select(File.request_id, number).where(leased).group_by(File.request_id).subquery()
            )
            mine = File.request_id == request if request else File.pool.is_(True)
            if everything and not request:
                mine = true()
            file = session.scalars(
                select(File)
                .join(Request, Request.id == File.request_id)
                .outerjoin(busy, busy.c.owner == File.owner)
                .outerjoin(going, going.c.request_id == File.request_id)
                .outerjoin(User, User.name == File.owner)
                .where(
                    and_(File.state == "waiting", File.not_before <= now, File.memory <= memory),
                    Request.status == "Running",
                    mine,
                )
                .order_by(
                    func.coalesce(busy.c.number, 0) / func.coalesce(User.share, 1.0),
                    func.coalesce(going.c.number, 0),
                    Request.created,
                    File.id,
                )
                .limit(1)
                .with_for_update(of=File, skip_locked=True)
            ).first()
            if file is None:
                return None
            file.state, file.worker = "leased", worker
            file.attempt += 1
            file.lease_until = now + limits.lease_s
            whole = session.get_one(Request, file.request_id)
            return Lease(
                file=file.id,
                attempt=file.attempt,
                request=whole.id,
                codegen=whole.codegen,
                selection=whole.selection,
                result_format=whole.result_format,
                places=self.places(file.places),
                memory=file.memory,
                deadline_s=limits.deadline_s,
                lease_s=limits.lease_s,
            )

    def places(self, paths: Sequence[str]) -> list[str]:
        """Return where to read a file: through the cache, and then at its origins."""
        paths = [path.replace("davs://", "https://", 1) for path in paths]
        prefix = self.settings.cache_prefix.rstrip("/")
        cached = [
            f"{prefix}//{path}"
            for path in paths
            if prefix and path.startswith(("root://", "xroot://"))
        ]
        return [*cached, *paths]

    def _leased(
        self, session: Session, file: int, attempt: int, request: str, *, counted: bool = False
    ) -> File:
        """Return a file that a transformer still has; raises `LeaseLostError`.

        Where it is to be `counted`, its request is locked first: whoever locks both does
        so in this order, or two could wait for one another.
        """
        whole = session.scalar(select(File.request_id).where(File.id == file))
        if whole and counted:
            session.get(Request, whole, with_for_update=True)
        found = session.get(File, file, with_for_update=True)
        if found is None or found.state != "leased" or found.attempt != attempt:
            raise LeaseLostError("this file is not yours any more")
        if request and found.request_id != request:
            raise LeaseLostError("this file is of another request")
        return found

    def renew(self, file: int, attempt: int, *, request: str = "") -> None:
        """Keep a file for longer; raises `LeaseLostError`."""
        with transaction(self.engine) as session:
            held = self._leased(session, file, attempt, request)
            held.lease_until = self.clock() + self.settings.limits.lease_s

    def upload(self, file: int, attempt: int, *, request: str = "") -> str:
        """Return the address for a file's result; raises `LeaseLostError`."""
        with transaction(self.engine) as session:
            held = self._leased(session, file, attempt, request)
            whole = session.get_one(Request, held.request_id)
            key = Key(whole.access_key, whole.secret_key)
            place = Place(whole.owner, whole.folder)
            name = object_name(held, whole.result_format, attempt)
            return self.store.upload_url(place, name, whole.id, key)

    def complete(self, file: int, attempt: int, result: Result, *, request: str = "") -> None:
        """Count a file as done, its object being stored; raises `LeaseLostError`."""
        with transaction(self.engine) as session:
            held = self._leased(session, file, attempt, request, counted=True)
            whole = session.get_one(Request, held.request_id)
            if whole.status != "Running":
                raise LeaseLostError("the request has ended")
            held.state, held.bytes, held.read = "done", result.bytes, result.read
            held.events, held.seconds = result.events, result.seconds
            held.log = result.log[-LOG_LENGTH:]
            held.object = object_name(held, whole.result_format, attempt)
            held.reason = held.message = ""
            if not whole.failed:
                whole.reason = ""  # what held it up is over
            self._count(session, whole, held)
            place, form = Place(whole.owner, whole.folder), whole.result_format
        for earlier in range(1, attempt):
            try:
                self.store.remove(place, object_name(held, form, earlier))
            except Exception as error:
                # It is looked for again once the request has ended.
                LOG.warning("%s: an earlier attempt's object was not removed: %s", whole.id, error)

    def fail(
        self,
        file: int,
        attempt: int,
        *,
        reason: str,
        message: str,
        again: bool,
        log: str = "",
        request: str = "",
    ) -> None:
        """Tell that a file could not be transformed; raises `LeaseLostError`.

        It is tried `again` if attempts are left, with more memory where it ran out of it.
        """
        with transaction(self.engine) as session:
            held = self._leased(session, file, attempt, request, counted=True)
            whole = session.get_one(Request, held.request_id)
            self._failed(session, whole, held, reason, message, again=again, log=log)

    def _failed(
        self,
        session: Session,
        whole: Request,
        held: File,
        reason: str,
        message: str,
        *,
        again: bool,
        log: str = "",
    ) -> None:
        limits = self.settings.limits
        held.reason, held.message = reason, message[:MESSAGE_LENGTH]
        held.log = log[-LOG_LENGTH:] or held.log
        if reason == "OutOfMemory":
            again = held.memory < limits.memory_max_mi_b
            held.memory = min(2 * held.memory, limits.memory_max_mi_b)
        if again and held.attempt < limits.attempts and whole.status == "Running":
            held.state = "waiting"
            held.not_before = self.clock() + min(2.0**held.attempt, 60)
            return
        held.state = "failed"
        self._count(session, whole, held)

    def _count(self, session: Session, whole: Request, held: File) -> None:
        """Count a file that has ended; the request's row is locked."""
        whole.last_result = max(int(self.clock() * 1e6), whole.last_result + 1)
        held.result_at = whole.last_result
        whole.bytes += held.bytes
        if held.state == "done":
            whole.completed += 1
        else:
            whole.failed += 1
            if whole.failed == 1:
                whole.reason = f"{held.reason}: {held.message}"
        if whole.status == "Running" and whole.completed + whole.failed == whole.files:
            good = whole.failed == 0 or not self.settings.fail_closed
            reason = self._why(session, whole) if whole.failed else whole.reason
            self._end(session, whole, "Complete" if good else "Fatal", reason)

    @staticmethod
    def _why(session: Session, whole: Request) -> str:
        """Return the reasons of the files that failed, and the end of the first one's log."""
        session.flush()
        asked = select(File).where(File.request_id == whole.id, File.state == "failed")
        first = list(session.scalars(asked.order_by(File.number).limit(REASONS)))
        told = [f"{file.reason}: {file.message}"[:REASON_LENGTH] for file in first]
        if tail := [line.strip() for line in first[0].log.splitlines() if line.strip()]:
            told[0] += f" [its log ends: {' / '.join(tail[-LOG_LINES:])[-REASON_LENGTH:]}]"
        if whole.failed > len(first):
            told.append(f"and {whole.failed - len(first)} more")
        if whole.files > 1:
            told.insert(0, f"{whole.failed} of {whole.files} files failed")
        return "; ".join(told)

    # What is done every few seconds.

    def reap(self) -> int:
        """Take back the files of transformers that are gone, and end what is overdue."""
        now, limits = self.clock(), self.settings.limits
        with transaction(self.engine) as session:
            late_ones = select(File.id, File.attempt, File.request_id).where(
                File.state == "leased", File.lease_until < now
            )
            found = session.execute(late_ones.limit(500)).all()
        lost = 0
        for file, attempt, request in found:
            with transaction(self.engine) as session:
                try:
                    held = self._leased(session, file, attempt, request, counted=True)
                except LeaseLostError:
                    continue  # ended, or canceled, meanwhile
                if held.lease_until < now:
                    whole = session.get_one(Request, request)
                    message = f"the transformer that had it ended {held.attempt} times"
                    self._failed(session, whole, held, "TransformerLost", message, again=True)
                    lost += 1
        with transaction(self.engine) as session:
            late = session.scalars(
                select(Request)
                .where(Request.status.in_(OPEN), Request.created < now - limits.request_deadline_s)
                .with_for_update(skip_locked=True)
            )
            for whole in late:
                hours = limits.request_deadline_s / 3600
                self._end(session, whole, "Fatal", f"Overdue: it did not end within {hours:.0f} h")
        return lost

    def sweep(self) -> list[str]:
        """Remove objects that no file names; return their names.

        A transformer that lost its file may have stored its object all the same.
        """
        removed = []
        with transaction(self.engine) as session:
            ended = and_(Request.swept.is_(False), Request.finished < self.clock() - LATE_S)
            for whole in session.scalars(select(Request).where(ended).limit(100)):
                if whole.folder == whole.id:
                    removed += self._orphans(session, whole)
                whole.swept = True
        return removed

    def _orphans(self, session: Session, whole: Request) -> list[str]:
        place = Place(whole.owner, whole.folder)
        known = set(session.scalars(select(File.object).where(File.request_id == whole.id)))
        orphans = [name for name in self.store.names(place) if name not in known]
        for name in orphans:
            self.store.remove(place, name)
        return orphans

    def retain(self) -> int:
        """Forget requests whose time is over, and the oldest of users who hold too much."""
        limits = self.settings.limits
        with transaction(self.engine) as session:
            now = self.clock()
            old = or_(
                Request.finished < now - limits.retention_s,
                and_(Request.deleted.is_(True), Request.finished < now - LATE_S),
            )
            doomed = list(session.scalars(select(Request.id).where(old)))
            quotas = {one.name: one.bytes for one in session.scalars(select(User))}
            if limits.bytes_per_user or any(quotas.values()):
                doomed += self._over_quota(session, quotas, limits.bytes_per_user)
        for identifier in doomed:
            with transaction(self.engine) as session:
                if found := session.get(Request, identifier, with_for_update=True):
                    self._forget(session, found)
        return len(doomed)

    @staticmethod
    def _over_quota(session: Session, quotas: Mapping[str, int], usual: int) -> list[str]:
        found = []
        held: dict[str, int] = {}
        # Results that are shared count once, for the latest request.
        seen: set[str] = set()
        held_ones = and_(Request.finished.is_not(None), Request.deleted.is_(False))
        asked = select(Request).where(held_ones)
        for one in session.scalars(asked.order_by(Request.finished.desc())):
            if one.folder not in seen:
                seen.add(one.folder)
                held[one.owner] = held.get(one.owner, 0) + one.bytes
            quota = quotas.get(one.owner, usual)
            if quota and held[one.owner] > quota:
                found.append(one.id)
        return found

    def welcome(self, name: str, quota: Quota) -> None:
        """Remember what a user may have, in the place of what was told before."""
        with transaction(self.engine) as session:
            told = User(name=name, bytes=round(quota.gigabytes * 1e9), share=quota.share)
            session.merge(told)

    def forget(self, name: str) -> None:
        """Forget a user, with all requests and their results; none is no error.

        What a transformer still has under way is removed when its request is swept.
        """
        with transaction(self.engine) as session:
            held = select(Request).where(Request.owner == name, Request.deleted.is_(False))
            for one in session.scalars(held.with_for_update()):
                self._delete(session, one, "its user left the facility")
            session.execute(update(Dataset).where(Dataset.owner == name).values(stale=True))
            session.execute(delete(User).where(User.name == name))

    def revoke(self, revoked: Mapping[str, float]) -> int:
        """End what users whose access was revoked had under way; make their keys void.

        The list of revocations forgets them one day; the keys are void for ever.
        """
        if not revoked:
            return 0
        with transaction(self.engine) as session:
            held = select(Request).where(
                Request.owner_uid.in_(list(revoked)), Request.access_key != ""
            )
            gone = [
                one
                for one in session.scalars(held.with_for_update(skip_locked=True))
                if one.created <= revoked[one.owner_uid]
            ]
            for one in gone:
                if one.status in OPEN:
                    self._end(session, one, "Canceled", "its user's access was revoked")
                one.access_key = one.secret_key = ""
            return len(gone)

    # What the S3 front and the controller ask for.

    def grant(self, access_key: str) -> Request | None:
        """Return the request whose clients sign with a key; None where there is none."""
        if not access_key:
            return None
        with transaction(self.engine) as session:
            return session.scalars(select(Request).where(Request.access_key == access_key)).first()

    def runs(self, identifier: str) -> bool:
        """Return whether there is a request that has files to transform."""
        with transaction(self.engine) as session:
            found = session.get(Request, identifier)
            return found is not None and found.status == "Running"

    def waiting(self) -> int:
        """Return how many files wait for, or are at, shared transformers."""
        with transaction(self.engine) as session:
            found = select(func.count()).select_from(File).where(File.pool.is_(True))
            base = self.settings.limits.memory_mi_b
            at_work = or_(
                File.state == "leased", and_(File.state == "waiting", File.memory <= base)
            )
            return session.scalar(found.where(at_work)) or 0

    def own_pods(self) -> list[OwnPods]:
        """Return the requests that need pods of their own, the earliest first."""
        base = self.settings.limits.memory_mi_b
        with transaction(self.engine) as session:
            rows = session.execute(
                select(File.request_id, func.max(File.memory), func.count())
                .join(Request, Request.id == File.request_id)
                .where(
                    File.state.in_(("waiting", "leased")),
                    or_(File.pool.is_(False), File.memory > base),
                    Request.status == "Running",
                )
                .group_by(File.request_id, Request.created)
                .order_by(Request.created)
            )
            return [OwnPods(session.get_one(Request, one), *needs) for one, *needs in rows]

    def note(self, identifier: str, text: str) -> None:
        """Tell why a request that has not ended goes on so slowly."""
        with transaction(self.engine) as session:
            found = session.get(Request, identifier, with_for_update=True)
            if found and found.status in OPEN:
                found.reason = text[:MESSAGE_LENGTH]

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return how many requests are in each status, and files in each state."""
        with transaction(self.engine) as session:
            requests = session.execute(
                select(Request.status, func.count()).group_by(Request.status)
            )
            files = session.execute(select(File.state, func.count()).group_by(File.state))
            return dict(requests.all()), dict(files.all())


def _new_keys() -> tuple[str, str]:
    """Return an access key and a secret key for S3."""
    return f"SX{secrets.token_hex(9).upper()}", secrets.token_urlsafe(30)


def object_name(file: File, result_format: str, attempt: int) -> str:
    """Return the name of a file's object: its number, and the input's name for the reader.

    Attempts have names of their own, so that a late one overwrites nothing.
    """
    stem = PurePosixPath(str(file.places[0]).split("?")[0]).name.rpartition(".")[0] or "file"
    plain = "".join(c if c.isalnum() or c in "-_" else "_" for c in stem)[-80:]
    again = f".{attempt}" if attempt > 1 else ""
    return f"{file.number:06d}-{plain}{again}{SUFFIXES[result_format]}"
