"""The parts of the service, over one database and one result store."""

from coffea_shoppe_servicex.context import Context
from coffea_shoppe_servicex.datasets import Datasets
from coffea_shoppe_servicex.file_queue import FileQueue
from coffea_shoppe_servicex.housekeeping import Housekeeping
from coffea_shoppe_servicex.lifecycle import Lifecycle
from coffea_shoppe_servicex.transform_requests import TransformRequests
from coffea_shoppe_servicex.users import Users
from coffea_shoppe_servicex.workload import Workload


class Backend:
    """One object per part, which API, S3 gateway and controller call.

    All state is in the database: any number of processes may each have a backend.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        lifecycle = Lifecycle(context)
        self.requests = TransformRequests(context, lifecycle)
        self.queue = FileQueue(context, lifecycle)
        self.datasets = Datasets(context, lifecycle)
        self.housekeeping = Housekeeping(context, lifecycle)
        self.users = Users(context, lifecycle)
        self.workload = Workload(context)
