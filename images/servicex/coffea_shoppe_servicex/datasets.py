"""Datasets: look-up of the files behind a name, cached per user."""

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from coffea_shoppe_servicex import addresses
from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.database import Dataset, Request, transaction
from coffea_shoppe_servicex.errors import ForbiddenError, NotFoundError, QueryError
from coffea_shoppe_servicex.finders import LookupFailedError
from coffea_shoppe_servicex.lifecycle import Lifecycle
from coffea_shoppe_servicex.models import Owner

LOOKUPS_EACH = 2
"""Look-ups of one user at once."""


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

    def look_up(self, find: Callable[[str], list[dict[str, Any]]]) -> bool:
        """Look up the dataset of a waiting request; return whether there was one.

        Threads may call it at once: first comes the user with the fewest look-ups at present,
        who has at most `LOOKUPS_EACH`, then that user's oldest request.  `find` returns a
        dataset's files or raises `LookupFailedError`.
        """
        with self._lock:
            request = self._next_lookup()
            if request is None:
                return False
            self._active[request.id] = request.owner_uid
        try:
            self._look_up(request, find)
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

    def _look_up(self, oldest: Request, find: Callable[[str], list[dict[str, Any]]]) -> None:
        try:
            name, count = addresses.split_did(oldest.did)
        except QueryError as error:
            # Submitted before options were checked.
            with transaction(self.context.engine) as session:
                self.lifecycle.end(
                    session, session.get_one(Request, oldest.id), "Fatal", str(error)
                )
            return
        with transaction(self.context.engine) as session:
            known = _known_dataset(session, oldest.owner_uid, name)
        # Outside of a transaction: a look-up may take minutes.
        files: list[dict[str, Any]] = []
        status, message = "complete", ""
        if known is None:
            try:
                files = find(name)
            except LookupFailedError as error:
                status, message = error.status, str(error)
            if status == "complete" and not files:
                status, message = "does_not_exist", f"{name} has no files"
        with transaction(self.context.engine) as session:
            request = session.get(Request, oldest.id, with_for_update=True)
            if request is None or request.status != "Lookup":
                return  # canceled in the meantime
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
                return
            selected = _first_files(dataset.files, count)
            request.cache_key = self.lifecycle.cache_key(request, selected)
            if not self.lifecycle.reuse_result(session, request):
                self.lifecycle.start(session, request, selected)


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
