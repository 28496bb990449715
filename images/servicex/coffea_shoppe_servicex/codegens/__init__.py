"""The code generators: each module of this package has one, and no list names them.

Further ones are files in a folder, where NAME.py has the code generator NAME.
"""

import functools
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Self

from coffea_shoppe_servicex.codegen import Codegen
from coffea_shoppe_servicex.errors import CodegenError, UnknownCodegenError
from coffea_shoppe_servicex.formats import Format

NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
ADDED_PACKAGE = "coffea_shoppe_servicex_added"
"""Prefix of the names of modules that are loaded from a folder."""


def built_in_modules() -> list[str]:
    """Return the names of the modules with the code generators of this package."""
    return [f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)]


@functools.cache
def _built_in() -> Mapping[str, type[Codegen]]:
    codegens = [_codegen_of(importlib.import_module(name), name) for name in built_in_modules()]
    return {codegen.name: codegen for codegen in codegens}


@dataclass(frozen=True)
class Codegens:
    """The code generators that are present, and those of them that clients may use."""

    present: Mapping[str, type[Codegen]]
    offered: tuple[str, ...]
    versions: Mapping[str, str]
    """Hash of the file of each added code generator."""

    @classmethod
    def load(cls, offered: Sequence[str] | None = None, folder: Path | None = None) -> Self:
        """Load the code generators of this package, and those of a folder.

        `offered` names those that clients may use; None: all.  Raises `CodegenError`.
        """
        if folder and not folder.is_dir():
            raise CodegenError(f"{folder}: is not a folder with code generators")
        present = dict(_built_in())
        versions = {}
        for path in sorted(folder.glob("*.py")) if folder else ():
            codegen = _codegen_of(_load(path), str(path))
            if codegen.name in _built_in():
                raise CodegenError(f"{path}: {codegen.name!r} is built in: choose another name")
            if codegen.name != path.stem:
                raise CodegenError(
                    f"{path}: its code generator is called {codegen.name!r}: "
                    f"call it {path.stem!r}, or the file {codegen.name}.py"
                )
            present[codegen.name] = codegen
            versions[codegen.name] = hashlib.sha256(path.read_bytes()).hexdigest()
        for name in offered or ():
            if name not in present:
                choices = ", ".join(sorted(present))
                raise CodegenError(
                    f"codegens: there is no code generator {name!r}; "
                    f"give one of {choices}, or its file {name}.py"
                )
        names = tuple(sorted(present) if offered is None else offered)
        return cls(present, names, versions)

    def parse(self, name: str, selection: str, result_format: Format) -> Codegen:
        """Return the query of a selection; raises `QueryError`."""
        if name not in self.offered:
            raise UnknownCodegenError(
                f"codegen: there is no codegen {name!r} in this facility; "
                f"set one of {', '.join(self.offered)}"
            )
        return self.present[name].parse(selection, result_format)

    def is_declared(self, name: str) -> bool:
        """Return whether shared transformers may evaluate a code generator's selections.

        Return False for one that is no longer present: a dedicated pod reports that.
        """
        return name in self.present and self.present[name].declared

    def descriptions(self) -> dict[str, str]:
        """Return one line about each code generator that clients may use."""
        return {name: self.present[name].description for name in self.offered}


def _load(path: Path) -> ModuleType:
    """Return the module of a file; raises `CodegenError` if it cannot be imported."""
    name = f"{ADDED_PACKAGE}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up here.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise CodegenError(
            f"{path}: cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return module


def _codegen_of(module: ModuleType, where: str) -> type[Codegen]:
    """Return the one code generator of a module; raises `CodegenError`."""
    classes = [
        each
        for each in vars(module).values()
        if inspect.isclass(each)
        and issubclass(each, Codegen)
        and each.__module__ == module.__name__
    ]
    if len(classes) != 1:
        names = ", ".join(each.__name__ for each in classes) or "none"
        raise CodegenError(
            f"{where}: must define one class that inherits from Codegen; it defines {names}"
        )
    (codegen,) = classes
    if problems := list(_problems(codegen)):
        raise CodegenError(f"{where}: {codegen.__name__}: {'; '.join(problems)}")
    return codegen


def _problems(codegen: type[Codegen]) -> Iterable[str]:
    """Yield what a code generator lacks."""
    name = getattr(codegen, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield f"name: {name!r} is not lower-case letters, digits and hyphens"
    description = getattr(codegen, "description", None)
    if not isinstance(description, str) or not description.strip():
        yield "description: must be a line about its selections"
    if not isinstance(getattr(codegen, "declared", None), bool):
        yield "declared: must be True (selections are data) or False (they are programs)"
    for method in sorted(codegen.__abstractmethods__):
        yield f"the method {method} is missing"
