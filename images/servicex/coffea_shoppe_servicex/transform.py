"""One file in, one file of selected columns out, with memory bounded by a chunk's size."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from coffea_shoppe_contract.addresses import shown_address

from coffea_shoppe_servicex import identities
from coffea_shoppe_servicex.codegen import Codegen, Outcome, Source
from coffea_shoppe_servicex.errors import LOGIN_FAILED, TransformError, UnreadableError
from coffea_shoppe_servicex.formats import Format
from coffea_shoppe_servicex.identities import Identity

LOG = logging.getLogger(__name__)


def transform(
    query: Codegen,
    source_urls: Sequence[str],
    target: Path,
    result_format: Format,
    *,
    local_files: bool = False,
    identity: Sequence[Identity] = (),
) -> Outcome:
    """Transform a file into `target`, read from the first of its URLs that can be read.

    `local_files`: files of this machine are read, too.  `identity` has the identities of the
    file, and of those that the query reads beside it, from their look-up: a file that is
    another one now, or afterwards, fails.  Raises `TransformError`.
    """
    look = partial(identities.current_once_closed, local_files=local_files)
    responsive = _check_unchanged(identity, look)
    outcome = _transform(query, source_urls, target, result_format, identity, local_files)
    # A file that changes while it is read may be a mixture.
    _check_unchanged(responsive, partial(identities.current, local_files=local_files))
    return outcome


def _check_unchanged(
    identity: Sequence[Identity], look: Callable[[str], Identity]
) -> list[Identity]:
    """Raise `TransformError` if a file is another one now; return those whose origin responds.

    `look` returns the present identity of the file at a URL.  Raises `UnreadableError` if an
    origin gives an earlier content, until that is closed.
    """
    responsive = []
    for earlier in identity:
        if "problem" in earlier:
            continue
        now = look(earlier["url"])
        if change := identities.change(earlier, now):
            place = shown_address(earlier["url"])
            message = f"{place}: changed since the request was submitted: {change}"
            raise TransformError("ChangedFile", f"{message}; submit it again")
        if now.get("problem") == identities.EARLIER:
            message = f"{now['message']}; submit it again later, or publish the file under "
            message += "another name"
            raise UnreadableError("EarlierContent", message, retry_may_help=True)
        if "problem" in now:
            LOG.warning("it is not known whether the file has changed: %s", now["message"])
        else:
            responsive.append(earlier)
    return responsive


def _transform(
    query: Codegen,
    source_urls: Sequence[str],
    target: Path,
    result_format: Format,
    identity: Sequence[Identity],
    local_files: bool,
) -> Outcome:
    size = identity[0].get("size") if identity else None
    retry_may_help = False
    login = ""
    # The user knows the file by the URL of the request, which is the last one.
    known_as = shown_address(source_urls[-1]) if source_urls else ""
    for number, url in enumerate(source_urls, 1):
        try:
            return query.transform(Source(url, local_files, size), target, result_format)
        except UnreadableError as error:
            retry_may_help = retry_may_help or error.retry_may_help
            reason, message = error.reason, str(error).replace(shown_address(url), known_as)
            if reason == LOGIN_FAILED:
                login = login or message
            if number == len(source_urls) or not error.other_url_may_help:
                if login and error.other_url_may_help:
                    # The cache, which has a credential, says most; it comes first.
                    reason, message = LOGIN_FAILED, login
                raise UnreadableError(
                    *(reason, message),
                    other_url_may_help=error.other_url_may_help,
                    retry_may_help=retry_may_help,
                ) from error
            LOG.warning("%s; trying %s", error, shown_address(source_urls[number]))
        except TransformError as error:
            message = str(error).replace(shown_address(url), known_as)
            raise TransformError(error.reason, message) from error
    raise TransformError("MissingFile", "the file has no URL")
