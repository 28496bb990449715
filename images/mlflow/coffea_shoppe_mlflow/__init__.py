"""The facility's MLflow: login by the facility's tokens, and migrations of the database."""
