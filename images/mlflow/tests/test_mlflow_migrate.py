"""What runs before the server: the wait for the database, and the list of unreadable versions."""

import re
from pathlib import Path

import pytest
from coffea_shoppe_mlflow.migrate import INTERVAL_S, TIMEOUT_S, connect, unreadable_versions
from sqlalchemy import create_engine, text


def test_a_database_that_starts_later_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "later"
    pauses = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2:
            folder.mkdir()

    engine = create_engine(f"sqlite:///{folder}/mlflow.db")
    with connect(engine, clock=lambda: 0, sleep=sleep) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    assert pauses == [INTERVAL_S] * 2
    assert capsys.readouterr().out.count("does not respond yet") == 2


def test_a_database_that_does_not_respond_in_time_is_an_error(tmp_path: Path) -> None:
    times = iter(range(0, 10 * TIMEOUT_S, TIMEOUT_S // 2))
    engine = create_engine(f"sqlite:///{tmp_path}/missing/mlflow.db")
    with pytest.raises(SystemExit, match=r"did not respond within 240 s: unable to open"):
        connect(engine, clock=lambda: next(times), sleep=lambda _: None)


def test_versions_whose_source_is_not_in_mlflow_are_listed() -> None:
    versions = [
        ("user-ann", "bdt", 1, "models:/m-1", None),
        ("user-ann", "bdt", 2, "/data/artifacts/x", None),
        # Where both are set, the server reads the storage location.
        ("user-bob", "nn", 1, "models:/m-2", "s3://bucket/x"),
        ("user-bob", "nn", 2, None, None),
    ]
    with create_engine("sqlite://").connect() as connection:
        columns = "workspace TEXT, name TEXT, version INT, source TEXT, storage_location TEXT"
        connection.execute(text(f"CREATE TABLE model_versions ({columns})"))
        for row in versions:
            values = dict(zip("abcde", row, strict=True))
            connection.execute(
                text("INSERT INTO model_versions VALUES (:a, :b, :c, :d, :e)"), values
            )
        lines = unreadable_versions(connection, re.compile("^(runs|models):/"))
    assert lines == [
        "not read: user-ann: version 2 of bdt, source '/data/artifacts/x'",
        "not read: user-bob: version 1 of nn, source 's3://bucket/x'",
        "not read: user-bob: version 2 of nn, source None",
    ]
