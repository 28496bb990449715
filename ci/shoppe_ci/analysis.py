"""The main job: the AGC notebook in a user's pod, and what it took to run it."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat

from shoppe_ci import facility, origin, shell
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User
from shoppe_ci.kernel import NotebookError
from shoppe_ci.paths import ROOT, cache
from shoppe_ci.progress import say, step
from shoppe_ci.release import NAMESPACE, RELEASE
from shoppe_ci.wait import eventually

NOTEBOOK = ROOT / "images" / "analysis" / "agc-ttbar.ipynb"
FOLDER = "agc-ttbar"
FIT, SUMMARY = "fit/fit.json", "summary.json"
SYNTH_EVENTS = 120_000
"""Of nominal ttbar: fewer leave too little W+jets for the fit."""
ASSIGNMENTS = ("served", "local", "none")
"""Where the models score that assign jets, if at all."""
METRICS_SETTLE_S = 60


@dataclass(frozen=True)
class CacheUse:
    """What a cache has counted since it started."""

    sent: float
    """Bytes sent to readers, with what the protocol adds."""
    fetched: float
    """Bytes taken from origins."""
    files: float

    def since(self, before: "CacheUse") -> "CacheUse":
        """Return what was counted after `before`."""
        return CacheUse(
            self.sent - before.sent, self.fetched - before.fetched, self.files - before.files
        )


def cache_use(cluster: Cluster, name: str = "xcache") -> CacheUse:
    """Return a cache's own counts, from its metrics."""
    service = f"{RELEASE}-{name}:9931"
    path = f"/api/v1/namespaces/{NAMESPACE}/services/{service}/proxy/metrics"
    values = {}
    for line in cluster.kubectl("get", "--raw", path).splitlines():
        if not line.startswith("#"):
            key, _, value = line.rpartition(" ")
            values[key] = float(value)
    return CacheUse(
        values["xcache_sent_bytes_total"],
        values["xcache_origin_bytes_total"],
        values["xcache_file_accesses_total"],
    )


def settled_cache_use(cluster: Cluster, before: CacheUse, *, needed: bool = True) -> CacheUse:
    """Return what was counted since `before`, once the cache has reported all of it.

    A cache tells of a file some seconds after it was closed: the counts must not
    change for six seconds.  Unless a read is `needed`, there may have been none.
    """
    seen: list[CacheUse] = []

    def settled() -> CacheUse | None:
        seen.append(cache_use(cluster))
        # Probes send a few bytes at any time; files are opened by readers alone.
        latest = {(use.fetched, use.files) for use in seen[-4:]}
        same = len(seen) > 3 and len(latest) == 1
        return seen[-1] if same and (seen[-1].files > before.files or not needed) else None

    found = eventually(
        settled, "the cache reports what it served", timeout=METRICS_SETTLE_S, every=2
    )
    return (found or before).since(before)


def synthetic(events: int = SYNTH_EVENTS) -> list[tuple[Path, str, str, int]]:
    """Return the nine synthetic files with process, variation and events; made once."""
    source = ROOT / "images" / "analysis" / "agc" / "synth.py"
    key = hashlib.sha256(source.read_bytes() + str(events).encode()).hexdigest()[:12]
    folder = cache("synth", key)
    listing = folder / "fileset.json"
    if not listing.exists():
        with step(f"making synthetic NanoAOD of all nine samples in {folder}") as note:
            shell.run(["agc", "synth", "--output", folder, "--events", str(events)], note=note)
    found = []
    for process, variations in json.loads(listing.read_text()).items():
        for variation, entry in variations.items():
            for file in entry["files"]:
                found.append((folder / file["path"], process, variation, file["nevts"]))
    return found


