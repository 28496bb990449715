"""columns: branches of a tree by their names, such as `Events: met, event`."""

from dataclasses import dataclass
from typing import Any, Self

from coffea_shoppe_servicex import root_files
from coffea_shoppe_servicex.codegen import Size, Source, TreeCodegen
from coffea_shoppe_servicex.errors import QueryError


@dataclass(frozen=True)
class Columns(TreeCodegen):
    """A tree and some of its branches."""

    name = "columns"
    description = "branches of a tree by their names: `TREE: BRANCH, BRANCH`"

    tree: str
    branches: list[str]

    @classmethod
    def parse(cls, selection: str, result_format: str) -> Self:
        """Return the query of a selection; raises `QueryError`."""
        tree, _, listed = selection.partition(":")
        branches = [name.strip() for name in listed.split(",") if name.strip()]
        if not branches:
            raise QueryError(f"the selection is {selection!r}; write TREE: BRANCH, BRANCH")
        return cls(tree.strip(), branches)

    def write(self, file: Any, source: Source, output: Any) -> int:
        """Write the branches; return how many entries were read."""
        events = 0
        for start, stop, arrays in root_files.chunks(self._tree(file, source), self.branches):
            output.extend(self.tree, arrays[self.branches])
            events += stop - start
        return events

    def estimate(self, file: Any, source: Source) -> Size:
        """Return the size of the branches."""
        return Size.of([(self._tree(file, source), self.branches)])

    def _tree(self, file: Any, source: Source) -> Any:
        tree = root_files.tree_of(file, self.tree, source.url)
        known = set(tree.keys())
        for name in self.branches:
            if name not in known:
                raise root_files.missing_branch(name, tree, source.url)
        return tree
