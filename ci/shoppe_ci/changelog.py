"""Check the changelog's fragments: their names, and that towncrier can render them."""

import sys
from pathlib import Path

from shoppe_ci import shell
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import ROOT

REMEDY = "name it changelog.d/+NAME.KIND.md with a kind of added, changed, fixed or removed"


def check(root: Path = ROOT) -> None:
    """Raise `ShoppeError` where a fragment has another name, or cannot be rendered.

    towncrier also accepts the number of an issue for NAME; this project cites none.
    """
    for path in sorted((root / "changelog.d").iterdir()):
        if not path.name.startswith("+") and path.name != "README.md":
            raise ShoppeError(f"changelog.d/{path.name} has another name than a fragment", REMEDY)
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "next"]
    shell.run(command, cwd=root, what="rendering the changelog", remedy=REMEDY)
