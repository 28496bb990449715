"""Migrations of a database that has requests."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from coffea_shoppe_servicex.database import (
    MIGRATIONS,
    Base,
    File,
    Request,
    Total,
    add_to_total,
    connect,
    migrate,
    transaction,
)
from sqlalchemy import Engine, MetaData, Table, insert, inspect, select

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


def migrate_to(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        move = command.upgrade if revision >= current(engine) else command.downgrade
        move(config, revision)
        connection.commit()


def current(engine: Engine) -> str:
    if not inspect(engine).has_table("alembic_version"):
        return ""
    with engine.connect() as connection:
        return str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar())


def columns(engine: Engine) -> set[str]:
    return {column["name"] for column in inspect(engine).get_columns("requests")}


def insert_request(engine: Engine, **more: Any) -> None:
    with engine.begin() as connection:
        table = Table("requests", MetaData(), autoload_with=connection)
        connection.execute(insert(table).values(**REQUEST, **more))


def test_an_upgrade_keeps_requests_and_drops_their_worker_keys(engine: Engine) -> None:
    migrate_to(engine, "0002")
    insert_request(engine, worker_key="key")
    migrate(engine)
    assert "worker_key" not in columns(engine)
    with transaction(engine) as session:
        (request,) = session.scalars(select(Request))
    assert {name: getattr(request, name) for name in REQUEST} == REQUEST


def test_a_downgrade_keeps_requests(engine: Engine) -> None:
    migrate(engine)
    insert_request(engine, revision=1)
    migrate_to(engine, "0002")
    with engine.connect() as connection:
        (row,) = connection.exec_driver_sql("SELECT id, worker_key FROM requests")
    assert tuple(row) == ("earlier", "")
    migrate(engine)
    assert "worker_key" not in columns(engine)


def test_an_upgrade_keeps_the_urls_of_files(engine: Engine) -> None:
    migrate_to(engine, "0003")
    insert_request(engine)
    with engine.begin() as connection:
        table = Table("files", MetaData(), autoload_with=connection)
        numbers = dict.fromkeys(
            ("number", "attempt", "memory", "not_before", "lease_until", "bytes", "read", "events"),
            0,
        )
        texts = dict.fromkeys(("owner", "worker", "object", "reason", "message", "log"), "")
        connection.execute(
            insert(table).values(
                request_id="earlier",
                places=["root://origin//a.root"],
                pool=True,
                state="done",
                seconds=0,
                result_at=0,
                **numbers,
                **texts,
            )
        )
    migrate(engine)
    with transaction(engine) as session:
        assert session.scalars(select(File.urls)).all() == [["root://origin//a.root"]]
        # Nothing is known of earlier files: their results are not reused.
        assert [(file.address, file.identity) for file in session.scalars(select(File))] == [
            ("", [])
        ]


def test_requests_of_earlier_releases_have_revision_zero(engine: Engine) -> None:
    migrate_to(engine, "0004")
    insert_request(engine)
    migrate(engine)
    with transaction(engine) as session:
        (request,) = session.scalars(select(Request))
    assert (request.revision, request.remarks) == (0, "")
    migrate_to(engine, "0004")
    assert "revision" not in columns(engine)


def test_totals_begin_at_zero_and_requests_stay(engine: Engine) -> None:
    migrate_to(engine, "0006")
    insert_request(engine, revision=1)
    migrate(engine)
    with transaction(engine) as session:
        assert session.scalars(select(Request.id)).all() == ["earlier"]
        assert session.scalars(select(Total)).all() == []
        add_to_total(session, "requests", "complete")
    migrate_to(engine, "0006")
    assert not inspect(engine).has_table("totals")
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT id FROM requests").scalars().all() == ["earlier"]


def test_the_newest_version_is_what_the_code_declares(engine: Engine) -> None:
    migrate(engine)
    inspector = inspect(engine)
    for table in Base.metadata.sorted_tables:
        present = {column["name"] for column in inspector.get_columns(table.name)}
        assert present == set(table.columns.keys()), table.name
