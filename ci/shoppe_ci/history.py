"""Check the subjects of recent commits."""

from pathlib import Path

from shoppe_ci import shell
from shoppe_ci.paths import ROOT

MAX_LENGTH = 72
"""Maximum number of characters of a subject: git and its front ends truncate longer ones."""
RECENT = 50
"""Number of commits to check where there is no `origin/main`."""


def long_subjects(root: Path = ROOT) -> list[str]:
    """Return the commits since `origin/main`, or the recent ones, whose subjects are too long.

    Merges are exempt, because forges write their subjects.  A folder without git or its
    history, such as an unpacked archive, has no commits to check.
    """
    git: list[str | Path] = ["git", "-C", root]
    if not shell.succeeds([*git, "rev-parse", "--verify", "--quiet", "HEAD"]):
        return []
    upstream = shell.succeeds([*git, "rev-parse", "--verify", "--quiet", "origin/main"])
    commits = ["origin/main..HEAD"] if upstream else [f"--max-count={RECENT}", "HEAD"]
    log = shell.run([*git, "log", "--no-merges", "--format=%h %s", *commits])
    subjects = (line.partition(" ") for line in log.splitlines())
    return [
        f"{commit}: {len(subject)} characters: {subject}"
        for commit, _, subject in subjects
        if len(subject) > MAX_LENGTH
    ]
