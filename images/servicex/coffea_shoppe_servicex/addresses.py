"""URLs of files: which ones may be opened, and which lead to the same file."""

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

from coffea_shoppe_contract.addresses import canonical_address, shown_address

from coffea_shoppe_servicex.errors import QueryError

URL = re.compile(r"(x?roots?)://[^/\s]\S*( +\S+)*|(https?|davs)://[^/\s]\S*")
"""XRootD does not decode paths: a space is a space there, and %20 is not."""
FIRST_FILES = re.compile(r"(.*?)\?files=([0-9]+)", re.DOTALL)
"""The name of a dataset, and how many of its files are read."""
METALINKS = (".meta4", ".metalink")
"""Suffixes of lists of URLs, which XRootD's client opens in place of the list."""


def check(address: str, *, local_files: bool) -> None:
    """Raise `QueryError` for a URL that must not be opened, with what to give instead.

    It is called with exactly the URL that is then opened.  Shared transformers have the
    facility's keys in files: they read no local files, and no URLs that may lead to one.
    `local_files`: local files are read, too, since all of them belong to the user.
    """
    if local_files:
        return
    remedy = f"{shown_address(address)!r} cannot be read from here: give root:// or https://"
    if "::" in address:
        raise QueryError(f"{remedy} of the file itself, without '::' (a chain of file systems)")
    if not URL.fullmatch(address):
        if re.match(r"(https?|davs)://\S", address) and " " in address.strip():
            remedy += ", with %20 for a space"
        raise QueryError(remedy)
    if urlsplit(address).path.endswith(METALINKS):
        raise QueryError(f"{remedy} of the file itself, not of a metalink")


def split_did(did: str) -> tuple[str, int | None]:
    """Return a dataset's SCHEME://NAME, and the N of `?files=N`; None: all files.

    Raises `QueryError` for other options.  In a pattern of XRootD, `?` is a wildcard.
    """
    if match := FIRST_FILES.fullmatch(did):
        did, count = match[1], int(match[2])
    else:
        count = None
    name, question_mark, option = did.partition("?")
    if question_mark and not did.startswith("xrootd://"):
        raise QueryError(f"did: {option!r} is no option of {name}: give ?files=N, or nothing")
    if question_mark and option.startswith("files="):
        raise QueryError(f"did: {option!r}: give the number of files, as in ?files=10")
    return did, count


def distinct(files: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the files of a listing, each with all its `paths`, once.

    Files with a common path are the same file, and so are those that a third one has paths in
    common with.  A listing may name a file several times: containers overlap, and servers
    redirect to one another.
    """
    listing = [({canonical_address(path): path for path in file["paths"]}, file) for file in files]
    links = list(range(len(listing)))
    """For each file, the number of an earlier one that is the same, or its own."""

    def first(number: int) -> int:
        """Return the number of the first file that is the same."""
        while links[number] != number:
            links[number] = links[links[number]]
            number = links[number]
        return number

    by_address: dict[str, int] = {}
    for number, (paths, _) in enumerate(listing):
        for address in paths:
            same = sorted((first(by_address.setdefault(address, number)), first(number)))
            links[same[1]] = same[0]
    merged: dict[int, dict[str, Any]] = {}
    for number, (paths, file) in enumerate(listing):
        entry = merged.setdefault(first(number), {**file, "paths": []})
        for address, path in paths.items():
            if by_address.pop(address, None) is not None:
                entry["paths"].append(path)
    return list(merged.values())
