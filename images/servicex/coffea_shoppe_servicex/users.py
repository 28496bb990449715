"""Users as the operator administers them: quotas, removal, revoked access."""

from collections.abc import Mapping

from sqlalchemy import delete, select

from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.database import Dataset, Request, User, transaction
from coffea_shoppe_servicex.lifecycle import Lifecycle
from coffea_shoppe_servicex.models import OPEN_STATUSES, Quota


class Users:
    """The users of the facility; each call is idempotent."""

    def __init__(self, context: Context, lifecycle: Lifecycle) -> None:
        self.context, self.lifecycle = context, lifecycle

    def set_quota(self, name: str, quota: Quota) -> None:
        """Set or replace a user's quota."""
        size = round(quota.gigabytes * 1e9)
        with transaction(self.context.engine) as session:
            session.merge(User(name=name, bytes=size, share=quota.share))

    def remove(self, name: str) -> None:
        """Remove a user's quota, requests, results and datasets; an unknown user is not an error.

        Housekeeping removes what a transformer uploads after this call.
        """
        with transaction(self.context.engine) as session:
            # Datasets belong to a uid, which only the user's requests have beside the name.
            uids = select(Request.owner_uid).where(Request.owner == name)
            session.execute(delete(Dataset).where(Dataset.owner.in_(uids)))
            owned = select(Request).where(Request.owner == name, Request.deleted.is_(False))
            for request in session.scalars(owned.with_for_update()):
                self.lifecycle.delete(session, request, "its user left the facility")
            session.execute(delete(User).where(User.name == name))

    def revoke_access(self, revoked: Mapping[str, float]) -> int:
        """Cancel requests of users whose access was revoked, and revoke the requests' keys.

        `revoked` maps uids to the time of revocation (Unix, s); later requests are kept.
        Entries of the revocation list expire, revoked keys stay revoked.  Return how many
        requests changed.
        """
        if not revoked:
            return 0
        with transaction(self.context.engine) as session:
            with_keys = select(Request).where(
                Request.owner_uid.in_(list(revoked)), Request.access_key != ""
            )
            affected = [
                request
                for request in session.scalars(with_keys.with_for_update(skip_locked=True))
                if request.created <= revoked[request.owner_uid]
            ]
            for request in affected:
                if request.status in OPEN_STATUSES:
                    reason = "its user's access was revoked"
                    self.lifecycle.end(session, request, "Canceled", reason)
                request.access_key = request.secret_key = ""
            return len(affected)
