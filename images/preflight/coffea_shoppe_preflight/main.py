"""Command of the preflight: checks a release from a pod of its own."""

import argparse
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import yaml

from coffea_shoppe_preflight import objects, probes
from coffea_shoppe_preflight.bounded import API_SERVER, Check, run_all
from coffea_shoppe_preflight.findings import Cause, Finding, broken, verdict
from coffea_shoppe_preflight.settings import Settings
from coffea_shoppe_preflight.snapshot import ApiServer, Snapshot, UnreachableError, read


def probes_of(settings: Settings, snapshot: Snapshot, server: ApiServer) -> Iterator[Check]:
    """Yield the checks that connect to something."""
    policy = partial(objects.policy_in_the_way, snapshot, settings)
    yield Check("dns", "the look-up of a name", probes.dns)
    for component, urls in settings.addresses.items():
        for url in urls:
            run = partial(probes.connect, component, url, policy)
            yield Check(component, url, partial(probes.settled, run))
    for name, file in settings.databases.items():
        run = partial(probes.database, name, file, policy)
        yield Check("postgresql", f"the database {name}", partial(probes.settled, run))
    for name, folder in settings.buckets.items():
        run = partial(probes.bucket, name, folder)
        yield Check("objectstore", f"the bucket {name}", partial(probes.settled, run))
    for address in settings.origins:
        yield Check("xcache", f"the origin {address}", partial(probes.origin, address))
    for url in settings.identity_providers:
        yield Check("identity provider", url, partial(probes.identity_provider, url))
    for url in settings.external_urls:
        yield Check("external address", url, partial(probes.external_url, url))
    for account in settings.accounts:
        run = partial(probes.rights, account, settings.namespace, server.create)
        yield Check(account.component, f"the rights of {account.name}", run)


def components(settings: Settings) -> list[str]:
    """Return what the verdict has a line for, whatever is found."""
    others = [("dns", True), ("identity provider", bool(settings.identity_providers))]
    others += [("external address", bool(settings.external_urls))]
    return settings.components + [name for name, is_there in others if is_there]


def check(settings: Settings, server: ApiServer, timeout: float) -> tuple[list[Finding], Snapshot]:
    """Return what is wrong with a release; all checks share `timeout` seconds.

    Where the API server does not respond, the services are connected to all the same.
    """
    try:
        snapshot = read(server.get, settings.namespaces, cluster_wide=settings.cluster_wide)
    except UnreachableError as error:
        findings = [Finding(API_SERVER, Cause.API_SERVER, str(error))]
        snapshot = Snapshot(unread={"pods": "the API server does not respond"})
        settings = settings.model_copy(update={"accounts": []})
        checks = []
    else:
        findings = []
        checks = [
            Check("cluster", f"the {each.__name__}", partial(each, snapshot, settings))
            for each in objects.CHECKS
        ]
    findings += run_all([*checks, *probes_of(settings, snapshot, server)], timeout)
    return findings, snapshot


def main() -> None:
    """Print a line for each component, and exit with status 1 where one is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("settings", type=Path, help="YAML file, as the chart writes it")
    parser.add_argument("--timeout", type=float, default=60, help="for all connections, in seconds")
    options = parser.parse_args()
    settings = Settings.model_validate(yaml.safe_load(options.settings.read_text()))
    findings, snapshot = check(settings, ApiServer(), options.timeout)
    lines = verdict(components(settings), findings, snapshot.unread)
    print("\n".join(lines), flush=True)
    sys.stderr.flush()
    # Threads that still wait for a server would keep the process.
    os._exit(1 if broken(findings) else 0)


if __name__ == "__main__":
    main()
