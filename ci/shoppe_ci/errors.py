"""The exception that the command line shows to users."""


class ShoppeError(Exception):
    """An error with its remedy, for the user.

    Raised instead of a traceback for every expected failure; the command line
    prints both parts and exits with status 1.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy
