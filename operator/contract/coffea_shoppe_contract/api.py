"""Paths and headers of the facility's HTTP interfaces."""

KEYS_PATH = "/keys"
REVOCATIONS_PATH = "/revocations"
STATUS_PATH = "/status"
QUOTA_PATH = "/quota"
ARTIFACT_QUOTA_PATH = "/artifact-quota"
AUTHORIZE_PATH = "/authorize"
SERVE_PATH = "/serve"
"""Paths of the facility API."""

WORKSPACE_HEADER = "X-Mlflow-Workspace"
"""Names the workspace of a request to MLflow."""
