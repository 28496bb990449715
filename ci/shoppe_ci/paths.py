"""Where the project and its caches lie."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
IMAGES = ROOT / "images"
TOOLCHAIN = ROOT / "ci" / "toolchain"


def cache(*parts: str) -> Path:
    """Return a path in the cache folder (`SHOPPE_CACHE`), its parent made.

    Everything below it can be made again; `ci/shoppe clean` removes it.
    """
    named = os.environ.get("SHOPPE_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coffea-shoppe"
    path = (Path(named).resolve() if named else base).joinpath(*parts)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
