"""Command that gives a cache its credential, and renews it without a restart.

XRootD refuses a token that others may read, and files of a mounted Secret are readable by a group.
So the credential is checked and copied into a volume in memory: again whenever the Secret changes,
and, if it is issued, when half of its time is over.  The cache reads the copy when it connects to
an origin; a proxy that it has read serves to its end.
"""

import argparse
import json
import logging
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from xcache_exporter.credentials import (
    UnusableCredentialError,
    copy_authorities,
    moment,
    replace,
    sentence,
)
from xcache_exporter.issuers import Client, Given, Robot, Source

LOG = logging.getLogger("xcache_credentials")
RENEWED_AFTER = 0.5
"""Part of an issued credential's time after which another one is requested."""
RETRY_S = 30
"""Seconds until an issuer is asked again after a failure."""


@dataclass(frozen=True)
class State:
    """What is known of a cache's credential; in a file for the exporter, without a secret."""

    origin: str
    end: float | None = None
    """Of the copy, in seconds since 1970; None if there has never been one."""
    problem: str = ""
    """Why it was not renewed."""

    @classmethod
    def load(cls, path: Path) -> "State":
        """Read the file."""
        return cls(**json.loads(path.read_text()))

    def sentence(self, now: float) -> str:
        """Return the state for the log."""
        if self.problem:
            return f"the facility's credential for {self.origin} was not renewed: {self.problem}"
        return sentence(self.origin, self.end or 0, now)


class Renewal:
    """Copies a credential whenever it changes or is due, and writes its state."""

    def __init__(
        self,
        source: Source,
        target: Path,
        state_file: Path,
        origin: str,
        authorities: tuple[Path, Path] | None = None,
    ) -> None:
        self.source, self.target, self.state_file = source, target, state_file
        self.authorities = authorities
        """The folder with the certificates of authorities, and its copy for the cache."""
        former = State.load(state_file) if state_file.exists() else State(origin)
        self.end = former.end if target.exists() else None
        """When the copied credential ends, in seconds since 1970."""
        self.origin = origin
        self._secret: dict[str, bytes] | None = None
        """What this process has seen: a former one may have been interrupted in between."""
        self._due = 0.0
        """When an issued credential is to be renewed."""
        self._problem = ""

    def renew(self) -> bool:
        """Copy the credential if it changed or is due; return whether it was copied.

        Raises `UnusableCredentialError`, also for one that has expired, and `OSError`, and then
        leaves the former credential and its end in their places.
        """
        secret = self.source.read()
        if secret == self._secret and time.time() < self._due:
            return False
        if self.source.is_issued:
            # An issuer that fails is not asked again at once.
            self._secret, self._due = secret, time.time() + RETRY_S
        content, end = self.source.credential(secret)
        now = time.time()
        if end <= now:
            raise UnusableCredentialError(f"it expired at {moment(end)}")
        replace(self.target, content)
        self._secret, self.end = secret, end
        self._due = now + RENEWED_AFTER * (end - now) if self.source.is_issued else math.inf
        return True

    def look(self) -> State:
        """Renew the credential if necessary; write and return its state."""
        try:
            if self.authorities:
                copy_authorities(*self.authorities)
            # Without a copy: an issuer is not asked again yet, or a Secret is as it was before.
            if self.renew() or not self.source.is_issued:
                self._problem = ""
        except (UnusableCredentialError, OSError) as error:
            self._problem = str(error)
        state = State(self.origin, self.end, self._problem)
        replace(self.state_file, json.dumps(asdict(state)).encode())
        return state

    def watch(self, interval: float) -> None:
        """Renew the credential every `interval` seconds, and log what changes; never returns."""
        logged = ""
        while True:
            message = self.look().sentence(time.time())
            if message != logged:
                LOG.info(message)
                logged = message
            time.sleep(interval)


def _source(options: argparse.Namespace) -> Source:
    """Return the source that the options name."""
    if options.kind == "robot":
        return Robot(options.secret, options.work, options.voms, options.vomses, options.lifetime)
    if options.kind == "client":
        return Client(options.secret, options.issuer, options.scope, options.audience)
    return Given(options.secret, options.kind)


def main() -> None:
    """Renew the credential once, before the cache starts, or until the pod ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = ["proxy", "token", "robot", "client"]
    parser.add_argument("--kind", choices=kinds, required=True, help="what the Secret has")
    parser.add_argument("--secret", type=Path, required=True, help="folder of the mounted Secret")
    parser.add_argument("--target", type=Path, required=True, help="file that the cache reads")
    parser.add_argument("--authorities", type=Path, required=True, help="folder of certificates")
    parser.add_argument("--authorities-copy", type=Path, required=True, help="for the cache")
    parser.add_argument("--state-file", type=Path, required=True, help="file for the exporter")
    parser.add_argument("--origin", required=True, help="name of the origin in messages")
    parser.add_argument("--work", type=Path, help="robot: folder in memory for its key")
    parser.add_argument("--voms", action="append", default=[], help="robot: VO[:ATTRIBUTE]")
    parser.add_argument("--vomses", action="append", default=[], help="robot: line of vomses")
    parser.add_argument("--lifetime", default="24:00", help="robot: of each proxy, H:MM")
    parser.add_argument("--issuer", help="client: URL of the issuer of tokens")
    parser.add_argument("--scope", action="append", default=[], help="client: one of the token")
    parser.add_argument("--audience", default="", help="client: that of the token")
    parser.add_argument("--interval", type=float, default=5, help="seconds between two looks")
    parser.add_argument("--once", action="store_true", help="end after the first look")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    renewal = Renewal(
        *(_source(options), options.target, options.state_file, options.origin),
        authorities=(options.authorities, options.authorities_copy),
    )
    if options.once:
        # Without a usable credential the cache starts, too: it has files, and gets one later.
        LOG.info(renewal.look().sentence(time.time()))
    else:
        renewal.watch(options.interval)


if __name__ == "__main__":
    main()
