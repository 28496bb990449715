# /// script
# requires-python = "==3.11.*"
# dependencies = ["rucio==41.5.1"]
# ///
"""Start a Rucio server, tell it of a few files, and write down what it answers.

Run by hand, with `uv run record_rucio.py`, when answers of another version are wanted: it
writes rucio.json beside itself.  The server is Rucio's own, with an SQLite database.
"""

import json
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import requests
from werkzeug.serving import make_server

PASSWORD = "recorded"  # noqa: S105 - of a server that lives for seconds
ALEMBIC = """\
[alembic]
script_location = rucio.db.sqla:migrate_repo
sqlalchemy.url = {url}
[loggers]
keys = root
[handlers]
keys =
[formatters]
keys =
[logger_root]
level = WARN
handlers =
"""
SETTINGS = """\
[database]
default = {url}
[bootstrap]
userpass_identity = recorder
userpass_pwd = {password}
x509_identity = /CN=nobody
x509_email = nobody@example.org
gss_identity = nobody@EXAMPLE.ORG
gss_email = nobody@example.org
[policy]
permission = generic
schema = generic
lfn2pfn_algorithm_default = hash
[alembic]
cfg = {alembic}
"""
SITES = {"SITE_A": ("a.example.org", "1"), "SITE_B": ("b.example.org", "2")}
SCHEMES = {"root": (1094, "//store/"), "davs": (443, "/store/")}
FILES = [
    {"scope": "data", "name": f"ttbar_{n}.root", "bytes": 1000 + n, "adler32": f"0000000{n}"}
    for n in range(2)
]


def fill(session: requests.Session, url: str) -> None:
    """Make two sites; the first file lies at both, the second at SITE_A alone."""

    def post(path: str, body: dict[str, Any]) -> None:
        session.post(url + path, json=body).raise_for_status()

    rights = ("read", "write", "delete")
    domains = {"lan": dict.fromkeys(rights, 1), "wan": dict.fromkeys(rights, 1)}
    post("/accounts/root/scopes/data", {})
    for site, (host, tier) in SITES.items():
        post(f"/rses/{site}", {"deterministic": True})
        post(f"/rses/{site}/attr/tier", {"value": tier})
        for scheme, (port, prefix) in SCHEMES.items():
            where = {"hostname": host, "port": port, "prefix": prefix, "domains": domains}
            handler = {"impl": "rucio.rse.protocols.gfal.Default"}
            post(f"/rses/{site}/protocols/{scheme}", {**where, **handler})
        post("/replicas", {"rse": site, "files": FILES if site == "SITE_A" else FILES[:1]})
    for name, kind in (("ttbar", "DATASET"), ("empty", "DATASET"), ("all", "CONTAINER")):
        post(f"/dids/data/{name}", {"type": kind})
    post("/dids/data/ttbar/dids", {"dids": FILES})
    post("/dids/data/all/dids", {"dids": [{"scope": "data", "name": "ttbar"}]})


def answers(session: requests.Session, url: str) -> list[dict[str, Any]]:
    """Return what is asked of it, and what it answers."""
    asked: list[tuple[str, str, dict[str, Any] | None]] = []
    for name in ("ttbar", "all", "empty", "nope"):
        asked.append(("GET", f"/dids/data/{name}/files", None))
        for expression in (None, "tier=1", "tier=2", "tier=9"):
            dids = {"dids": [{"scope": "data", "name": name}], "schemes": ["root", "davs", "https"]}
            asked.append(("POST", "/replicas/list", {**dids, "rse_expression": expression}))
    found = []
    good = session.headers["X-Rucio-Auth-Token"]
    # Under the names that the tests give them: the token itself is not written down.
    for name, token, questions in (("good", good, asked), ("expired", "unknown", asked[:1])):
        for method, path, body in questions:
            headers = {"X-Rucio-Auth-Token": token, "Accept": "application/x-json-stream"}
            got = requests.request(method, url + path, json=body, headers=headers, timeout=30)
            question = {"method": method, "path": path, "body": body, "token": name}
            found.append({**question, "status": got.status_code, "text": got.text})
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        database, alembic = f"sqlite:///{folder}/rucio.db", Path(folder, "alembic.ini")
        alembic.write_text(ALEMBIC.format(url=database))
        settings = Path(folder, "rucio.cfg")
        text = SETTINGS.format(url=database, password=PASSWORD, alembic=alembic)
        settings.write_text(text)
        os.environ["RUCIO_CONFIG"] = str(settings)
        from rucio.db.sqla.util import build_database, create_base_vo, create_root_account
        from rucio.version import version_string
        from rucio.web.rest.main import application

        build_database()
        create_base_vo()
        create_root_account()
        server = make_server("127.0.0.1", 0, application)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        with requests.Session() as session:
            who = {"X-Rucio-Account": "root", "X-Rucio-Username": "recorder"}
            login = {**who, "X-Rucio-Password": PASSWORD}
            told = session.get(f"{url}/auth/userpass", headers=login).headers
            session.headers["X-Rucio-Auth-Token"] = told["X-Rucio-Auth-Token"]
            fill(session, url)
            found = {"server": f"Rucio {version_string()}", "answers": answers(session, url)}
        server.shutdown()
    target = Path(__file__).with_name("rucio.json")
    target.write_text(json.dumps(found, indent=1) + "\n")
    sys.stdout.write(f"{target}: {len(found['answers'])} answers of {found['server']}\n")


if __name__ == "__main__":
    main()
