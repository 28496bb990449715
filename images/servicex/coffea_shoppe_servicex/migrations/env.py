"""What Alembic runs: migrations over the connection of `database.migrate`."""

from alembic import context

from coffea_shoppe_servicex.database import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
