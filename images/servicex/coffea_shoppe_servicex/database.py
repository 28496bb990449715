"""The tables, and the connection to them: PostgreSQL, or a file for a laptop."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import JSON, BigInteger, Engine, ForeignKey, Index, Text, create_engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

MIGRATIONS = Path(__file__).parent / "migrations"
LOCK = 7215312  # any number that no other service of the database locks


class Base(DeclarativeBase):
    """What all tables share."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


class Dataset(Base):
    """Files that a name stands for, as they were looked up for a user."""

    __tablename__ = "datasets"

    id: Mapped[int] = mapped_column(primary_key=True)
    owner: Mapped[str]
    name: Mapped[str]
    finder: Mapped[str]
    """rucio, cernopendata or xrootd."""
    status: Mapped[str]
    """looking, complete, does_not_exist, bad_name or internal_failure."""
    message: Mapped[str] = mapped_column(Text, default="")
    stale: Mapped[bool] = mapped_column(default=False)
    """Deleted: not used again."""
    files: Mapped[list[Any]] = mapped_column(default=list)
    """Of {paths, size, events, adler32}."""
    updated: Mapped[float]
    used: Mapped[float]

    __table_args__ = (Index("datasets_name", "owner", "name"),)


class User(Base):
    """What a user may have, as the facility told; there is none for who was not told of."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    """The oldest results are removed beyond that; 0: no limit."""
    share: Mapped[float]
    """How many files at a time, as against a user with a share of 1."""


class Request(Base):
    """What a user asked for."""

    __tablename__ = "requests"

    id: Mapped[str] = mapped_column(primary_key=True)
    owner: Mapped[str] = mapped_column(index=True)
    owner_uid: Mapped[str]
    title: Mapped[str] = mapped_column(default="")
    did: Mapped[str] = mapped_column(Text, default="")
    dataset_id: Mapped[int] = mapped_column(default=0)
    codegen: Mapped[str]
    selection: Mapped[str] = mapped_column(Text)
    result_format: Mapped[str]
    status: Mapped[str] = mapped_column(index=True)
    reason: Mapped[str] = mapped_column(Text, default="")
    """Why it did not succeed, in a sentence."""
    memory: Mapped[int]
    """MiB that a file's transform begins with."""
    cache_key: Mapped[str] = mapped_column(index=True, default="")
    folder: Mapped[str]
    """Below which its objects are: its id, or that of the request whose result it shares."""
    files: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    created: Mapped[float]
    finished: Mapped[float | None]
    last_result: Mapped[int] = mapped_column(BigInteger, default=0)
    """Time (Unix, µs) of the last result; each is later than the one before."""
    deleted: Mapped[bool] = mapped_column(default=False)
    """Whether its user deleted it: it is forgotten once no transformer can come back to it."""
    swept: Mapped[bool] = mapped_column(default=False)
    """Whether what given-up attempts left behind was looked for."""
    access_key: Mapped[str] = mapped_column(index=True)
    secret_key: Mapped[str]
    worker_key: Mapped[str] = mapped_column(default="")
    """Unused.  An API of before the upgrade writes it; the next migration drops it."""


class File(Base):
    """One input file of a request, and what became of it."""

    __tablename__ = "files"

    id: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(
        ForeignKey("requests.id", ondelete="CASCADE"), index=True
    )
    owner: Mapped[str]
    number: Mapped[int]
    places: Mapped[list[Any]]
    """Where it lies, as it was asked for: replicas of the same file."""
    pool: Mapped[bool]
    """Whether shared transformers may take it."""
    state: Mapped[str]
    """waiting, leased, done, failed or canceled."""
    attempt: Mapped[int] = mapped_column(default=0)
    memory: Mapped[int]
    not_before: Mapped[float] = mapped_column(default=0.0)
    lease_until: Mapped[float] = mapped_column(default=0.0)
    worker: Mapped[str] = mapped_column(default="")
    object: Mapped[str] = mapped_column(Text, default="")
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    read: Mapped[int] = mapped_column(BigInteger, default=0)
    events: Mapped[int] = mapped_column(BigInteger, default=0)
    seconds: Mapped[float] = mapped_column(default=0.0)
    result_at: Mapped[int] = mapped_column(BigInteger, default=0)
    reason: Mapped[str] = mapped_column(default="")
    message: Mapped[str] = mapped_column(Text, default="")
    log: Mapped[str] = mapped_column(Text, default="")

    __table_args__ = (
        Index("files_state", "state", "pool", "owner"),
        Index("files_result", "request_id", "result_at"),
    )


def connect(url: str) -> Engine:
    """Return the engine of `postgresql+psycopg2://?service=NAME`, or of `sqlite:///PATH`."""
    if not url.startswith("sqlite"):
        # One in the pool for each thread of the API.
        settings = {"connect_timeout": 10}
        return create_engine(
            url, pool_size=12, max_overflow=8, pool_pre_ping=True, connect_args=settings
        )
    engine = create_engine(url, connect_args={"timeout": 60})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # transactions are begun below
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # One writer at a time, from its first look: what PostgreSQL's row locks do.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Yield a session whose changes are all made at the end, or none."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session


def migrate(engine: Engine) -> None:
    """Bring the tables up to date; two that start at once take turns."""
    settings = Config()
    settings.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        settings.attributes["connection"] = connection
        command.upgrade(settings, "head")
        connection.commit()
