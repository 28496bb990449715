"""Runs the gate on any facility with the rights of one of its users."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

from shoppe_ci import analysis
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User
from shoppe_ci.gate import notebook, record, report
from shoppe_ci.gate.hops import ABSENT, FAILED, HOPS, NOT_REACHED, SEEN, Evidence, Proof
from shoppe_ci.gate.record import Record
from shoppe_ci.gate.results import ALONE, FACILITY, compare, figures
from shoppe_ci.progress import step

MARK = "gate: "
CONNECTIONS = {
    "servicex": "servicex",
    "xcache": "xcache",
    "dask": "dask-gateway",
    "triton": "triton",
    "mlflow": "mlflow",
    "objectstore": "s3",
}
"""By hop: the name of its address in users' pods; the hub has none."""
LOOK = """
import json, time
import coffea_shoppe as shoppe
connections = shoppe.connections()
look = {"connections": sorted(connections), "time": int(time.time() * 1000)}
look["cached"] = sum(shoppe.data_url(url) != url for url in URLS) if "xcache" in connections else 0
print("gate: " + json.dumps(look))
"""
"""What a user sees before the run, with the addresses URLS; it prints a line of JSON."""
RESULTS = """
import json
import coffea_shoppe as shoppe
connections = shoppe.connections()
results = {}
if "s3" in connections:
    results["objects"] = len(shoppe.storage().find(""))
if "mlflow" in connections:
    import mlflow
    recent = f"attributes.start_time >= {START}"
    runs = mlflow.search_runs(
        search_all_experiments=True, filter_string=recent, output_format="list"
    )
    results["runs"] = len(runs)
print("gate: " + json.dumps(results))
"""
"""What a user finds after the run, with its START in milliseconds; it prints a line of JSON."""
ANALYSE = """
import json, subprocess
from pathlib import Path
def agc(*words):
    done = subprocess.run(["agc", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
Path("without-facility").mkdir(exist_ok=True)
models = ["--models", "results/models"] if Path("results/models").exists() else []
agc("run", "--fileset", "fileset.json", "--no-cache", "--output",
    "without-facility/histograms.root", "--report", "without-facility/report.json", *models)
if Path("results/fit/fit.json").exists():
    agc("fit", "without-facility/histograms.root", "--output", "without-facility/fit")
"""
"""The same analysis in one process of the user's server, without services."""


STARTED = Evidence("servers that started", "", 1, 1)
"""Known once the user's server responds."""


def read_token(path: Path) -> str:
    """Return the token in a file; raises `ShoppeError` if it has none."""
    token = path.read_text().strip()
    if not token or len(token.split()) != 1:
        raise ShoppeError(
            f"--token-file {path}: the file must contain a token and nothing else",
            "create one at the facility's page /hub/token",
        )
    return token


