"""Tables and connections: PostgreSQL in a facility, SQLite on a laptop."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, BigInteger, Engine, ForeignKey, Index, Text, create_engine, event, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from coffea_shoppe_servicex.errors import RevisionError

MIGRATIONS = Path(__file__).parent / "migrations"
MIGRATION_LOCK = 7215312  # arbitrary; no other service of this database uses it
ADD_TO_TOTAL = text(
    "INSERT INTO totals (name, status, value) VALUES (:name, :status, :amount) "
    "ON CONFLICT (name, status) DO UPDATE SET value = totals.value + excluded.value"
)
"""The same in PostgreSQL and SQLite."""


class Base(DeclarativeBase):
    """Base class of all tables."""

    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON}  # noqa: RUF012


class Dataset(Base):
    """The files of a dataset, as looked up for one user."""

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
    """Deleted by its user: the next request looks the dataset up again."""
    files: Mapped[list[Any]] = mapped_column(default=list)
    """Dictionaries with paths (replicas), size (bytes), events and adler32."""
    updated: Mapped[float]
    used: Mapped[float]

    __table_args__ = (Index("datasets_name", "owner", "name"),)


class User(Base):
    """Per-user quota, set by the operator.  Users without a row have the defaults."""

    __tablename__ = "users"

    name: Mapped[str] = mapped_column(primary_key=True)
    bytes: Mapped[int] = mapped_column(BigInteger)
    """The oldest results above this size are removed; 0: no limit."""
    share: Mapped[float]
    """Weight in the queue: a share of 2 gets twice the files of a share of 1."""


class Request(Base):
    """A transform request."""

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
    """Why the request failed or is delayed."""
    remarks: Mapped[str] = mapped_column(Text, default="")
    """What is uncertain of its files' identities; '' if nothing is."""
    memory: Mapped[int]
    """Initial memory limit of a file's transform, in MiB."""
    cache_key: Mapped[str] = mapped_column(index=True, default="")
    revision: Mapped[int] = mapped_column(default=0)
    """Of the code that makes the results (`faults.REVISION`); 0: of an earlier release."""
    folder: Mapped[str]
    """Prefix of the objects: the request's id, or that of the request whose result it reuses."""
    files: Mapped[int] = mapped_column(default=0)
    completed: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    bytes: Mapped[int] = mapped_column(BigInteger, default=0)
    created: Mapped[float]
    finished: Mapped[float | None]
    last_result: Mapped[int] = mapped_column(BigInteger, default=0)
    """Time of the last result (Unix, µs); strictly increasing."""
    deleted: Mapped[bool] = mapped_column(default=False)
    """Deleted by its user; the row is removed once no transformer can still upload to it."""
    swept: Mapped[bool] = mapped_column(default=False)
    """Whether orphaned objects of abandoned attempts have been removed."""
    access_key: Mapped[str] = mapped_column(index=True)
    secret_key: Mapped[str]


class File(Base):
    """One input file of a request, its state in the queue, and its result."""

    __tablename__ = "files"

    id: Mapped[int] = mapped_column(primary_key=True)
    request_id: Mapped[str] = mapped_column(
        ForeignKey("requests.id", ondelete="CASCADE"), index=True
    )
    owner: Mapped[str]
    number: Mapped[int]
    urls: Mapped[list[Any]]
    """URLs of the file's replicas, as submitted or looked up."""
    address: Mapped[str] = mapped_column(default="")
    """Hash of the canonical address of the first URL; '' before the look-up."""
    identity: Mapped[list[Any]] = mapped_column(default=list)
    """Identities (`identities.Identity`) of it and of the files that the query reads beside it."""
    pool: Mapped[bool]
    """Whether shared transformers may lease it."""
    state: Mapped[str]
    """waiting, leased, done, failed or canceled."""
    attempt: Mapped[int] = mapped_column(default=0)
    memory: Mapped[int]
    not_before: Mapped[float] = mapped_column(default=0.0)
    lease_until: Mapped[float] = mapped_column(default=0.0)
    transformer: Mapped[str] = mapped_column(default="")
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
        Index("files_address", "address", "owner"),
    )


class Total(Base):
    """A sum over everything that has ended; it stays when requests are removed."""

    __tablename__ = "totals"

    name: Mapped[str] = mapped_column(primary_key=True)
    """requests, files or delivered_bytes."""
    status: Mapped[str] = mapped_column(primary_key=True)
    """How the requests or files ended; '' of the bytes."""
    value: Mapped[int] = mapped_column(BigInteger)


def connect(url: str) -> Engine:
    """Return the engine of `postgresql+psycopg2://?service=NAME` or `sqlite:///PATH`."""
    if not url.startswith("sqlite"):
        # One pooled connection per thread of the API.
        return create_engine(
            url,
            pool_size=12,
            max_overflow=8,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 10},
        )
    engine = create_engine(url, connect_args={"timeout": 60})

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # `begin` below starts transactions
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Any) -> None:
        # SQLite has no row locks: take the write lock before the first read.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


@contextmanager
def transaction(engine: Engine) -> Iterator[Session]:
    """Yield a session that commits at the end, or rolls back on an exception."""
    with Session(engine, expire_on_commit=False) as session, session.begin():
        yield session
        _write_totals(session)


def add_to_total(session: Session, name: str, status: str, amount: int = 1) -> None:
    """Add to a total at the end of the session's transaction, and only if it commits."""
    session.info.setdefault("totals", Counter())[name, status] += amount


def _write_totals(session: Session) -> None:
    # All transactions share these few rows.  Written last, none is locked while a transaction
    # waits for another row or for the object store; in one order, no two block each other.
    totals: Counter[tuple[str, str]] = session.info.pop("totals", Counter())
    for (name, status), amount in sorted(totals.items()):
        if amount:
            session.execute(ADD_TO_TOTAL, {"name": name, "status": status, "amount": amount})


def migrate(engine: Engine) -> None:
    """Migrate the tables to the newest version; concurrent calls take turns.

    Raises RevisionError for a database of a newer version, or of one before the first release.
    """
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION_LOCK})
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if unknown := set(MigrationContext.configure(connection).get_current_heads()) - known:
            raise RevisionError(
                f"the database has revision {', '.join(unknown)}, which this version does not "
                f"know: use the version that migrated it, or drop the database"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
