"""Runs the AGC notebook in a user's pod, and measures times, bytes and events."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat

from shoppe_ci import counters, facility, origin, shell
from shoppe_ci.cluster import Cluster
from shoppe_ci.counters import Endpoint
from shoppe_ci.errors import ShoppeError
from shoppe_ci.facility import User
from shoppe_ci.kernel import NotebookError
from shoppe_ci.paths import ROOT, cache
from shoppe_ci.progress import say, step
from shoppe_ci.wait import eventually

NOTEBOOK = ROOT / "images" / "analysis" / "agc-ttbar.ipynb"
FOLDER = "agc-ttbar"
FIT, SUMMARY = "fit/fit.json", "summary.json"
SYNTH_EVENTS = 120_000
"""Events of nominal ttbar; fewer would leave too little W+jets for the fit."""
FEWEST_EVENTS = 30_000
"""Events of nominal ttbar that are enough to train on."""
SYNTH_SOURCES = ("synth.py", "nanoaod_table.py", "nanoaod_branches.csv")
"""The files of the package `agc` that determine the synthetic files."""
ASSIGNMENTS = ("served", "local", "none")
"""Where the models that assign jets are evaluated: by Triton, on the workers, or not at all."""
METRICS_SETTLE_S = 60
XCACHE = Endpoint("xcache", 9931)
Sample = tuple[Path, str, str, int]
"""A file of synthetic events: its path, process, variation and number of events."""


@dataclass(frozen=True)
class CacheUse:
    """Counts of a cache since its start."""

    sent: float
    """Bytes sent to readers, including the protocol's overhead."""
    fetched: float
    """Bytes taken from origins."""
    files: float

    def since(self, before: "CacheUse") -> "CacheUse":
        """Return the difference to earlier counts."""
        return CacheUse(
            self.sent - before.sent, self.fetched - before.fetched, self.files - before.files
        )


def cache_use(cluster: Cluster) -> CacheUse:
    """Return a cache's own counts, from its metrics."""
    reading = counters.read(cluster, XCACHE)
    return CacheUse(
        *(
            counters.total(reading, f"xcache_{name}_total")
            for name in ("sent_bytes", "origin_bytes", "file_accesses")
        )
    )


def settled_cache_use(cluster: Cluster, before: CacheUse, *, needed: bool = True) -> CacheUse:
    """Return what was counted since `before`, once the cache has reported all of it.

    A cache reports a file some seconds after it was closed: the counts must not
    change for six seconds.  Unless a read is `needed`, there may have been none.
    """
    seen: list[CacheUse] = []

    def settled() -> CacheUse | None:
        seen.append(cache_use(cluster))
        # Probes send a few bytes at any time; only readers open files.
        latest = {(use.fetched, use.files) for use in seen[-4:]}
        same = len(seen) > 3 and len(latest) == 1
        return seen[-1] if same and (seen[-1].files > before.files or not needed) else None

    use = eventually(settled, "the cache reports what it served", timeout=METRICS_SETTLE_S, every=2)
    return use.since(before)


def synthetic(events: int = SYNTH_EVENTS, *options: str) -> list[Sample]:
    """Return the synthetic files with process, variation and events; generated once.

    `options` are further options of `agc synth`; without them there are nine files.
    """
    package = ROOT / "images" / "analysis" / "agc-ttbar" / "agc"
    content = b"".join((package / name).read_bytes() for name in SYNTH_SOURCES)
    words = ["--events", str(events), *options]
    key = hashlib.sha256(content + " ".join(words).encode()).hexdigest()[:12]
    folder = cache("synth", key)
    listing = folder / "fileset.json"
    if not listing.exists():
        with step(f"making synthetic NanoAOD in {folder}") as note:
            shell.run(["agc", "synth", "--output", folder, *words], note=note)
    files = []
    for process, variations in json.loads(listing.read_text()).items():
        for variation, entry in variations.items():
            for file in entry["files"]:
                files.append((folder / file["path"], process, variation, file["nevts"]))
    return files


