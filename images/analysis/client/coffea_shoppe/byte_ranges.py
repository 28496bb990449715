"""Where the bytes of a file's branches are."""

from collections.abc import Iterable, Iterator
from typing import Any

from coffea_shoppe.extras import extra

Range = tuple[int, int]
"""Of a file: the first byte, and the number of bytes."""


class UnknownNameError(ValueError):
    """A file has no such tree, or its tree has no such branch."""


def of_branches(address: str, branches: Iterable[str], tree: str) -> list[Range]:
    """Return the ranges of a file that hold the compressed data of branches.

    Args:
        address: What uproot opens.
        branches: Names, globs (`Jet_*`) or regular expressions (`/mu.*/`), as uproot takes them.
        tree: Name of the TTree or RNTuple.

    Raises `UnknownNameError` for a pattern that fits no branch, and uproot's errors.
    """
    with extra("xcache", user="shoppe.prefetch"):
        import uproot

    with uproot.open(address) as file:
        if tree not in file:
            raise UnknownNameError(f"tree: the file has no {tree!r}")
        opened = file[tree]
        is_tree = isinstance(opened, uproot.behaviors.TBranch.HasBranches)
        ranges = [
            part
            for pattern in branches
            for part in (_baskets(opened, pattern) if is_tree else _pages(opened, pattern))
        ]
    return sorted(set(ranges))


def _absent(pattern: str, tree: Any) -> UnknownNameError:
    return UnknownNameError(f"branches: {pattern!r} fits no branch of {tree.name!r}")


def _baskets(tree: Any, pattern: str) -> list[Range]:
    """Return the ranges of the baskets of a TTree's branches, and of the branches within them."""
    names = tree.keys(filter_name=pattern, recursive=True, full_paths=True)
    if not names:
        raise _absent(pattern, tree)
    return [
        (int(seek), int(size))
        for name in names
        for branch in (tree[name], *tree[name].values(recursive=True))
        for seek, size in zip(
            branch.member("fBasketSeek"), branch.member("fBasketBytes"), strict=True
        )
        if size
    ]


def _pages(ntuple: Any, pattern: str) -> list[Range]:
    """Return the ranges of the pages of an RNTuple's fields, with those of their parts."""
    names = ntuple.keys(filter_name=pattern, recursive=False)
    if not names:
        raise _absent(pattern, ntuple)
    children: dict[int, list[int]] = {}
    for number, record in enumerate(ntuple.field_records):
        if record.parent_field_id != number:
            children.setdefault(record.parent_field_id, []).append(number)

    def family(number: int) -> Iterator[int]:
        yield number
        for child in children.get(number, ()):
            yield from family(child)

    tops = {
        record.field_name: number
        for number, record in enumerate(ntuple.field_records)
        if record.parent_field_id == number
    }
    fields = {member for name in names for member in family(tops[name])}
    columns = [record.idx for record in ntuple.column_records if record.field_id in fields]
    return [
        (int(page.locator.offset), int(page.locator.num_bytes))
        for cluster in ntuple.page_link_list
        for column in columns
        for page in cluster[column].pages
    ]
