"""The resources that all parts of the service share."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from sqlalchemy import Engine

from coffea_shoppe_servicex.codegens import Codegens
from coffea_shoppe_servicex.objects import FolderStore, S3Store
from coffea_shoppe_servicex.settings import Settings


@dataclass(frozen=True)
class Context:
    """Settings, database, result store, clock and code generators."""

    settings: Settings
    engine: Engine
    store: FolderStore | S3Store
    clock: Callable[[], float] = time.time
    """Returns the Unix time in seconds."""

    @cached_property
    def codegens(self) -> Codegens:
        """Return the code generators of the settings; raises `CodegenError`."""
        return Codegens.load(self.settings.codegens, self.settings.codegens_folder)
