"""Drop the keys of dedicated transformers: they are signed, and nothing is stored."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Go to this revision."""
    op.drop_column("requests", "worker_key")


def downgrade() -> None:
    """Go back to the one before."""
    column = sa.Column("worker_key", sa.String(), nullable=False, server_default="")
    op.add_column("requests", column)
