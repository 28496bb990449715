"""Where the files of a named dataset are: CERN Open Data, XRootD, Rucio."""

import fnmatch
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from coffea_shoppe_servicex.settings import Finders, Rucio

Found = list[dict[str, Any]]
"""Of {paths, size, events, adler32}."""


class LookupFailedError(Exception):
    """A dataset that cannot be had; `status` is the client's word for why."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        """does_not_exist, bad_name or internal_failure."""


def find(name: str, settings: Finders) -> Found:
    """Return the files of `SCHEME://NAME`; raises `LookupFailedError`."""
    scheme, _, rest = name.partition("://")
    finder: dict[str, Callable[[str, Finders], Found]] = {
        "cernopendata": cern_open_data,
        "xrootd": xrootd,
        "rucio": rucio,
    }
    try:
        return finder[scheme](rest, settings)
    except LookupFailedError:
        raise
    except Exception as error:
        told = (str(error).strip().splitlines() or [repr(error)])[0]
        message = f"{name} could not be looked up ({type(error).__name__}: {told})"
        raise LookupFailedError("internal_failure", message) from error


def cern_open_data(name: str, settings: Finders) -> Found:
    """Return the files of a record of CERN's Open Data portal, by its number.

    A record that is an index of others (`_files` with index files) is not followed.
    """
    if not settings.cernopendata:
        told = "this facility does not look datasets up at CERN Open Data"
        raise LookupFailedError("internal_failure", told)
    if not name.isdigit():
        raise LookupFailedError("bad_name", f"cernopendata://{name}: give the record's number")
    url = f"{settings.cernopendata.rstrip('/')}/api/records/{name}"
    answer = requests.get(url, timeout=settings.timeout_s)
    if answer.status_code == 404:
        raise LookupFailedError("does_not_exist", f"CERN Open Data has no record {name}")
    answer.raise_for_status()
    metadata = answer.json()["metadata"]
    files = list(metadata.get("files") or metadata.get("_files") or ())
    for index in metadata.get("_file_indices") or ():
        files += index.get("files") or ()
    found = []
    for one in files:
        path = str(one.get("uri") or "")
        if not path.endswith(".root"):
            continue
        checksum = str(one.get("checksum") or "").removeprefix("adler32:")
        size = int(one.get("size") or 0)
        found.append({"paths": [path], "size": size, "events": 0, "adler32": checksum})
    return found


def xrootd(pattern: str, settings: Finders) -> Found:
    """Return the files that a pattern `root://HOST//PATH` with wildcards stands for."""
    if not settings.xrootd:
        raise LookupFailedError("internal_failure", "this facility does not list XRootD servers")
    url = pattern if pattern.startswith(("root://", "xroot://")) else f"root://{pattern}"
    parts = urlsplit(url)
    if not parts.hostname or parts.path in ("", "/"):
        raise LookupFailedError("bad_name", f"xrootd://{pattern}: give root://HOST//PATH")
    from XRootD import client
    from XRootD.client.flags import DirListFlags, StatInfoFlags

    server = client.FileSystem(f"{parts.scheme}://{parts.netloc}")
    segments = [part for part in parts.path.split("/") if part]
    folders = [""]
    for depth, segment in enumerate(segments):
        last = depth + 1 == len(segments)
        if not last and not any(mark in segment for mark in "*?["):
            folders = [f"{folder}/{segment}" for folder in folders]
            continue
        matched: list[tuple[str, int]] = []
        for folder in folders:
            status, listing = server.dirlist(
                folder or "/", DirListFlags.STAT, timeout=int(settings.timeout_s)
            )
            if not status.ok:
                if status.errno == 3011:  # kXR_NotFound
                    continue
                raise LookupFailedError("internal_failure", f"{url}: {status.message.strip()}")
            for entry in listing or ():
                is_folder = bool(entry.statinfo and entry.statinfo.flags & StatInfoFlags.IS_DIR)
                if is_folder != last and fnmatch.fnmatchcase(entry.name, segment):
                    size = entry.statinfo.size if entry.statinfo else 0
                    matched.append((f"{folder}/{entry.name}", size))
        if last:
            base = f"{parts.scheme}://{parts.netloc}/"
            return [
                {"paths": [base + path], "size": size, "events": 0, "adler32": ""}
                for path, size in sorted(matched)
            ]
        folders = [path for path, _ in matched]
    return []


def rucio(name: str, settings: Finders) -> Found:
    """Return the files of a Rucio dataset `SCOPE:NAME`, each with all its replicas."""
    where = settings.rucio
    if not where.host:
        told = "this facility has no Rucio: its operators set didFinder.rucio.rucio_host"
        raise LookupFailedError("internal_failure", told)
    scope, separator, short = name.partition(":")
    if not separator or not scope or not short:
        raise LookupFailedError("bad_name", f"rucio://{name}: give SCOPE:NAME")
    path = f"dids/{quote(scope, safe='')}/{quote(short, safe='')}/files"
    files = _asked_of_rucio("GET", path, settings)
    body = {
        "dids": [{"scope": scope, "name": short}],
        "schemes": ["root", "davs", "https"],
        "rse_expression": where.rse_expression or None,
    }
    replicas = {
        (one["scope"], one["name"]): [*sorted(one.get("pfns") or {}, key=_root_first)]
        for one in _asked_of_rucio("POST", "replicas/list", settings, body)
    }
    # Rucio lists no file that has no replica: the dataset without it would pass for whole.
    missing = [one for one in files if not replicas.get((one["scope"], one["name"]))]
    if missing:
        first = f"{missing[0]['scope']}:{missing[0]['name']}"
        told = f"{len(missing)} of the {len(files)} files of {name} have no replica "
        told += f"that can be read from here, {first} is the first"
        raise LookupFailedError("internal_failure", told)
    return [
        {
            "paths": replicas[one["scope"], one["name"]],
            "size": int(one.get("bytes") or 0),
            "events": int(one.get("events") or 0),
            "adler32": str(one.get("adler32") or ""),
        }
        for one in files
    ]


def _root_first(url: str) -> bool:
    return not url.startswith("root")


def _asked_of_rucio(
    method: str, path: str, settings: Finders, body: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return what Rucio streams, an object a line; raises `LookupFailedError`."""
    where = settings.rucio
    answer = requests.request(
        method,
        f"{where.host.rstrip('/')}/{path}",
        json=body,
        # The one kind that it offers here besides metalink.
        headers={"X-Rucio-Auth-Token": _token(where), "Accept": "application/x-json-stream"},
        timeout=settings.timeout_s,
    )
    if answer.ok:
        return [json.loads(line) for line in answer.text.splitlines() if line.strip()]
    try:
        told = str(answer.json()["ExceptionMessage"])
    except (ValueError, LookupError, TypeError):
        told = f"{answer.status_code} {answer.reason}"
    if answer.status_code == 404:
        raise LookupFailedError("does_not_exist", f"Rucio: {told}")
    if answer.status_code == 401:
        told += "; the facility's operators renew the token in didFinder.rucio.existingSecret"
    raise LookupFailedError("internal_failure", f"Rucio: {told}")


def _token(where: Rucio) -> str:
    if where.token is None:
        told = "Rucio's token is missing: its operators set didFinder.rucio.existingSecret"
        raise LookupFailedError("internal_failure", told)
    return where.token.read_text().strip()
