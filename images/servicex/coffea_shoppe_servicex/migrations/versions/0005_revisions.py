"""Store the revision of the code that makes a request's results; earlier ones have 0."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Go to this revision."""
    column = sa.Column("revision", sa.Integer(), nullable=False, server_default="0")
    op.add_column("requests", column)


def downgrade() -> None:
    """Go back to the one before."""
    op.drop_column("requests", "revision")
