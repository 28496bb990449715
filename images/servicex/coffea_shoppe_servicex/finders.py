"""Finders of datasets' files: CERN Open Data, XRootD servers, Rucio."""

import fnmatch
import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from coffea_shoppe_servicex import addresses
from coffea_shoppe_servicex.errors import QueryError
from coffea_shoppe_servicex.settings import Finders, Rucio

ROOT_FILE = re.compile(r"\.root(\.[0-9]+)?$")
"""Names of ROOT files; ATLAS' end in the number of the attempt (`.pool.root.1`)."""
Files = list[dict[str, Any]]
"""Dictionaries with paths (replicas), size (bytes), events and adler32; 0 or '' if unknown."""


class LookupFailedError(Exception):
    """A failed look-up; `status` is the lookup status that the client knows."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        """does_not_exist, bad_name or internal_failure."""


def find(name: str, settings: Finders) -> Files:
    """Return the files of `SCHEME://NAME`, each once; raises `LookupFailedError`."""
    scheme, _, rest = name.partition("://")
    finders: dict[str, Callable[[str, Finders], Files]] = {
        "cernopendata": cern_open_data,
        "xrootd": xrootd,
        "rucio": rucio,
    }
    try:
        listing = [_readable(name, file) for file in finders[scheme](rest, settings)]
        return addresses.distinct(listing)
    except LookupFailedError:
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [repr(error)])[0]
        message = f"{name} could not be looked up ({type(error).__name__}: {reason})"
        raise LookupFailedError("internal_failure", message) from error


def _readable(name: str, file: dict[str, Any]) -> dict[str, Any]:
    """Return a file with only those replicas that transformers may open.

    Raises `LookupFailedError` if there is none: a dataset without the file is incomplete.
    """
    paths = []
    problem = "it has no replica"
    for path in file["paths"]:
        try:
            addresses.check(path, local_files=False)
        except QueryError as error:
            problem = str(error)
        else:
            paths.append(path)
    if not paths:
        raise LookupFailedError("internal_failure", f"a file of {name} cannot be read: {problem}")
    return {**file, "paths": paths}


def cern_open_data(name: str, settings: Finders) -> Files:
    """Return the ROOT files of a record, by number, of the CERN Open Data portal.

    Index files that list other records are not followed.
    """
    if not settings.cernopendata:
        message = "cernopendata:// is disabled: its administrators set "
        message += "didFinder.CERNOpenData.enabled"
        raise LookupFailedError("internal_failure", message)
    if not name.isdigit():
        raise LookupFailedError("bad_name", f"cernopendata://{name}: give the number of a record")
    url = f"{settings.cernopendata.rstrip('/')}/api/records/{name}"
    response = requests.get(url, timeout=settings.timeout_s)
    if response.status_code == 404:
        raise LookupFailedError("does_not_exist", f"CERN Open Data has no record {name}")
    response.raise_for_status()
    metadata = response.json()["metadata"]
    entries = list(metadata.get("files") or metadata.get("_files") or ())
    for index in metadata.get("_file_indices") or ():
        entries += index.get("files") or ()
    files = []
    for entry in entries:
        path = str(entry.get("uri") or "")
        if not ROOT_FILE.search(path):
            continue
        checksum = str(entry.get("checksum") or "").removeprefix("adler32:")
        size = int(entry.get("size") or 0)
        files.append({"paths": [path], "size": size, "events": 0, "adler32": checksum})
    return files


def xrootd(pattern: str, settings: Finders) -> Files:
    """Return the files that match `root://HOST//PATH`, in which `*`, `?` and `[]` are wildcards."""
    if not settings.xrootd:
        message = "xrootd:// is disabled: its administrators set didFinder.xrootd.enabled"
        raise LookupFailedError("internal_failure", message)
    url = pattern if pattern.startswith(("root://", "xroot://")) else f"root://{pattern}"
    # In a path, `?` and `#` are what they are: no query or fragment follows.
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    if not urlsplit(f"//{host}").hostname or not path.strip("/"):
        raise LookupFailedError("bad_name", f"xrootd://{pattern}: give root://HOST//PATH")
    from XRootD import client
    from XRootD.client.flags import DirListFlags, StatInfoFlags

    server = client.FileSystem(f"{scheme}://{host}")
    segments = [part for part in path.split("/") if part]
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
            base = f"{scheme}://{host}/"
            return [
                {"paths": [base + place], "size": size, "events": 0, "adler32": ""}
                for place, size in sorted(matched)
            ]
        folders = [place for place, _ in matched]
    return []


def rucio(name: str, settings: Finders) -> Files:
    """Return the files of a Rucio dataset `SCOPE:NAME`, each with all its replicas."""
    server = settings.rucio
    if not server.host:
        message = "this facility has no Rucio: its administrators set didFinder.rucio.rucio_host"
        raise LookupFailedError("internal_failure", message)
    scope, separator, dataset = name.partition(":")
    if not separator or not scope or not dataset:
        raise LookupFailedError("bad_name", f"rucio://{name}: give SCOPE:NAME")
    path = f"dids/{quote(scope, safe='')}/{quote(dataset, safe='')}/files"
    files = _call_rucio("GET", path, settings)
    body = {
        "dids": [{"scope": scope, "name": dataset}],
        "schemes": ["root", "davs", "https"],
        "rse_expression": server.rse_expression or None,
    }
    replicas = {
        (file["scope"], file["name"]): [*sorted(file.get("pfns") or {}, key=_is_not_root)]
        for file in _call_rucio("POST", "replicas/list", settings, body)
    }
    # Rucio omits files without a replica; without them the dataset would be incomplete.
    missing = [file for file in files if not replicas.get((file["scope"], file["name"]))]
    if missing:
        first = f"{missing[0]['scope']}:{missing[0]['name']}"
        message = f"{len(missing)} of the {len(files)} files of {name} have no replica "
        message += f"that can be read from here, {first} is the first"
        raise LookupFailedError("internal_failure", message)
    return [
        {
            "paths": replicas[file["scope"], file["name"]],
            "size": int(file.get("bytes") or 0),
            "events": int(file.get("events") or 0),
            "adler32": str(file.get("adler32") or ""),
        }
        for file in files
    ]


def _is_not_root(url: str) -> bool:
    """Return the sort key that puts root:// before other protocols."""
    return not url.startswith("root")


def _call_rucio(
    method: str, path: str, settings: Finders, body: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return the objects of Rucio's JSON stream, one per line; raises `LookupFailedError`."""
    server = settings.rucio
    response = requests.request(
        method,
        f"{server.host.rstrip('/')}/{path}",
        json=body,
        # In addition to metalink, the only format of this endpoint.
        headers={"X-Rucio-Auth-Token": _token(server), "Accept": "application/x-json-stream"},
        timeout=settings.timeout_s,
    )
    if response.ok:
        return [json.loads(line) for line in response.text.splitlines() if line.strip()]
    try:
        message = str(response.json()["ExceptionMessage"])
    except (ValueError, LookupError, TypeError):
        message = f"{response.status_code} {response.reason}"
    if response.status_code == 404:
        raise LookupFailedError("does_not_exist", f"Rucio: {message}")
    if response.status_code == 401:
        message += (
            "; the facility's administrators renew the token in didFinder.rucio.existingSecret"
        )
    raise LookupFailedError("internal_failure", f"Rucio: {message}")


def _token(server: Rucio) -> str:
    if server.token is None:
        message = "Rucio's token is missing: its administrators set didFinder.rucio.existingSecret"
        raise LookupFailedError("internal_failure", message)
    return server.token.read_text().strip()