def as_fileset(files: Iterable[tuple[str, str, str, int | None]]) -> dict[str, Any]:
    """Return the notebook's fileset of files: address, process, variation, and events if known."""
    content: dict[str, Any] = {}
    for path, process, variation, events in files:
        entry = content.setdefault(process, {}).setdefault(variation, {"files": []})
        entry["files"].append({"path": path, **({"nevts": events} if events else {})})
    return content


def published(cluster: Cluster, samples: Iterable[Sample], *, below: str = "") -> dict[str, Any]:
    """Publish synthetic files on the origin, and return their fileset."""
    return as_fileset(
        (origin.publish(cluster, path, below=below), process, variation, events)
        for path, process, variation, events in samples
    )


def fileset(
    cluster: Cluster, data: tuple[str, ...], *, era: str | None = None, btag: str | None = None
) -> dict[str, Any]:
    """Return the notebook's fileset; local files are published on the origin.

    `data` are `PATH_OR_URL[=PROCESS[:VARIATION]]`; empty stands for the synthetic
    samples.  `era` and `btag` define how b jets are tagged.  Raises `ShoppeError` for an
    input that cannot be used, before anything is copied.
    """
    if not data:
        return published(cluster, synthetic())
    inputs = check_inputs(data, era=era, btag=btag)
    return as_fileset(
        (
            where if "://" in where else origin.publish(cluster, Path(where)),
            process,
            variation,
            None,
        )
        for where, process, variation in inputs
    )


def check_inputs(
    data: tuple[str, ...], *, era: str | None = None, btag: str | None = None
) -> list[tuple[str, str, str]]:
    """Return the inputs as (path or URL, process, variation), with every local file checked.

    The checks of `agc` run in a separate process; URLs are checked on the workers.
    `era` and `btag` define how b jets are tagged, as for `agc run`.  Raises `ShoppeError`
    with the message of `agc` about the first that cannot be used.
    """
    program = (
        "import sys, json\n"
        "from agc.samples import check_files, parse_inputs, InputError\n"
        "from agc.files import summarize\n"
        "from agc.nanoaod import jets_of\n"
        "from coffea_shoppe_contract.addresses import shown_address\n"
        "try:\n"
        "    options = json.load(sys.stdin)\n"
        "    files = parse_inputs(options['data'])\n"
        "    check_files(files)\n"
        "    known = {}\n"
        "    for file in files:\n"
        "        if '://' not in file.path: known[file.path] = summarize(file.path).branches\n"
        "        elif not file.path.startswith(('root://', 'xroot://')):\n"
        "            problem = f'{shown_address(file.path)}: give a root:// URL or a local file'\n"
        "            raise InputError(problem)\n"
        "    if known: jets_of(known, era=options['era'], btag=options['btag'])\n"
        "except InputError as error:\n"
        "    print(json.dumps({'problem': str(error)}))\n"
        "else:\n"
        "    inputs = [[file.path, file.sample.process, file.sample.variation] for file in files]\n"
        "    print(json.dumps({'inputs': inputs}))\n"
    )
    # A URL may contain a token, which a program's arguments would show to others.
    options = json.dumps({"data": data, "era": era, "btag": btag}).encode()
    result = json.loads(
        shell.run(["python", "-c", program], what="checking --data", stdin=options).splitlines()[-1]
    )
    if "problem" in result:
        raise ShoppeError(result["problem"], "correct --data FILE_OR_URL[=PROCESS[:VARIATION]]")
    return [(where, process, variation) for where, process, variation in result["inputs"]]


@dataclass(frozen=True)
class Outcome:
    """The results of a run of the notebook, with the bytes of data that were moved."""

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
        lines += [f"note                {note}" for note in report["notes"]]
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
            count = f"all {rows}" if rows == report["candidates"] else f"{report['candidates']}"
            return [*lines, f"                    {count} assignments of jets were scored there"]
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
    norm = json.loads(path.read_text())["parameters"]["ttbar_norm"]
    return norm["value"], norm["error"]


