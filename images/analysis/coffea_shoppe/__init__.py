"""What a notebook of the facility imports: connections, from its environment.

    import coffea_shoppe as shoppe

    shoppe.data_url("root://eospublic.cern.ch//eos/…/file.root")
    shoppe.status()           # who I am, which services answer, what I use of my quota
    shoppe.storage()          # my bucket, as a file system (fsspec)
    shoppe.token("servicex")  # my present token for a service
    shoppe.estimate(files, query)  # what a delivery of columns will cost
    shoppe.share_runs("bob")  # bob may read what I log to MLflow
    shoppe.serve("models:/bdt@prod")  # a model of mine, in Triton

Nothing here names a facility: addresses come from the environment that the
facility gives its pods, and from files that it renews.  Outside of a facility, data
come from their origin.
"""

from coffea_shoppe.columns import Estimate, estimate
from coffea_shoppe.connections import FacilityError, Status, connections, status, token
from coffea_shoppe.data import data_url
from coffea_shoppe.serving import Counts, Served, counts, serve, served, triton, unserve
from coffea_shoppe.sharing import share_runs, unshare_runs, workspace_of
from coffea_shoppe.storage import storage

__all__ = [
    "Counts",
    "Estimate",
    "FacilityError",
    "Served",
    "Status",
    "connections",
    "counts",
    "data_url",
    "estimate",
    "serve",
    "served",
    "share_runs",
    "status",
    "storage",
    "token",
    "triton",
    "unserve",
    "unshare_runs",
    "workspace_of",
]
