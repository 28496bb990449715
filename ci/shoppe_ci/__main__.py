"""Entry point of `python -m shoppe_ci`."""

from shoppe_ci.cli import main

main(prog_name="ci/shoppe")
