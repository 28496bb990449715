"""Traits and classes of the hub's configuration that nothing would read: misspelt ones."""

import difflib
import logging
from collections.abc import Iterable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from jupyterhub.app import JupyterHub
from jupyterhub.crypto import CryptKeeper
from traitlets.config import Config, Configurable
from traitlets.utils.importstring import import_item

SPAWNERS = "jupyterhub.spawners"
GROUPS = {
    "authenticator_class": "jupyterhub.authenticators",
    "proxy_class": "jupyterhub.proxies",
    "spawner_class": SPAWNERS,
}
"""Trait of JupyterHub that chooses a class → entry points that it may name."""
NEAR = 0.8
"""Similarity (difflib) from which a name is a misspelt one.  Other sections are the facility's own,
which its Python reads; other traits may be those of an older release."""
LOG = logging.getLogger(__name__)


def class_named(configured: Any, group: str, trait: str) -> Any:
    """Return the class that an entry point of `group` or an import path names.

    What is no text is returned as it is.  Exits, naming `trait` and the nearest name, where there
    is no such class.
    """
    if not isinstance(configured, str):
        return configured
    registered = {entry.name: entry for entry in entry_points(group=group)}
    if entry := registered.get(configured.lower()):
        return entry.load()
    try:
        return import_item(configured)
    except ImportError as error:
        near = _nearest(configured, registered, 0.6)
        hint = f"; did you mean {near}?" if near else f"; there are {', '.join(sorted(registered))}"
        raise SystemExit(
            f"{trait} is {configured!r}, which is neither a name nor the import path of a class "
            f"in the hub's image{hint} ({error})"
        ) from error


def refuse_misspelt(c: Config) -> None:
    """Exit with all misspelt traits and classes, and the nearest names; log what is unknown."""
    misspelt = []
    for name, near in _unknown(c):
        if near:
            misspelt.append(f"- {name}: there is none of that name; did you mean {near}?")
        else:
            LOG.warning("%s has no effect: no class of this hub has it", name)
    if misspelt:
        raise SystemExit("\n".join(["the hub's configuration has misspelt names:", *misspelt]))


def _unknown(c: Config) -> Iterator[tuple[str, str]]:
    """Yield each section or trait that no class of this hub has, and the nearest name, or ''."""
    chosen = [
        class_named(c.JupyterHub.get(trait), group, f"JupyterHub.{trait}")
        for trait, group in GROUPS.items()
    ]
    used = [kind for kind in (JupyterHub, CryptKeeper, *chosen) if isinstance(kind, type)]
    classes = {base.__name__: base for kind in used for base in kind.mro() if base is not object}
    registered = {
        entry.attr: entry for group in GROUPS.values() for entry in entry_points(group=group)
    }
    for section, traits in c.items():
        if not isinstance(traits, Config):
            continue
        own = classes.get(section) or _loaded(registered.get(section))
        if own is None:
            near = _nearest(section, {*classes, *registered}, NEAR)
            if near and section not in registered:
                yield section, near
            continue
        # traitlets gives a class's section to all classes that derive from it.
        known = {
            name
            for kind in {own, *used}
            if issubclass(kind, own) and issubclass(kind, Configurable)
            for name in kind.class_trait_names(config=True)
        }
        for trait in traits:
            if trait not in known:
                yield f"{section}.{trait}", _nearest(trait, known, NEAR)


def _loaded(entry: EntryPoint | None) -> type | None:
    """Return the class of an entry point; None where the image lacks a library of it."""
    try:
        return entry.load() if entry else None
    except ImportError:
        return None


def _nearest(name: str, names: Iterable[str], similarity: float) -> str:
    close = difflib.get_close_matches(name, sorted(names), 1, similarity)
    return close[0] if close else ""
