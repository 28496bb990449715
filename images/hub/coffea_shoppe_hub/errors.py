"""Errors that the hub's pages show to the user."""

from tornado.web import HTTPError


class SpawnError(HTTPError):
    """No server is started; the hub's pages show the text to the user."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.jupyterhub_message = text
