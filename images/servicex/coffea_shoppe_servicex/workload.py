"""The current workload, for the controller's scaling and for the metrics."""

from sqlalchemy import and_, func, or_, select

from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.database import File, Request, Total, transaction
from coffea_shoppe_servicex.models import END_STATES, END_STATUSES, REUSED, PodDemand


class Workload:
    """Counts of open files and requests."""

    def __init__(self, context: Context) -> None:
        self.context = context

    def pending_files(self) -> int:
        """Return the number of files that shared transformers have leased or may lease."""
        initial_memory = self.context.settings.limits.memory_mib
        pending = or_(
            File.state == "leased", and_(File.state == "waiting", File.memory <= initial_memory)
        )
        with transaction(self.context.engine) as session:
            shared = select(func.count()).select_from(File).where(File.pool.is_(True))
            return session.scalar(shared.where(pending)) or 0

    def pod_demands(self) -> list[PodDemand]:
        """Return the requests that need dedicated pods, oldest first.

        They run users' own functions, or have files that need more memory than the pool has.
        """
        initial_memory = self.context.settings.limits.memory_mib
        with transaction(self.context.engine) as session:
            rows = session.execute(
                select(File.request_id, func.max(File.memory), func.count())
                .join(Request, Request.id == File.request_id)
                .where(
                    File.state.in_(("waiting", "leased")),
                    or_(File.pool.is_(False), File.memory > initial_memory),
                    Request.status == "Running",
                )
                .group_by(File.request_id, Request.created)
                .order_by(Request.created)
            )
            return [
                PodDemand(session.get_one(Request, request_id), memory, files)
                for request_id, memory, files in rows
            ]

    def counts(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the number of requests per status, and of files per state."""
        with transaction(self.context.engine) as session:
            requests = session.execute(
                select(Request.status, func.count()).group_by(Request.status)
            )
            files = session.execute(select(File.state, func.count()).group_by(File.state))
            return dict(requests.all()), dict(files.all())

    def totals(self) -> dict[str, dict[str, int]]:
        """Return by name and status what has ended since the first start; it never decreases.

        A request whose result was reused counts as such, and its files and bytes do not count
        again.  The size of a file is the stored one when it was completed.
        """
        totals = {
            "requests": dict.fromkeys((*END_STATUSES.values(), REUSED), 0),
            "files": dict.fromkeys(END_STATES, 0),
            "delivered_bytes": {"": 0},
        }
        with transaction(self.context.engine) as session:
            for total in session.scalars(select(Total)):
                totals[total.name][total.status] = total.value
        return totals