def save_notebook(notebook: Any, path: Path) -> None:
    """Write a notebook to disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def run_notebook(user: User, source: Path, target: Path, *, folder: str) -> None:
    """Run a notebook that is in a folder of the user's home; the executed copy is `target`."""
    notebook = nbformat.read(source, as_version=4)
    with step(f"running {source.name} in {user.name}'s pod") as note:
        try:
            user.run_notebook(notebook, folder=folder, note=note)
        except NotebookError as failed:
            save_notebook(failed.notebook, target)
            raise ShoppeError(
                failed.problem, f"the executed notebook shows the error: {target}"
            ) from failed
    save_notebook(notebook, target)


def run_code(user: User, source: str, *, folder: str = "") -> str:
    """Run code in a kernel of the user's server, in a folder of the home; return what it printed.

    Raises `ShoppeError` where the code raises.
    """
    cell = nbformat.v4.new_code_cell(source)
    try:
        user.run_notebook(nbformat.v4.new_notebook(cells=[cell]), folder=folder)
    except NotebookError as failed:
        raise ShoppeError(failed.problem) from failed
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def log_in(cluster: Cluster, name: str) -> tuple[User, float]:
    """Return a user whose server runs, and the seconds it took to start."""
    user = User(cluster.url, name)
    with step(f"logging in as {name} and starting a server") as note:
        user.login(facility.password(cluster))
        seconds = user.spawn(note=note)
    return user, seconds


def run_for(
    user: User,
    *,
    inputs: dict[str, Any],
    results: Path,
    weights: str = "xsec",
    workers: int = 2,
    source: str = "servicex",
    assignment: str = "none",
    era: str | None = None,
    btag: str | None = None,
) -> list[str]:
    """Run the AGC notebook in a user's running server, and bring its results back.

    Returns their paths below `results`, from where those of an earlier run are removed.
    """
    results.mkdir(parents=True, exist_ok=True)
    _clear(results)
    settings = {"weights": weights, "workers": workers, "from": source, "assignment": assignment}
    settings |= {"era": era, "btag": btag}
    for file, content in (("fileset.json", inputs), ("settings.json", settings)):
        (results / file).write_text(json.dumps(content, indent=2) + "\n")
        user.upload(results / file, f"{FOLDER}/{file}")
    user.upload(NOTEBOOK, f"{FOLDER}/{NOTEBOOK.name}")
    run_notebook(user, NOTEBOOK, results / NOTEBOOK.name, folder=FOLDER)
    with step(f"bringing the results to {results}"):
        written = user.download(f"{FOLDER}/results", results)
    return sorted(str(path.relative_to(results)) for path in written)


def run_agc(
    cluster: Cluster,
    *,
    name: str,
    inputs: dict[str, Any],
    results: Path,
    settle: bool = True,
    **settings: Any,
) -> Outcome:
    """Log in as a user, run the AGC notebook, and count what the cache moved for it.

    `settings` are those of `run_for`.  With `settle` it waits until the cache has reported all
    that was read; without, the outcome's bytes are those reported so far.
    """
    user, seconds = log_in(cluster, name)
    before = cache_use(cluster)
    files = run_for(user, inputs=inputs, results=results, **settings)
    needed = settings.get("source") == "direct"
    try:
        # ServiceX does not read again what it has delivered before.
        used = (
            settled_cache_use(cluster, before, needed=needed)
            if settle
            else cache_use(cluster).since(before)
        )
    except ShoppeError as error:
        # The results of the analysis are valid without the counts.
        say(f"  warning: {error.problem}; the counts below may lack this run")
        used = cache_use(cluster).since(before)
    report = json.loads((results / "report.json").read_text())
    norm = fitted(results / FIT) if FIT in files else None
    outcome = Outcome(name, seconds, report, used.fetched, used.sent, norm, str(results), files)
    (results / SUMMARY).write_text(json.dumps(asdict(outcome), indent=2) + "\n")
    return outcome
