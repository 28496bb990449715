"""A user's connections to a Coffea Shoppe facility, taken from the environment.

    import coffea_shoppe as shoppe

    shoppe.data_url("root://eospublic.cern.ch//eos/…/file.root")
    shoppe.prefetch(files, ["Jet_*"])  # the cache has these branches before I read them
    shoppe.status()           # who I am, which services respond, what I use of my quota
    shoppe.storage()          # my bucket, as a file system (fsspec)
    shoppe.token("servicex")  # my current token for a service
    shoppe.estimate(files, query)  # the cost of a delivery of columns, beforehand
    shoppe.share_environment()  # workers have the packages that I have installed
    shoppe.share_runs("bob")  # bob may read what I log to MLflow
    shoppe.serve("models:/bdt@prod")  # a model of mine, in Triton

Nothing here names a facility: addresses come from the environment that the facility sets
in its pods, and from files that it renews there.  Outside of a facility, files are read from
their origin.
"""

from coffea_shoppe.columns import Estimate, estimate
from coffea_shoppe.connections import FacilityError, Status, connections, status, token
from coffea_shoppe.data import data_url
from coffea_shoppe.environment import share_environment
from coffea_shoppe.extras import MissingExtraError
from coffea_shoppe.prefetching import Prefetched, prefetch
from coffea_shoppe.serving import Counts, Served, counts, serve, served, triton, unserve
from coffea_shoppe.sharing import share_runs, unshare_runs, workspace_of
from coffea_shoppe.storage import storage

__all__ = [
    "Counts",
    "Estimate",
    "FacilityError",
    "MissingExtraError",
    "Prefetched",
    "Served",
    "Status",
    "connections",
    "counts",
    "data_url",
    "estimate",
    "prefetch",
    "serve",
    "served",
    "share_environment",
    "share_runs",
    "status",
    "storage",
    "token",
    "triton",
    "unserve",
    "unshare_runs",
    "workspace_of",
]
