"""Kubernetes resources and labels, and the volume with a user's Secret."""

from typing import Any

from coffea_shoppe_contract.files import IDENTITY_FOLDER

API_GROUP, API_VERSION = "coffea-shoppe.dev", "v1alpha1"
"""API group and version of the custom resources."""
FACILITY_USERS = "facilityusers"
"""Plural of the custom resource of a user."""
SERVED_MODELS = "servedmodels"
"""Plural of the custom resource of a model in Triton."""
USER_LABEL = f"{API_GROUP}/user"
"""Label of everything that belongs to a user; its value is the FacilityUser's name."""
TOKENS_REQUESTED_ANNOTATION = f"{API_GROUP}/tokens-requested-at"
"""Annotation of a FacilityUser: Unix time of the last request for fresh tokens."""

SERVER_IMAGES_ANNOTATION = f"{API_GROUP}/server-images"
"""Annotation of a FacilityUser: JSON, a list of the images that the user's servers have."""

DASK_SCHEDULER, DASK_WORKER = "dask-scheduler", "dask-worker"
"""Values of `app.kubernetes.io/component` on the pods of dask-gateway."""


def identity_volume(secret: str, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the volume of a user's Secret and its mount, for a pod of that user.

    `options` are further fields of the volume's `secret` source.
    """
    volume = {"name": "identity", "secret": {"secretName": secret, **options}}
    return volume, {"name": "identity", "mountPath": IDENTITY_FOLDER, "readOnly": True}
