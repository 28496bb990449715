"""The one exception that reaches the user."""


class ShoppeError(Exception):
    """Something the user can act on: what is wrong, and the remedy.

    Raised instead of a traceback for every expected failure; the command line
    prints both parts and exits with status 1.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
