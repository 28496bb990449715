"""The command `coffea-shoppe-servicex`: a service in a pod each, or all of it on a laptop."""

import argparse
import logging
import sys

COMMANDS = {
    "api": "the REST API",
    "s3": "the S3 front",
    "controller": "look-ups, clean-up, and the transformers' pods",
    "migrate": "bring the database up to date",
    "worker": "a transformer",
    "local": "everything, on a laptop",
}


def main() -> None:
    """Run one of the commands; each tells its own options by --help."""
    listed = "\n".join(f"  {name:12s}{what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        description="The facility's delivery service.",
        epilog=f"commands:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="COMMAND")
    command = parser.parse_args(sys.argv[1:2]).command
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("alembic", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # A transformer has none of the servers' libraries.
    if command == "worker":
        from coffea_shoppe_servicex import worker

        worker.main(sys.argv[2:])
    elif command == "local":
        from coffea_shoppe_servicex import local

        local.main(sys.argv[2:])
    else:
        from coffea_shoppe_servicex import services

        services.main(command, sys.argv[2:])


if __name__ == "__main__":
    main()
