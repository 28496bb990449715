"""What an attacker tries who knows every id, name and bucket of another user.

These modules run in users' pods, where the tests send them; they import nothing else of ours but
`coffea_shoppe`.  The modules add their rows to the table in this order: those that remove what is
attacked come last in each.
"""

from typing import Any

from lib.attacks import buckets, clusters, delivery, inside, logins, serving, tracking
from lib.attacks.table import ROWS, Names

__all__ = ["ROWS", "run"]
MODULES = (buckets, clusters, delivery, inside, logins, serving, tracking)


def run(me: Names, victim: Names) -> dict[str, Any]:
    """Try all rows; return for each whether it succeeded, and what the server said."""
    outcomes = {}
    for row in ROWS:
        attack = row.twin if me == victim else row.attack
        try:
            response = attack(me, victim)
            succeeded = victim.secret in response.text if row.reads else response.good
            outcomes[row.name] = [succeeded, f"{response.status} {response.text[:300]}"]
        except Exception as error:
            outcomes[row.name] = [None, f"{type(error).__name__}: {error}"]
    return outcomes
