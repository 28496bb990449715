"""The command `coffea-shoppe`."""

import argparse
import sys

from coffea_shoppe.connections import FacilityError, status


def main() -> None:
    """Run the command; a problem with the facility is printed without a traceback."""
    parser = argparse.ArgumentParser(
        prog="coffea-shoppe", description="Your connections to a Coffea Shoppe facility."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("status", help="who you are, which services respond, what your quota is")
    parser.parse_args()
    try:
        print(status())
    except FacilityError as error:
        sys.exit(f"coffea-shoppe: {error}")
