"""The dump of the databases before an upgrade, with stand-ins for PostgreSQL's programs."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "back-up-postgresql"
PROGRAMS = {
    # Responds after LATE calls; each call is a line of LOG.
    "pg_isready": """
        echo "$PGSERVICEFILE $*" >> "$LOG"
        [ "$(wc -l < "$LOG")" -gt "$LATE" ] || { echo "no response"; exit 2; }
    """,
    "pg_dump": """
        for word; do
          case $word in --file=*) echo "dump by $PGSERVICEFILE" > "${word#--file=}" ;; esac
        done
    """,
    "sleep": "",
}


@pytest.fixture
def databases(tmp_path: Path) -> Path:
    for name in ("mlflow", "servicex"):
        folder = tmp_path / "databases" / name
        folder.mkdir(parents=True)
        (folder / "service.conf").write_text(f"[{name}]\n")
    (tmp_path / "backup").mkdir()
    (tmp_path / "bin").mkdir()
    for name, text in PROGRAMS.items():
        program = tmp_path / "bin" / name
        program.write_text(f"#!/bin/sh\n{text}\n")
        program.chmod(0o755)
    return tmp_path / "databases"


def back_up(databases: Path, *, late: int) -> subprocess.CompletedProcess[str]:
    """Run the script; the server responds after `late` calls of `pg_isready`."""
    folder = databases.parent
    environment = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "LOG": str(folder / "log"),
        "LATE": str(late),
    }
    return subprocess.run(
        [str(SCRIPT), str(databases), str(folder / "backup"), "2"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("late", [0, 1, 60])
def test_each_database_is_dumped_once_its_server_responds(databases: Path, late: int) -> None:
    run = back_up(databases, late=late)
    assert run.returncode == 0, run.stderr
    dumps = sorted((databases.parent / "backup").iterdir())
    assert [dump.name.split("-")[0] for dump in dumps] == ["mlflow", "servicex"]
    for dump, name in zip(dumps, ("mlflow", "servicex"), strict=True):
        assert dump.read_text() == f"dump by {databases}/{name}//service.conf\n"
    assert run.stdout.count("waiting for the server of database mlflow: no response") == (late > 0)
    calls = (databases.parent / "log").read_text().splitlines()
    assert calls[-1].endswith("--dbname=service=servicex")
    assert len(calls) == late + 2


def test_a_server_that_stays_away_ends_the_backup_with_the_reason(databases: Path) -> None:
    run = back_up(databases, late=1000)
    assert run.returncode == 1
    assert "timeout after 120 s: waited until the server of database mlflow" in run.stderr
    assert "no response" in run.stderr
    assert list((databases.parent / "backup").iterdir()) == []


def test_the_last_dumps_are_kept(databases: Path) -> None:
    backup = databases.parent / "backup"
    for day in (1, 2, 3):
        (backup / f"mlflow-2026010{day}T000000Z.dump").write_text("")
    (backup / "mlflow-20260104T000000Z.dump.part").write_text("")
    assert back_up(databases, late=0).returncode == 0
    kept = sorted(file.name for file in backup.glob("mlflow-*"))
    assert len(kept) == 2
    assert kept[0] == "mlflow-20260103T000000Z.dump"
