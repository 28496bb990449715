"""Store the identities of files, and what is uncertain of them."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Go to this revision."""
    remarks = sa.Column("remarks", sa.Text(), nullable=False, server_default="")
    op.add_column("requests", remarks)
    op.add_column("files", sa.Column("address", sa.String(), nullable=False, server_default=""))
    op.add_column("files", sa.Column("identity", sa.JSON(), nullable=False, server_default="[]"))
    op.create_index("files_address", "files", ["address", "owner"])


def downgrade() -> None:
    """Go back to the one before."""
    op.drop_index("files_address", "files")
    op.drop_column("files", "identity")
    op.drop_column("files", "address")
    op.drop_column("requests", "remarks")