def fileset(cluster: Cluster, data: tuple[str, ...]) -> dict[str, Any]:
    """Return the list of inputs for the notebook, local files put on the origin.

    `data` are `PATH_OR_URL[=PROCESS[:VARIATION]]`; empty stands for the synthetic
    samples.  Raises `ShoppeError` for an input that cannot be used, before anything
    is copied.
    """
    found: dict[str, Any] = {}

    def add(process: str, variation: str, path: str, events: int | None) -> None:
        entry = found.setdefault(process, {}).setdefault(variation, {"files": []})
        entry["files"].append({"path": path, **({"nevts": events} if events else {})})

    if not data:
        for path, process, variation, events in synthetic():
            add(process, variation, origin.publish(cluster, path), events)
        return found
    inputs = check_inputs(data)
    for where, process, variation in inputs:
        url = where if "://" in where else origin.publish(cluster, Path(where))
        add(process, variation, url, None)
    return found


def check_inputs(data: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Return the inputs as (path or URL, process, variation), every local file looked into.

    The analysis' own checks run in its own process; a URL is checked on the workers.
    Raises `ShoppeError` with what `agc` says of the first that cannot be used.
    """
    program = (
        "import sys, json\n"
        "from agc.samples import parse_input, InputError\n"
        "from agc.run import check_file\n"
        "found = []\n"
        "for text in sys.argv[1:]:\n"
        "    try:\n"
        "        one = parse_input(text)\n"
        "        if '://' not in one.path: check_file(one.path)\n"
        "        elif not one.path.startswith(('root://', 'xroot://')):\n"
        "            raise InputError(f'{one.path}: give a root:// URL or a local file')\n"
        "    except InputError as error:\n"
        "        print(json.dumps({'problem': str(error)})); break\n"
        "    found.append([one.path, one.sample.process, one.sample.variation])\n"
        "else:\n"
        "    print(json.dumps({'inputs': found}))\n"
    )
    answer = json.loads(shell.run(["python", "-c", program, *data]).splitlines()[-1])
    if "problem" in answer:
        raise ShoppeError(answer["problem"], "--data takes FILE_OR_URL[=PROCESS[:VARIATION]]")
    return [(where, process, variation) for where, process, variation in answer["inputs"]]


@dataclass(frozen=True)
class Outcome:
    """What a run of the notebook did, and the way that the data took."""

    user: str
    spawn_seconds: float
    report: dict[str, Any]
    """What the notebook itself wrote: events, seconds, workers, rate, yields."""
    from_origin: float
    """Bytes that the cache fetched from the origin."""
    sent: float
    """Bytes that the cache sent to the workers."""
    norm: tuple[float, float] | None
    """The fitted normalisation of ttbar and its error; None where there was too little to fit."""
    folder: str
    files: list[str]
    """The results, below the folder."""

    def summary(self) -> str:
        """Return the lines that end a demonstration."""
        report = self.report
        lines = [
            f"hub user            {self.user} (server ready after {self.spawn_seconds:.1f} s)",
            f"Dask workers        {report['num_workers']}: {', '.join(report['worker_names'])}",
            f"events              {sum(report['events'].values())} in {report['walltime']:.1f} s, "
            f"{report['rate']:.0f} events/s",
            *self._delivery(),
            f"XCache              {self._cached()}",
            *self._assigned(),
        ]
        for name, value in report["yields"].items():
            lines.append(f"  {name:32s} {value:12.1f}")
        if self.norm:
            lines.append(
                f"fit                 ttbar_norm = {self.norm[0]:.3f} ± {self.norm[1]:.3f}"
            )
        else:
            lines.append("fit                 none: it needs enough events of all nine samples")
        lines.append(f"results             {self.folder}")
        return "\n".join(lines)

    def _cached(self) -> str:
        """Return what the cache counted."""
        if self.report["source"] == "servicex" and not self.sent:
            return "reports no read: ServiceX had the columns, or the report comes later"
        return (
            f"{self.sent / 1e6:.2f} MB sent to readers, "
            f"{self.from_origin / 1e6:.2f} MB fetched from the origin in whole blocks"
        )

    def _assigned(self) -> list[str]:
        """Return the lines about the assignment of jets, where there was one."""
        report = self.report
        uses = report["served"].values()
        lines = [
            f"Triton              {use['model']}, version {use['version']}: "
            f"{use['requests']} requests, {use['rows']} rows"
            for use in uses
        ]
        if lines:
            rows = sum(use["rows"] for use in uses)
            told = f"all {rows}" if rows == report["candidates"] else f"{report['candidates']}"
            return [*lines, f"                    {told} assignments of jets were scored there"]
        if report["candidates"]:
            return [f"assignment          {report['candidates']} were scored by the workers"]
        return []

    def _delivery(self) -> list[str]:
        """Return the line about ServiceX, where the columns came from there."""
        report = self.report
        if report["source"] != "servicex":
            return []
        return [
            f"ServiceX            {report['delivered']} files, {report['bytesread'] / 1e6:.2f} MB "
            f"of columns in {report['deliverytime']:.1f} s"
        ]


def _clear(results: Path) -> None:
    """Remove what an earlier run wrote to a folder, and nothing else."""
    if (results / SUMMARY).exists():
        for file in json.loads((results / SUMMARY).read_text()).get("files", []):
            (results / file).unlink(missing_ok=True)


def fitted(path: Path) -> tuple[float, float]:
    """Return the normalisation of ttbar and its error from a fit's result."""
    found = json.loads(path.read_text())["parameters"]["ttbar_norm"]
    return found["value"], found["error"]


def save_notebook(notebook: Any, path: Path) -> None:
    """Write a notebook to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def run_notebook(user: User, source: Path, target: Path, *, folder: str) -> None:
    """Run a notebook that lies in a folder of the user's home; the executed copy is `target`."""
    notebook = nbformat.read(source, as_version=4)
    with step(f"running {source.name} in {user.name}'s pod") as note:
        try:
            user.run_notebook(notebook, folder=folder, note=note)
        except NotebookError as failed:
            save_notebook(failed.notebook, target)
            raise ShoppeError(failed.problem, f"the executed copy tells more: {target}") from failed
    save_notebook(notebook, target)


def log_in(cluster: Cluster, name: str) -> tuple[User, float]:
    """Return a user whose server runs, and the seconds it took to start."""
    user = User(cluster.url, name)
    with step(f"logging in as {name} and starting a server") as note:
        user.login(facility.password(cluster))
        seconds = user.spawn(note=note)
    return user, seconds


def run_agc(
    cluster: Cluster,
    *,
    name: str,
    inputs: dict[str, Any],
    results: Path,
    weights: str = "xsec",
    workers: int = 2,
    source: str = "servicex",
    assignment: str = "none",
) -> Outcome:
    """Run the AGC notebook as a user and bring its results back."""
    user, seconds = log_in(cluster, name)
    results.mkdir(parents=True, exist_ok=True)
    _clear(results)
    settings = {"weights": weights, "workers": workers, "from": source, "assignment": assignment}
    for file, content in (("fileset.json", inputs), ("settings.json", settings)):
        (results / file).write_text(json.dumps(content, indent=2) + "\n")
        user.upload(results / file, f"{FOLDER}/{file}")
    user.upload(NOTEBOOK, f"{FOLDER}/{NOTEBOOK.name}")
    before = cache_use(cluster)
    run_notebook(user, NOTEBOOK, results / NOTEBOOK.name, folder=FOLDER)
    with step(f"bringing the results to {results}"):
        written = user.download(f"{FOLDER}/results", results)
    files = sorted(str(path.relative_to(results)) for path in written)
    try:
        # What ServiceX has delivered before it need not read again.
        used = settled_cache_use(cluster, before, needed=source == "direct")
    except ShoppeError as error:
        # The analysis is done all the same; its results are not lost with the counts.
        say(f"  warning: {error.problem}; the counts below may lack this run")
        used = cache_use(cluster).since(before)
    report = json.loads((results / "report.json").read_text())
    norm = fitted(results / FIT) if FIT in files else None
    outcome = Outcome(name, seconds, report, used.fetched, used.sent, norm, str(results), files)
    (results / SUMMARY).write_text(json.dumps(asdict(outcome), indent=2) + "\n")
    return outcome
