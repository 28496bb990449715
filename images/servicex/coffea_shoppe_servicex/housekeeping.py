"""Periodic clean-up: overdue requests, orphaned objects, results beyond retention or quota."""

from collections.abc import Mapping

from sqlalchemy import and_, or_, select, update
from sqlalchemy.orm import Session

from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.database import File, Request, User, transaction
from coffea_shoppe_servicex.lifecycle import Lifecycle
from coffea_shoppe_servicex.models import LATE_UPLOAD_S, OPEN_STATUSES
from coffea_shoppe_servicex.objects import ObjectPrefix

SWEPT_PER_ROUND = 100


class Housekeeping:
    """Steps that the controller repeats; each is idempotent."""

    def __init__(self, context: Context, lifecycle: Lifecycle) -> None:
        self.context, self.lifecycle = context, lifecycle

    def end_overdue(self) -> None:
        """Fail the requests that are open beyond the request deadline."""
        deadline_s = self.context.settings.limits.request_deadline_s
        with transaction(self.context.engine) as session:
            overdue = select(Request).where(
                Request.status.in_(OPEN_STATUSES),
                Request.created < self.context.clock() - deadline_s,
            )
            for request in session.scalars(overdue.with_for_update(skip_locked=True)):
                reason = f"Overdue: it did not end within {deadline_s / 3600:.0f} h"
                self.lifecycle.end(session, request, "Fatal", reason)

    def remove_orphans(self) -> list[str]:
        """Remove objects to which no file refers; return their names.

        A transformer that lost its lease may still have uploaded its object, and one that had
        completed its file may have uploaded another object in its place: sizes are counted
        again.
        """
        removed = []
        ended = Request.finished < self.context.clock() - LATE_UPLOAD_S
        with transaction(self.context.engine) as session:
            unswept = select(Request).where(Request.swept.is_(False), ended)
            for request in session.scalars(unswept.limit(SWEPT_PER_ROUND)):
                if request.folder == request.id:
                    removed += self._remove_orphans_of(session, request)
                request.swept = True
        return removed

    def _remove_orphans_of(self, session: Session, request: Request) -> list[str]:
        prefix = ObjectPrefix(request.owner, request.folder)
        files = session.execute(
            select(File.object, File.bytes).where(File.request_id == request.id)
        )
        known = {name: size for name, size in files if name}
        sizes = self.context.store.sizes(prefix)
        for name in known.keys() & sizes:
            if sizes[name] != known[name]:
                _correct_size(session, request.folder, name, known[name], sizes[name])
        orphans = [name for name in sizes if name not in known]
        for name in orphans:
            self.context.store.remove(prefix, name)
        return orphans

    def remove_expired(self) -> int:
        """Remove requests beyond retention or quota, and deleted ones; return how many."""
        now, limits = self.context.clock(), self.context.settings.limits
        with transaction(self.context.engine) as session:
            expired = or_(
                Request.finished < now - limits.retention_s,
                and_(Request.deleted.is_(True), Request.finished < now - LATE_UPLOAD_S),
            )
            identifiers = list(session.scalars(select(Request.id).where(expired)))
            quotas = {user.name: user.bytes for user in session.scalars(select(User))}
            if limits.bytes_per_user or any(quotas.values()):
                identifiers += _over_quota(session, quotas, default=limits.bytes_per_user)
        for identifier in identifiers:
            with transaction(self.context.engine) as session:
                if request := session.get(Request, identifier, with_for_update=True):
                    self.lifecycle.purge(session, request)
        return len(identifiers)


def _correct_size(session: Session, folder: str, name: str, counted: int, size: int) -> None:
    """Set the size of an object, in bytes, in all requests whose result it belongs to."""
    sharing = select(Request.id).where(Request.folder == folder)
    of_object = and_(File.request_id.in_(sharing), File.object == name)
    session.execute(update(File).where(of_object).values(bytes=size))
    total = Request.bytes + size - counted
    session.execute(update(Request).where(Request.folder == folder).values(bytes=total))


def _over_quota(session: Session, quotas: Mapping[str, int], *, default: int) -> list[str]:
    """Return the ids of the oldest requests, of each user, beyond the user's quota in bytes."""
    over_quota = []
    used: dict[str, int] = {}
    # A result that several requests reuse counts once, for the newest of them.
    counted_folders: set[str] = set()
    ended = and_(Request.finished.is_not(None), Request.deleted.is_(False))
    newest_first = select(Request).where(ended).order_by(Request.finished.desc())
    for request in session.scalars(newest_first):
        if request.folder not in counted_folders:
            counted_folders.add(request.folder)
            used[request.owner] = used.get(request.owner, 0) + request.bytes
        quota = quotas.get(request.owner, default)
        if quota and used[request.owner] > quota:
            over_quota.append(request.id)
    return over_quota
