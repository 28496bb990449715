"""The command `affected`: stored results that earlier code may have made wrong."""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import Engine, select

from coffea_shoppe_servicex import database
from coffea_shoppe_servicex.codegens import Codegens
from coffea_shoppe_servicex.database import File, Request, transaction
from coffea_shoppe_servicex.errors import QueryError
from coffea_shoppe_servicex.faults import FAULTS, REVISION, Stored, faults_of
from coffea_shoppe_servicex.formats import Format
from coffea_shoppe_servicex.servers import SETTINGS_FILE
from coffea_shoppe_servicex.settings import Settings


@dataclass(frozen=True)
class Affected:
    """A request whose results may be wrong."""

    request: str
    owner: str
    submitted: str
    """Time in UTC."""
    title: str
    faults: list[str]
    """Names of the faults' changelog fragments."""


def affected(engine: Engine, codegens: Codegens, *, by_files: bool) -> Iterator[Affected]:
    """Yield the requests with stored results that faults of earlier code concern.

    With `by_files`, also those whose results are right unless their files have something
    unusual.
    """
    ended = ("Complete", "Fatal")
    statement = select(Request).where(
        Request.revision < REVISION, Request.status.in_(ended), Request.deleted.is_(False)
    )
    with transaction(engine) as session:
        for request in session.scalars(statement.order_by(Request.owner, Request.created)):
            files = select(File.urls).where(File.request_id == request.id)
            stored = _stored(request, codegens, list(session.scalars(files)))
            if faults := faults_of(stored, request.revision, by_files=by_files):
                submitted = time.strftime("%Y-%m-%d %H:%M", time.gmtime(request.created))
                names = [fault.name for fault in faults]
                yield Affected(request.id, request.owner, submitted, request.title, names)


def _stored(request: Request, codegens: Codegens, urls: Sequence[Sequence[str]]) -> Stored:
    result_format: Format = request.result_format  # type: ignore[assignment]
    try:
        query = codegens.parse(request.codegen, request.selection, result_format)
    except QueryError:
        query = None
    paths = [replicas[0] for replicas in urls]
    return Stored(query, request.selection, request.result_format, paths)


def main(arguments: list[str]) -> None:
    """Print the requests, and what their results may have."""
    parser = argparse.ArgumentParser(
        prog="coffea-shoppe-servicex affected",
        description="List stored results that earlier code may have made wrong.",
        epilog="A user who submits such a request again gets results of the present code; the "
        "stock client does so with ignore_local_cache=True.",
    )
    parser.add_argument("--settings", type=Path, default=SETTINGS_FILE, help="settings (YAML)")
    parser.add_argument(
        "--all",
        action="store_true",
        help="also results that are wrong only if a file has something unusual, such as two "
        "nested branches with one name",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON list")
    options = parser.parse_args(arguments)
    settings = Settings.load(options.settings)
    codegens = Codegens.load(None, settings.codegens_folder)
    engine = database.connect(settings.database)
    rows = list(affected(engine, codegens, by_files=options.all))
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    for row in rows:
        faults = ", ".join(row.faults)
        print(f"{row.request}  {row.owner:16s} {row.submitted}  {faults}  {row.title}".rstrip())
    named = {name for row in rows for name in row.faults}
    for fault in FAULTS:
        if fault.name in named:
            print(f"{fault.name}: {fault.what}")
    print(f"{len(rows)} requests with stored results that may be wrong")
