"""Files that a user's pods find in the mounted Secret."""

IDENTITY_FOLDER = "/run/coffea-shoppe"
"""Folder where a user's pods find tokens and connections; the kubelet refreshes its files."""
ENV_IDENTITY_FOLDER = "SHOPPE_IDENTITY"
"""Environment variable that overrides `IDENTITY_FOLDER`."""
CONNECTIONS_FILE = "connections.json"
"""Service → address."""
S3_CONFIG_FILE, S3_CREDENTIALS_FILE = "aws-config", "aws-credentials"
"""Read by every S3 client through AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE.

Users have no credentials file: their config names a process that prints the current keys.
"""
S3_KEYS_FILE = "aws-keys.json"
"""A user's current keys as that process prints them, with the time when they expire."""
S3_BUCKET_FILE = "s3-bucket"
"""Contains the name of the user's bucket."""
SERVICEX_FILE = "servicex.yaml"
"""Configuration of the stock ServiceX client."""
WORKSPACE_FILE = "mlflow-workspace"
"""Contains the name of the user's workspace in MLflow."""


def token_file(audience: str) -> str:
    """Return the name of the file of the token for a service."""
    return f"token-{audience}"
