"""The command `coffea-shoppe-servicex`: one subcommand per pod, and `local` for a laptop."""

import argparse
import logging
import sys

from coffea_shoppe_contract.logs import start_logging

from coffea_shoppe_servicex.errors import CodegenError, RevisionError

COMMANDS = {
    "api": "the REST API",
    "s3": "the S3 gateway, from which clients download results",
    "controller": "dataset look-ups, clean-up, and transformer pods",
    "migrate": "migrate the database to the newest version",
    "affected": "list stored results that earlier code may have made wrong",
    "transformer": "leases and transforms files",
    "local": "the whole service, on a laptop",
}


def main() -> None:
    """Run one of the commands."""
    commands = "\n".join(f"  {name:12s}{text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        description="The facility's ServiceX.",
        epilog=f"commands; each has its own --help:\n{commands}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    command = parser.parse_args(sys.argv[1:2]).command
    start_logging()
    for name in ("alembic", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        _run(command, sys.argv[2:])
    except (CodegenError, RevisionError) as error:
        sys.exit(f"coffea-shoppe-servicex: {error}")


def _run(command: str, arguments: list[str]) -> None:
    # Imported here: transformer images lack the libraries of the servers.
    if command == "transformer":
        from coffea_shoppe_servicex import transformer

        transformer.main(arguments)
    elif command == "affected":
        from coffea_shoppe_servicex import affected

        affected.main(arguments)
    elif command == "local":
        from coffea_shoppe_servicex import local

        local.main(arguments)
    else:
        from coffea_shoppe_servicex import servers

        servers.main(command, arguments)


if __name__ == "__main__":
    main()
