"""One file in, one file of selected columns out, with memory bounded by a chunk's size."""

import logging
from collections.abc import Sequence
from pathlib import Path

from coffea_shoppe_servicex.codegen import Codegen, Outcome, Source
from coffea_shoppe_servicex.errors import TransformError, UnreadableError
from coffea_shoppe_servicex.formats import Format

LOG = logging.getLogger(__name__)


def transform(
    query: Codegen,
    source_urls: Sequence[str],
    target: Path,
    result_format: Format,
    *,
    local_files: bool = False,
) -> Outcome:
    """Transform a file into `target`, read from the first of its URLs that can be read.

    `local_files`: files of this machine are read, too.  Raises `TransformError`.
    """
    for number, url in enumerate(source_urls, 1):
        try:
            return query.transform(Source(url, local_files), target, result_format)
        except UnreadableError as error:
            if number == len(source_urls):
                raise
            LOG.warning("%s; trying %s", error, source_urls[number])
        except TransformError as error:
            # The user knows the file by the URL of the request, which is the last one.
            message = str(error).replace(url, source_urls[-1])
            raise TransformError(error.reason, message) from error
    raise TransformError("MissingFile", "the file has no URL")
