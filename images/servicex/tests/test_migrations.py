"""Migrations of a new database, and of one that has requests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from coffea_shoppe_servicex.database import (
    MIGRATIONS,
    Base,
    File,
    Request,
    connect,
    migrate,
    transaction,
)
from coffea_shoppe_servicex.errors import RevisionError
from sqlalchemy import Engine, inspect, select

REQUEST = {
    "id": "earlier",
    "owner": "ann",
    "owner_uid": "uid-ann",
    "title": "",
    "did": "",
    "dataset_id": 0,
    "codegen": "uproot-raw",
    "selection": "[]",
    "result_format": "parquet",
    "status": "Complete",
    "reason": "",
    "memory": 1000,
    "cache_key": "",
    "folder": "earlier",
    "files": 1,
    "completed": 1,
    "failed": 0,
    "bytes": 10,
    "created": 1.0,
    "finished": 2.0,
    "last_result": 2,
    "deleted": False,
    "swept": False,
    "access_key": "SX1",
    "secret_key": "secret",
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = connect(f"sqlite:///{tmp_path / 'requests.db'}")
    yield engine
    engine.dispose()


def differences(engine: Engine) -> list[Any]:
    """Return what the tables lack of the models, or have in addition."""
    with engine.connect() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


def schema(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        statement = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
        return list(connection.exec_driver_sql(statement).scalars())


def set_revision(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = ?", (revision,))


def add_request(engine: Engine) -> None:
    with transaction(engine) as session:
        session.add(Request(**REQUEST))
        session.flush()
        file = File(request_id="earlier", owner="ann", number=0, urls=["root://origin//a.root"])
        file.pool, file.state, file.memory = True, "done", 1000
        session.add(file)


def stored(engine: Engine) -> tuple[dict[str, Any], list[str]]:
    """Return the request, and the URLs of its file."""
    with transaction(engine) as session:
        (request,) = session.scalars(select(Request))
        (urls,) = session.scalars(select(File.urls))
        return {name: getattr(request, name) for name in REQUEST}, urls


def test_the_first_migration_makes_what_the_models_need(engine: Engine) -> None:
    assert differences(engine), "an empty database has none of the tables"
    migrate(engine)
    assert differences(engine) == []
    add_request(engine)
    assert stored(engine) == (REQUEST, ["root://origin//a.root"])


def test_a_table_that_lacks_a_column_differs(engine: Engine) -> None:
    migrate(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE files DROP COLUMN transformer")
    ((change, _, table, column),) = differences(engine)
    assert (change, table, column.name) == ("add_column", "files", "transformer")


def test_a_second_start_changes_nothing(engine: Engine) -> None:
    migrate(engine)
    add_request(engine)
    before = schema(engine)
    migrate(engine)
    assert schema(engine) == before
    assert stored(engine) == (REQUEST, ["root://origin//a.root"])


def test_a_revision_of_another_version_is_refused(engine: Engine) -> None:
    migrate(engine)
    add_request(engine)
    with engine.connect() as connection:
        (current,) = MigrationContext.configure(connection).get_current_heads()
    set_revision(engine, "0099")
    with pytest.raises(RevisionError, match="revision 0099, which this version does not know"):
        migrate(engine)
    set_revision(engine, current)
    migrate(engine)
    assert stored(engine) == (REQUEST, ["root://origin//a.root"])


def test_the_first_migration_can_be_undone(engine: Engine) -> None:
    migrate(engine)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        connection.commit()
    assert inspect(engine).get_table_names() == ["alembic_version"]