def read_fileset(path: Path) -> dict[str, Any]:
    """Return the notebook's fileset; raises `ShoppeError` if it has another form."""
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        addresses = [str(file["path"]) for file in files_of(content)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShoppeError(
            f"--fileset {path} cannot be read: {type(error).__name__}: {error}",
            'write {PROCESS: {VARIATION: {"files": [{"path": "root://…", "nevts": N}]}}}',
        ) from error
    for address in addresses:
        if "://" not in address:
            raise ShoppeError(
                f"--fileset {path}: the facility cannot read {address}",
                "give addresses that it can read, such as root://HOST//PATH",
            )
    if not addresses:
        raise ShoppeError(f"--fileset {path} has no files", "give at least one of nominal ttbar")
    return content


def files_of(fileset: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the files of a fileset, PROCESS → VARIATION → files."""
    return [
        file
        for variations in fileset.values()
        for entry in variations.values()
        for file in entry["files"]
    ]


def evaluate(user: User, code: str) -> dict[str, Any]:
    """Run code in the folder of the analysis; return what it prints as JSON after `MARK`."""
    text = analysis.run_code(user, code, folder=analysis.FOLDER)
    for line in reversed(text.splitlines()):
        if line.startswith(MARK):
            content: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return content
    return {}


def settings_for(connections: list[str]) -> tuple[str, str]:
    """Return where columns and scores come from, with the services that a facility has."""
    served = {"triton", "mlflow"} <= set(connections)
    source = "servicex" if "servicex" in connections else "direct"
    return source, "served" if served else "local"


def evidence(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    outcome: Mapping[str, Any],
    addresses: Sequence[str],
) -> dict[str, Evidence]:
    """Return by hop what the user got, and what the run needs."""
    # Caches serve no other protocol.
    cacheable = [address for address in addresses if address.startswith(("root://", "xroot://"))]
    rows = sum(use["rows"] for use in outcome["served"].values())
    return {
        "hub": STARTED,
        "servicex": Evidence("files delivered", "", outcome["delivered"], len(addresses)),
        "xcache": Evidence(
            "files with an address at the cache", "", before["cached"], len(cacheable)
        ),
        "dask": Evidence("workers", "", outcome["num_workers"], 1),
        "triton": Evidence("rows scored", "", rows, outcome["candidates"]),
        "mlflow": Evidence("runs found", "", after.get("runs", 0), 1),
        "objectstore": Evidence(
            "objects in the user's bucket",
            "",
            after.get("objects", 0),
            len(addresses) if outcome["source"] == "servicex" else 0,
        ),
    }


def prove(connections: list[str], seen: Mapping[str, Evidence]) -> list[Proof]:
    """Return the hops: seen, absent, failed, or not reached if the run stopped before."""
    proofs = []
    for hop in HOPS:
        entry = seen.get(hop.name)
        if hop.name in CONNECTIONS and CONNECTIONS[hop.name] not in connections:
            proofs.append(Proof(hop.name, hop.title, ABSENT, "this facility does not have it"))
        elif entry is None:
            proofs.append(Proof(hop.name, hop.title, NOT_REACHED))
        elif entry.increase < entry.required:
            reason = f"{entry.what}: {entry.increase:g} of at least {entry.required:g}"
            proofs.append(Proof(hop.name, hop.title, FAILED, reason, [entry]))
        else:
            proofs.append(Proof(hop.name, hop.title, SEEN, "", [entry]))
    return proofs


def broken(proofs: Sequence[Proof], problem: str, differences: Sequence[str]) -> str:
    """Return what a failed run is due to: a service that gave too little, the run, or `results`.

    Where a run stopped, a user does not see which service is to blame.
    """
    failed = [proof.title for proof in proofs if proof.state == FAILED]
    return failed[0] if failed else "run" if problem else "results" if differences else ""


def run(url: str, token: str, fileset: dict[str, Any], folder: Path) -> Record:
    """Run the notebook as the token's user, and write record and report into a folder.

    The user's server is started if it does not run, and left running.
    """
    start, began = monotonic(), datetime.now(tz=UTC)
    report.clear(folder)
    user = User.with_token(url, token)
    results = folder / FACILITY
    addresses = [file["path"] for file in files_of(fileset)]
    connections: list[str] = []
    seen: dict[str, Evidence] = {}
    problem = ""
    differences: list[str] = []
    numbers: dict[str, Any] = {}
    try:
        with step(f"starting the server of {user.name}") as note:
            user.spawn(note=note)
        seen = {"hub": STARTED}
        before = evaluate(user, f"URLS = {addresses!r}\n{LOOK}")
        connections = before["connections"]
        source, assignment = settings_for(connections)
        analysis.run_for(
            user, inputs=fileset, results=results, source=source, assignment=assignment
        )
        outcome = json.loads((results / "report.json").read_text())
        after = evaluate(user, f"START = {before['time']}\n{RESULTS}")
        seen = evidence(before, after, outcome, addresses)
        with step("analysing the same files in one process of the user's server"):
            evaluate(user, ANALYSE)
            user.download(f"{analysis.FOLDER}/{ALONE}", folder / ALONE)
        comparison = compare(folder)
        differences, numbers = comparison.differences, figures(outcome, comparison)
    except ShoppeError as error:
        problem = error.problem
    proofs = prove(connections or list(CONNECTIONS.values()), seen)
    outcome_record = Record(
        version="",
        commit=notebook.commit(),
        grade=record.CLIENT,
        facility=url,
        started=began.isoformat(timespec="seconds"),
        seconds=round(monotonic() - start, 1),
        hops=proofs,
        differences=differences,
        files=report.results(folder),
        sections=notebook.sections(results / analysis.NOTEBOOK.name),
        results=numbers,
        problem=problem,
        broken=broken(proofs, problem, differences),
    )
    record.write(outcome_record, folder)
    report.write(outcome_record, folder)
    return outcome_record
