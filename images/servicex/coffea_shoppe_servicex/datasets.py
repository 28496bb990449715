"""Look-ups: the files behind a dataset's name, cached per user, and what each file is."""

import hashlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from coffea_shoppe_contract.addresses import canonical_address
from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from coffea_shoppe_servicex import addresses, identities
from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.database import Dataset, File, Request, transaction
from coffea_shoppe_servicex.errors import ForbiddenError, NotFoundError, QueryError
from coffea_shoppe_servicex.finders import Files, LookupFailedError
from coffea_shoppe_servicex.identities import Identity
from coffea_shoppe_servicex.lifecycle import Lifecycle
from coffea_shoppe_servicex.models import Owner

LOOKUPS_EACH = 2
"""Look-ups of one user at once."""
ADDRESSES_AT_ONCE = 500
"""Addresses in one query of the database."""

Find = Callable[[str], Files]
"""Returns a dataset's files, or raises `LookupFailedError`."""
Identify = Callable[[Sequence[Sequence[str]]], list[Identity]]
"""Returns the identity of each file, given as its replicas' URLs."""


class Datasets:
    """The datasets of users' requests."""

    def __init__(self, context: Context, lifecycle: Lifecycle) -> None:
        self.context, self.lifecycle = context, lifecycle
        self._lock = threading.Lock()
        self._active: dict[str, str] = {}
        """Requests that are looked up at present → their owners' uids."""

    def owned_by(self, owner: Owner, *, finder: str = "", deleted: bool = False) -> list[Dataset]:
        """Return a user's datasets, optionally of one finder, or with deleted ones."""
        with transaction(self.context.engine) as session:
            statement = select(Dataset).where(Dataset.owner == owner.uid)
            if finder:
                statement = statement.where(Dataset.finder == finder)
            if not deleted:
                statement = statement.where(Dataset.stale.is_(False))
            return list(session.scalars(statement.order_by(Dataset.id)))

    def get(self, owner: Owner, identifier: int) -> Dataset:
        """Return a dataset; raises `NotFoundError` or `ForbiddenError`."""
        with transaction(self.context.engine) as session:
            return self._owned(session, owner, identifier)

    def _owned(self, session: Session, owner: Owner, identifier: int) -> Dataset:
        dataset = session.get(Dataset, identifier)
        if dataset is None:
            raise NotFoundError(f"there is no dataset {identifier}")
        if dataset.owner != owner.uid:
            raise ForbiddenError(f"the dataset {identifier} belongs to another user")
        return dataset

    def mark_stale(self, owner: Owner, identifier: int) -> Dataset:
        """Mark a dataset as stale: the next request for it repeats the look-up."""
        with transaction(self.context.engine) as session:
            dataset = self._owned(session, owner, identifier)
            dataset.stale = True
            return dataset

    def look_up(self, find: Find, identify: Identify) -> bool:
        """Look up the files of a waiting request; return whether there was one.

        Threads may call it at once: first comes the user with the fewest look-ups at present,
        who has at most `LOOKUPS_EACH`, then that user's oldest request.
        """
        with self._lock:
            request = self._next_lookup()
            if request is None:
                return False
            self._active[request.id] = request.owner_uid
        try:
            self._look_up(request, find, identify)
        finally:
            with self._lock:
                del self._active[request.id]
        return True

    def _next_lookup(self) -> Request | None:
        """Return the request that is looked up next."""
        active = Counter(self._active.values())
        waiting = and_(Request.status == "Lookup", Request.id.not_in(self._active))
        with transaction(self.context.engine) as session:
            # The oldest of each user: one user's thousands must not hide another's.
            first = func.min(Request.created)
            owners = session.execute(
                select(Request.owner_uid, first).where(waiting).group_by(Request.owner_uid)
            )
            eligible = [
                (active[uid], created, uid) for uid, created in owners if active[uid] < LOOKUPS_EACH
            ]
            if not eligible:
                return None
            _, _, uid = min(eligible)
            oldest = select(Request).where(waiting, Request.owner_uid == uid)
            return session.scalars(oldest.order_by(Request.created).limit(1)).first()

    def _look_up(self, oldest: Request, find: Find, identify: Identify) -> None:
        if oldest.files:
            with transaction(self.context.engine) as session:
                listed = select(File.urls).where(File.request_id == oldest.id)
                urls = session.scalars(listed.order_by(File.number))
                files = [{"paths": replicas} for replicas in urls]
            self._begin(oldest, files, identify)
            return
        try:
            name, count = addresses.split_did(oldest.did)
        except QueryError as error:
            # Submitted before options were checked.
            with transaction(self.context.engine) as session:
                if request := _waiting(session, oldest):
                    self.lifecycle.end(session, request, "Fatal", str(error))
            return
        dataset = self._dataset(oldest, name, find)
        if dataset and dataset.status == "complete":
            self._begin(oldest, _first_files(dataset.files, count), identify)

    def _dataset(self, oldest: Request, name: str, find: Find) -> Dataset | None:
        """Return the dataset of a request; a bad one ends it.  None: it was canceled."""
        with transaction(self.context.engine) as session:
            known = _known_dataset(session, oldest.owner_uid, name)
        # Outside of a transaction: a look-up may take minutes.
        files: Files = []
        status, message = "complete", ""
        if known is None:
            try:
                files = find(name)
            except LookupFailedError as error:
                status, message = error.status, str(error)
            if status == "complete" and not files:
                status, message = "does_not_exist", f"{name} has no files"
        with transaction(self.context.engine) as session:
            request = _waiting(session, oldest)
            if request is None:
                return None
            now = self.context.clock()
            dataset = session.get(Dataset, known.id) if known else None
            if dataset is None:
                dataset = Dataset(
                    owner=request.owner_uid,
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
            request.dataset_id = dataset.id
            if dataset.status != "complete":
                self.lifecycle.end(session, request, "Bad Dataset", dataset.message)
            return dataset

    def _begin(self, oldest: Request, files: Files, identify: Identify) -> None:
        """Complete a request with a stored result of the same files, or queue its files."""
        try:
            query = self.context.codegens.parse(
                oldest.codegen,
                oldest.selection,
                oldest.result_format,  # type: ignore[arg-type]
            )
        except QueryError as error:
            # Submitted to an earlier release, which knew the query.
            with transaction(self.context.engine) as session:
                if request := _waiting(session, oldest):
                    self.lifecycle.end(session, request, "Fatal", str(error))
            return
        beside = [query.further_urls(file["paths"][0]) for file in files]
        # Outside of a transaction: origins may not respond for minutes.
        own = identify([file["paths"] for file in files])
        further = iter(identify([[url] for urls in beside for url in urls]))
        now = self.context.clock()
        identified: Files = []
        for file, first, urls in zip(files, own, beside, strict=True):
            all_of_file = [first, *(next(further) for _ in urls)]
            identity = [
                each if "problem" in each else {**each, "seen": now} for each in all_of_file
            ]
            address = hashlib.sha256(canonical_address(file["paths"][0]).encode()).hexdigest()
            identified.append({**file, "address": address[:32], "identity": identity})
        with transaction(self.context.engine) as session:
            request = _waiting(session, oldest)
            if request is None:
                return
            _use_last_known(session, request, identified)
            for file in identified:
                checksum = file.get("adler32", "")
                file["identity"] = identities.with_checksum(file["identity"], checksum)
            request.remarks = identities.remarks([file["identity"] for file in identified])
            request.cache_key = self.lifecycle.cache_key(request, identified)
            if not self.lifecycle.reuse_result(session, request):
                self.lifecycle.start(session, request, identified)


def _waiting(session: Session, oldest: Request) -> Request | None:
    """Return a request, locked; None if it was canceled during its look-up."""
    request = session.get(Request, oldest.id, with_for_update=True)
    return request if request and request.status == "Lookup" else None


def _use_last_known(session: Session, request: Request, files: Files) -> None:
    """Replace identities whose origin does not respond by the last ones that the user had."""
    away = {
        file["address"]: file
        for file in files
        if any(each.get("problem") == identities.UNREACHABLE for each in file["identity"])
    }
    for address, identity in _last_known(session, request, sorted(away)):
        by_url = {each["url"]: each for each in identity if "problem" not in each}
        file = away[address]
        for number, each in enumerate(file["identity"]):
            if each.get("problem") == identities.UNREACHABLE or "outdated" in each:
                urls = [each["url"]] if number else [each["url"], *file["paths"]]
                known = next((by_url[url] for url in urls if url in by_url), None)
                if known:
                    why = each.get("message") or each["outdated"]
                    file["identity"][number] = {**known, "outdated": why}


def _last_known(
    session: Session, request: Request, current_addresses: Sequence[str]
) -> Iterable[tuple[str, list[Identity]]]:
    """Yield the addresses and identities of earlier files of a request's owner, oldest first."""
    for start in range(0, len(current_addresses), ADDRESSES_AT_ONCE):
        some = current_addresses[start : start + ADDRESSES_AT_ONCE]
        earlier = (
            select(File.address, File.identity)
            .join(Request, Request.id == File.request_id)
            .where(
                File.address.in_(some),
                File.owner == request.owner,
                Request.owner_uid == request.owner_uid,
                Request.id != request.id,
            )
            .order_by(File.id)
        )
        yield from ((address, identity) for address, identity in session.execute(earlier))


def _known_dataset(session: Session, owner_uid: str, name: str) -> Dataset | None:
    """Return the result of an earlier look-up for the same user."""
    statement = select(Dataset).where(
        Dataset.owner == owner_uid,
        Dataset.name == name,
        Dataset.status == "complete",
        Dataset.stale.is_(False),
    )
    return session.scalars(statement.limit(1)).first()


def _first_files(files: list[dict[str, Any]], count: int | None) -> list[dict[str, Any]]:
    """Return the first files by name; all without a count."""
    ordered = sorted(addresses.distinct(files), key=lambda file: str(file["paths"][0]))
    return ordered[:count]
