"""Addresses at which servers listen: those of IPv6 and of IPv4."""

from socket import has_dualstack_ipv6

ASYNCIO = ""
"""The host for servers of asyncio, which open a socket for each family that the node has."""


def every_address() -> str:
    """Return the host for one socket that accepts both families; on a node without IPv6, IPv4."""
    return "::" if has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104
