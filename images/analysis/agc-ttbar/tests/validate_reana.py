# /// script
# requires-python = "==3.11.*"
# dependencies = ["reana-client==0.9.6"]
# ///
"""Validate workflows with REANA's own client, in an environment of that client's own.

    python validate_reana.py FOLDER…

prints, for each folder with a `reana.yaml`, the status of `reana-client validate` there and what
it wrote to standard output and error.  The client's imports take longer than validating.
"""

import contextlib
import io
import json
import os
import sys

from reana_client.cli import cli


def validated(folder: str) -> dict[str, object]:
    os.chdir(folder)
    output, errors = io.StringIO(), io.StringIO()
    status: object = 0
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            cli(["validate", "--file", "reana.yaml"], prog_name="reana-client")
        except SystemExit as ended:
            status = ended.code
    return {"status": status, "output": output.getvalue(), "errors": errors.getvalue()}


def main() -> None:
    print(json.dumps([validated(folder) for folder in sys.argv[1:]]))


if __name__ == "__main__":
    main()
