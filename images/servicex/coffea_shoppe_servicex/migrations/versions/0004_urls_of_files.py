"""Rename the column of a file's URLs."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Go to this revision."""
    op.alter_column("files", "places", new_column_name="urls")


def downgrade() -> None:
    """Go back to the one before."""
    op.alter_column("files", "urls", new_column_name="places")
