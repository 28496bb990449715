"""The command line of `ci/shoppe`."""

import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from shoppe_ci import (
    analysis,
    backups,
    bench,
    breaks,
    bundle,
    checks,
    diagnostics,
    fields,
    images,
    machine,
    origin,
    preflight,
    release,
    testing,
    toolchain,
    up,
    versions,
)
from shoppe_ci import cluster as clusters
from shoppe_ci import engine as engines
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.gate import badge, report
from shoppe_ci.gate import client as gate_client
from shoppe_ci.gate import run as gates
from shoppe_ci.kubectl import Access
from shoppe_ci.paths import ROOT, cache
from shoppe_ci.progress import console, elapsed, say

TEST_CLUSTER = "coffea-shoppe-test"
Command = Callable[..., None]
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class ClusterName(click.ParamType[str]):
    """The name of a kind cluster."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the name; fails where kind would refuse it."""
        if not re.fullmatch(r"[a-z0-9.-]+", value):
            self.fail(f"{value!r}: use lower-case letters, digits, '.' and '-' only", param, ctx)
        return value


def cluster_option(default: str) -> Callable[[Command], Command]:
    """Return the option `--cluster` with a default."""
    return click.option(
        "--cluster",
        "name",
        type=ClusterName(),
        default=default,
        show_default=True,
        help="Name of the kind cluster.",
    )


with_cluster = cluster_option(up.DEFAULT)
with_source = click.option(
    "--from",
    "wish",
    type=click.Choice(["registry", "source", "auto"]),
    default="auto",
    show_default=True,
    help="Where tools and base images come from.",
)


class Group(click.Group):
    """A group whose commands show a `ShoppeError` as problem and remedy."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except ShoppeError as error:
            console.print(f"error: {error.problem}", style="red", markup=False)
            if error.remedy:
                console.print(f"remedy: {error.remedy}", style="yellow", markup=False)
            sys.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Bring up a Coffea Shoppe facility on this machine, use it, and test it.

    All files are in one cache folder (SHOPPE_CACHE, by default
    ~/.cache/coffea-shoppe), all objects in kind clusters of their own. A command
    that was interrupted continues where it stopped when you run it again.
    """


def _existing(name: str) -> Cluster:
    engine = engines.find()
    cluster = clusters.load(engine, name) if engine else None
    if cluster is None:
        raise ShoppeError(
            f"there is no cluster {name!r}", f"`ci/shoppe up --cluster {name}` creates it"
        )
    return cluster


@main.command("up")
@with_cluster
@with_source
@click.option(
    "-f", "--values", "files", multiple=True, type=FILE, help="File of Helm values.  Repeatable."
)
def up_command(name: str, wish: str, files: tuple[Path, ...]) -> None:
    """Bring up a cluster and install the facility in it."""
    start = time.monotonic()
    _, cluster = up.facility(name, wish, *release.read_values(files))
    key = r"{.data.hub\.config\.SharedPasswordAuthenticator\.user_password}"
    say(f"\nThe facility is ready after {elapsed(time.monotonic() - start)}: {cluster.url}")
    say("Log in with any name and the password that this prints:")
    say(
        f"  KUBECONFIG={cluster.kubeconfig} kubectl -n {release.NAMESPACE} get secret "
        f"{release.RELEASE}-hub -o jsonpath='{key}' | base64 -d"
    )


@main.command()
@with_cluster
def down(name: str) -> None:
    """Delete the cluster, and keep caches and images."""
    engine = engines.find()
    if engine is None or not clusters.delete(engine, name):
        say(f"there is no cluster {name!r}")


@main.command()
@with_cluster
@with_source
@click.option(
    "--data",
    multiple=True,
    metavar="FILE_OR_URL[=PROCESS[:VARIATION]]",
    help="Analyse your own NanoAOD instead of the synthetic samples.  Repeatable.",
)
@click.option(
    "--era", help="Era of your own data, which selects the b tagger: see `agc run --help`."
)
@click.option(
    "--btag", metavar="TAGGER[=CUT]", help="The b tagger of your own data: see `agc run --help`."
)
@click.option("--user", default="physicist", show_default=True, help="Name of the user.")
@click.option(
    "--weights",
    type=click.Choice(["xsec", "unit"]),
    help="Scale events to cross sections and luminosity (xsec), or count them (unit).  "
    "Default: unit for your own data, xsec for the synthetic samples.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 8),
    default=2,
    show_default=True,
    help="Number of Dask workers.",
)
@click.option(
    "--columns",
    "source",
    type=click.Choice(["servicex", "direct"]),
    default="servicex",
    show_default=True,
    help="Have ServiceX deliver columns, or let the workers read the files directly.",
)
@click.option(
    "--assignment",
    type=click.Choice(analysis.ASSIGNMENTS),
    help="Where the models run that assign jets; they are trained first, on nominal ttbar.  "
    "Default: served (by Triton) for the synthetic samples, none for your own data.",
)
@click.option(
    "--results",
    type=FOLDER,
    default=ROOT / "results" / "demo",
    show_default=True,
    help="Folder for the results.",
)
def demo(
    name: str,
    wish: str,
    data: tuple[str, ...],
    era: str | None,
    btag: str | None,
    user: str,
    weights: str | None,
    workers: int,
    source: str,
    assignment: str | None,
    results: Path,
) -> None:
    """Set up a cluster, install the facility, and run the AGC in a user's pod."""
    start = time.monotonic()
    if data:
        analysis.check_inputs(data, era=era, btag=btag)
    _, cluster = up.facility(name, wish)
    inputs = analysis.fileset(cluster, data, era=era, btag=btag)
    origin.install(cluster)
    outcome = analysis.run_agc(
        cluster,
        name=user,
        inputs=inputs,
        results=results,
        weights=weights or ("unit" if data else "xsec"),
        workers=workers,
        source=source,
        assignment=assignment or ("none" if data else "served"),
        era=era,
        btag=btag,
    )
    say(f"\nThe AGC has run, {elapsed(time.monotonic() - start)} after the start.\n")
    click.echo(outcome.summary())
    say(f"\nThe facility stays up at {cluster.url}; `ci/shoppe down` removes it.")


@main.command()
@with_cluster
@with_source
@click.option(
    "--output",
    type=FOLDER,
    default=ROOT / "results" / "gate",
    show_default=True,
    help="Folder for the record, the report and the badge; what an earlier gate wrote is removed.",
)
@click.option(
    "--events",
    type=click.IntRange(analysis.FEWEST_EVENTS),
    default=analysis.SYNTH_EVENTS,
    show_default=True,
    help="Synthetic events of nominal ttbar.",
)
@click.option(
    "--facility",
    "url",
    metavar="URL",
    help="Test the facility at this address instead, with a user's rights only.",
)
@click.option("--token-file", type=FILE, help="For --facility: file with the user's token.")
@click.option(
    "--fileset",
    type=FILE,
    help="For --facility: JSON of PROCESS → VARIATION → files, at addresses that it can read.",
)
def gate(
    name: str,
    wish: str,
    output: Path,
    events: int,
    url: str | None,
    token_file: Path | None,
    fileset: Path | None,
) -> None:
    """Run the AGC through every service, and prove it by the services' counters.

    Installs or upgrades the facility first.  The results must be those that this machine
    computes without the facility.  Exit status 1: a service is not proved, or a result differs;
    the badge is red and names it.

    With --facility nothing is installed, the evidence is what the user got, and there is no
    badge.
    """
    folder = output.resolve()
    if url:
        if not token_file or not fileset:
            raise click.UsageError("--facility needs --token-file and --fileset")
        token, inputs = gate_client.read_token(token_file), gate_client.read_fileset(fileset)
        record = gate_client.run(url, token, inputs, folder)
    else:
        if token_file or fileset:
            raise click.UsageError("--token-file and --fileset go with --facility")
        engine, cluster = up.facility(name, wish)
        origin.install(cluster)
        record = gates.run(engine, cluster, folder, events=events)
    for hop in record.hops:
        click.echo(f"{hop.title:14s} {hop.state:12s} {hop.reason}".rstrip())
    for sentence in record.differences:
        click.echo(f"results        {sentence}")
    if record.problem:
        click.echo(f"run            {record.problem}")
    click.echo(f"report         {output / report.PAGE}")
    if not record.passed:
        raise ShoppeError(
            f"the gate is closed: {record.broken} is broken",
            f"{output / report.PAGE} shows what is missing",
        )
    say(f"\nThe gate is open after {elapsed(record.seconds)}.")


@main.command("badge")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def badge_command(folder: Path) -> None:
    """Recompute the digests of a gate's record in FOLDER, and write its badge."""
    for path in badge.write(folder):
        click.echo(path)


@main.command()
@with_cluster
@click.option("--notebook", type=FILE, required=True, help="The notebook to run.")
@click.option(
    "--with",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder whose files are uploaded beside the notebook.",
)
@click.option("--user", default="physicist", show_default=True, help="Name of the user.")
@click.option(
    "--output",
    type=FOLDER,
    default=ROOT / "results" / "notebook",
    show_default=True,
    help="Folder for the executed notebook.",
)
def agc(name: str, notebook: Path, folder: Path | None, user: str, output: Path) -> None:
    """Run a notebook in a user's pod, and download the executed copy."""
    cluster = _existing(name)
    hub_user, _ = analysis.log_in(cluster, user)
    home = notebook.stem
    for path in sorted(folder.rglob("*")) if folder else []:
        if path.is_file():
            hub_user.upload(path, f"{home}/{path.relative_to(folder or path)}")
    hub_user.upload(notebook, f"{home}/{notebook.name}")
    target = output / notebook.name
    analysis.run_notebook(hub_user, notebook, target, folder=home)
    click.echo(target)


@main.command()
@with_cluster
def status(name: str) -> None:
    """Show the facility's pods and its address."""
    cluster = _existing(name)
    rows, healthy = diagnostics.status(cluster)
    for namespace, pod, state in rows:
        click.echo(f"{namespace:14s} {pod:60s} {state}")
    click.echo(f"{cluster.url}  {'healthy' if healthy and rows else 'NOT healthy'}")
    if not rows:
        raise ShoppeError(
            "nothing is installed in this cluster",
            f"`ci/shoppe up --cluster {name}` installs the facility",
        )
    if not healthy:
        sys.exit(1)


@main.command()
@with_cluster
@click.option("--output", type=FOLDER, help="Folder for events, pod states and all logs.")
@click.argument("component", required=False)
def logs(name: str, output: Path | None, component: str | None) -> None:
    """Show the last log lines of a component (hub, proxy, gateway …) or of all."""
    cluster = _existing(name)
    if output:
        click.echo(diagnostics.dump(cluster, output))
        return
    printed = False
    for pod in diagnostics.pods(cluster):
        meta = pod["metadata"]
        part = meta["labels"].get("app.kubernetes.io/component", "")
        if component and component not in (part, meta["name"]):
            continue
        printed = True
        click.echo(f"=== {meta['namespace']}/{meta['name']}")
        where = ["-n", meta["namespace"], meta["name"], "--all-containers", "--tail=50"]
        click.echo(cluster.kubectl("logs", *where))
    if not printed:
        raise ShoppeError(
            f"there is no pod of a component {component!r}", "`ci/shoppe status` lists the pods"
        )


@main.command()
@click.option("--release", "name", default=release.RELEASE, show_default=True)
@click.option("--namespace", default=release.NAMESPACE, show_default=True)
@click.argument("files", nargs=-1, type=FILE, metavar="[VALUES]...")
def secrets(name: str, namespace: str, files: tuple[Path, ...]) -> None:
    """Print new Secrets for a release, as manifests for kubectl, kubeseal or a secret store.

    VALUES are files of Helm values.  The names are those that the charts would use; the
    values must name them, as docs/how-to/gitops.md shows.
    """
    click.echo(release.new_secrets(*release.read_values(files), release=name, namespace=namespace))


@main.command()
@with_source
@click.option(
    "--cluster",
    "files",
    type=FILE,
    multiple=True,
    metavar="VALUES",
    help="List what the cluster lacks for a release with this file of values instead; repeat it "
    "for several files.",
)
@click.option("--kubeconfig", type=FILE, help="With --cluster: the cluster; kubectl's by default.")
@click.option("--release", "name", default=release.RELEASE, show_default=True)
@click.option("--namespace", default=release.NAMESPACE, show_default=True)
@click.option(
    "--registry/--no-registry",
    default=True,
    help="With --cluster: whether this machine looks for the images in their registries.",
)
def doctor(
    wish: str,
    files: tuple[Path, ...],
    kubeconfig: Path | None,
    name: str,
    namespace: str,
    registry: bool,
) -> None:
    """List what this machine, or a cluster, lacks, each with its remedy."""
    if files:
        outcome = preflight.examine(
            *release.read_values(files),
            kubeconfig=kubeconfig,
            name=name,
            namespace=namespace,
            registry=registry,
        )
        click.echo("\n".join(outcome.lines))
        sys.exit(0 if outcome.passed else 1)
    source = machine.choose_source(wish)
    click.echo(f"images and tools: from {source}")
    findings = up.findings(source)
    for finding in findings:
        click.echo(f"{finding.state:8s} {finding.subject}: {finding.detail}")
        if finding.remedy:
            click.echo(f"         remedy: {finding.remedy}")
    for folder, size in toolchain.disk_use().items():
        click.echo(f"cache    {folder}: {size:.2f} GiB")
    if any(finding.state == "missing" for finding in findings):
        sys.exit(1)


@main.command()
@click.option("--fix", is_flag=True, help="Format, write image tags, schemas and references.")
def check(fix: bool) -> None:
    """Check everything that needs no cluster: lint, types, contracts, charts, generated files."""
    if fix:
        checks.fix()
    failed = checks.run_all()
    for error in failed:
        console.print(f"error: {error.problem}", style="red", markup=False)
        if error.remedy:
            console.print(f"remedy: {error.remedy}", style="yellow", markup=False)
    if failed:
        sys.exit(1)


@main.command(context_settings={"ignore_unknown_options": True})
@with_source
@click.option(
    "--all",
    "part",
    is_flag=False,
    flag_value="every",
    metavar="[PART]",
    help=f"Run the long suites instead: all, or one part ({', '.join(testing.PARTS)}).  "
    "Tests that passed on the same content are not run again.",
)
@click.option(
    "--affected",
    "since",
    is_flag=False,
    flag_value="HEAD",
    metavar="[COMMIT]",
    help="Run the tests that changes since a commit can affect (default: uncommitted changes), "
    "in a cluster that is kept.",
)
@click.option("--fast", is_flag=True, help="Run the tests that need no cluster.")
@click.option("--keep", is_flag=True, help="Keep the test cluster when the tests end.")
@click.option("--unchecked", is_flag=True, help="Do not run `ci/shoppe check` first.")
@cluster_option(TEST_CLUSTER)
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def test(
    wish: str,
    part: str | None,
    since: str | None,
    fast: bool,
    keep: bool,
    unchecked: bool,
    name: str,
    pytest_arguments: tuple[str, ...],
) -> None:
    """Run all tests in a cluster of their own, and remove it at the end.

    `--affected` and `--all` run a part of the tests instead.  Arguments after `--` go to
    pytest.  Tests that compare with reference inputs are collected if
    SHOPPE_REFERENCE_DATA names their folder.
    """
    if not unchecked and (failed := checks.run_all()):
        raise ShoppeError(
            "\n".join(error.problem for error in failed),
            "; ".join(filter(None, (error.remedy for error in failed))),
        )
    if part:
        parts = testing.PARTS if part == "every" else (part,)
        results = [
            testing.run_part(each, name=name, wish=wish, keep=keep, arguments=pytest_arguments)
            for each in parts
        ]
        click.echo(testing.table(results))
        sys.exit(max(result.status for result in results))
    if since:
        sys.exit(testing.run_affected(since, name=name, wish=wish, arguments=pytest_arguments))
    sys.exit(
        testing.run_core(name=name, wish=wish, fast=fast, keep=keep, arguments=pytest_arguments)
    )


@main.command("breaks")
@click.argument("names", nargs=-1)
def breaks_command(names: tuple[str, ...]) -> None:
    """Check that the tests detect faults, each in a copy of the last commit.

    NAMES are faults of e2e-tests/breaks.toml (default: all).  They share tools, images and
    the cluster, so that each takes a minute or two.
    """
    missed = []
    for entry in breaks.choose(names, breaks.read_table()):
        if not breaks.caught(entry):
            missed.append(entry.name)
        outcome = "MISSED" if entry.name in missed else "caught"
        click.echo(f"{entry.name:10s} {outcome}  {entry.what}  ({entry.test})")
    if (engine := engines.find()) is not None:
        clusters.delete(engine, breaks.CLUSTER)
    if missed:
        raise ShoppeError(
            f"not caught: {', '.join(missed)}", "improve the tests that are named above"
        )


@main.command("bench")
@with_cluster
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
    help="For `agc`: folder of models that assign jets.  Default: they are trained.",
)
@click.option(
    "--upstream",
    type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
    help="For `agc`: checkout of iris-hep/analysis-grand-challenge, to measure its processor.",
)
@click.option(
    "--events",
    type=click.IntRange(20_000),
    default=bench.AGC_EVENTS,
    show_default=True,
    help="For `agc`: events of each file.",
)
@click.argument(
    "subject", type=click.Choice(["agc", "install", "models", "overload", "scale", "servicex"])
)
def bench_command(
    name: str, models: Path | None, upstream: Path | None, events: int, subject: str
) -> None:
    """Measure rates and times of the analysis and of services.

    `agc`: CPU time of the analysis by stage, on files with the AGC's 947 branches; `install`:
    times of installing, of starting a server and a Dask cluster; `models`: Triton compared with
    XGBoost in the same process; `overload`: the times of a user's requests while another user
    floods the servers, compared with the quiet; `scale`: the analysis' time by number of workers
    and size of the input; `servicex`: delivered columns compared with direct reading.
    """
    if subject == "agc":
        rows = bench.agc(models, upstream, events)
    elif subject == "install":
        rows = bench.install(_existing(name))
    elif subject == "servicex":
        rows = bench.servicex(_existing(name))
    elif subject == "overload":
        rows = bench.overloaded(_existing(name))
    elif subject == "scale":
        rows = bench.scale()
    else:
        rows = bench.models(_existing(name))
    for label, value in rows.items():
        click.echo(f"{label:48s} {value}")


@main.command("fields")
@click.option("--list", "table", type=FILE, help="Another list of files (CSV).")
@click.option("--json", "output", type=click.Path(path_type=Path), help="File for all outcomes.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def fields_command(folder: Path, table: Path | None, output: Path | None) -> None:
    """Deliver public ROOT files by ServiceX, and compare with what uproot reads.

    FOLDER has, at any depth, files of the list images/servicex/tests/field_files.csv, which
    are recognized by their content: clone the repositories that it names.  Each tree is
    delivered in each format and compared value by value.  A column that a format cannot
    hold must be refused by name.  Exit status 1: something is wrong.
    """
    comparison = fields.compare(folder, table)
    if output:
        output.write_text(json.dumps(asdict(comparison), indent=2) + "\n")
    for line in fields.lines_of(comparison):
        click.echo(line)
    if comparison.wrong:
        sys.exit(1)


@main.command("images")
@with_source
@click.option("--sbom", type=FOLDER, help="Folder for each image's list of packages.")
@click.option("--names", is_flag=True, help="Only print the names of the charts' images.")
def images_command(wish: str, sbom: Path | None, names: bool) -> None:
    """Build the images whose content changed, and list all of them."""
    if names:
        for name, image in images.declared().items():
            if image.values:
                click.echo(images.reference(name))
        return
    source = machine.choose_source(wish)
    engine = engines.ensure()
    for name, image in images.declared().items():
        full = images.build(engine, name, source)
        size = int(engine.run("image", "inspect", "-f", "{{.Size}}", full)) / 1e9
        click.echo(f"{full:64s} {size:6.2f} GB")
        if sbom and image.published:
            path = images.sbom(engine, name, sbom)
            count = len(json.loads(path.read_text())["components"])
            click.echo(f"  {path}: {count} packages")


@main.group("bundle")
def bundle_group() -> None:
    """Carry a release to a cluster without a way out: charts, images, digests, sums."""


@bundle_group.command("create")
@with_source
@click.option("--sbom/--no-sbom", default=True, help="With lists of the images' packages.")
@click.option("--signing-key", type=FILE, help="Private ECDSA key (PEM) that signs the sums.")
@click.argument("folder", type=FOLDER)
def bundle_create(wish: str, sbom: bool, signing_key: Path | None, folder: Path) -> None:
    """Write the charts and all images of this checkout into FOLDER.

    Images whose content changed are built first.  SHOPPE_KEY_PASSPHRASE has the passphrase of
    the signing key, if it has one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chart = release.package(folder)
    engine, _ = up.build(wish)
    port = clusters.ensure_registry(engine)
    for name, image in images.declared().items():
        if image.values:
            images.push(engine, name, port)
    count = bundle.create(engine, chart, port, sboms=sbom, key=signing_key)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e9
    click.echo(f"{folder}: {count} images, {size:.2f} GB")


@bundle_group.command("verify")
@click.option("--key", type=FILE, help="Public key (PEM) of who signed the bundle.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def bundle_verify(key: Path | None, folder: Path) -> None:
    """Compare the files of a bundle in FOLDER with its sums, and those with their signature."""
    count = bundle.verify(folder, key)
    signed = ", and so is its signature" if key else ""
    click.echo(f"{folder} is whole: {count} images{signed}")


@bundle_group.command("push")
@click.option("--user", default="", help="Account at the registry.")
@click.option("--password-file", type=FILE, help="File with the account's password.")
@click.option("--plain-http", is_flag=True, help="The registry speaks HTTP without TLS.")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("registry")
def bundle_push(
    user: str, password_file: Path | None, plain_http: bool, folder: Path, registry: str
) -> None:
    """Push the images of a bundle in FOLDER to REGISTRY, with or without a path.

    The bundle is verified first.  Prints how to install from there.
    """
    bundle.verify(folder)
    password = password_file.read_text().strip() if password_file else ""
    target = bundle.Registry(registry, user, password, plain_http)
    for name in bundle.push(folder, target):
        click.echo(name)
    click.echo(
        f"helm install shoppe {bundle.chart_of(folder)} --namespace shoppe --create-namespace"
        f" --values {folder / 'values.yaml'} --set global.imageRegistry={registry.strip('/')}"
    )


with_kubeconfig = click.option("--kubeconfig", type=FILE, help="The cluster; kubectl's by default.")


@main.group("backup")
def backup_group() -> None:
    """Back up a whole facility, and restore it where there is none."""


@backup_group.command("create")
@with_kubeconfig
@click.option("--release", "name", default=release.RELEASE, show_default=True)
@click.option("--namespace", default=release.NAMESPACE, show_default=True)
@click.option(
    "--keep",
    type=click.IntRange(1),
    default=7,
    show_default=True,
    help="Number of backups of the release that stay in FOLDER; older ones are removed.",
)
@click.argument("folder", type=FOLDER)
def backup_create(
    kubeconfig: Path | None, name: str, namespace: str, keep: int, folder: Path
) -> None:
    """Write a backup into a new folder below FOLDER; nothing of the facility stops.

    It has the databases, buckets and homes, and the Secrets in clear text: encrypt the disk.
    """
    target = backups.create(
        backups.Facility(Access(kubeconfig), name, namespace), folder, keep=keep
    )
    outcome = backups.check(target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / 1e9
    click.echo(f"{target}: {len(outcome.files)} files, {size:.2f} GB")
    for left_out in outcome.left_out:
        click.echo(f"NOT in it: {left_out}")


@backup_group.command("check")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def backup_check(folder: Path) -> None:
    """Compare the files of the backup in FOLDER with what was written."""
    outcome = backups.check(folder)
    click.echo(f"{folder} is whole: {outcome.name} {outcome.chart}, {outcome.time}")


@backup_group.command("restore")
@with_kubeconfig
@click.option(
    "--chart",
    type=click.Path(exists=True, path_type=Path),
    default=release.UMBRELLA,
    help="The chart; by default this checkout's.",
)
@click.option(
    "-f", "--values", "files", multiple=True, type=FILE, help="Values that differ.  Repeatable."
)
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def backup_restore(
    kubeconfig: Path | None, chart: Path, files: tuple[Path, ...], folder: Path
) -> None:
    """Install the release of the backup in FOLDER into a cluster that does not have it.

    Users then find their tokens, homes, buckets, runs, models and requests.
    """
    facility = backups.restore(Access(kubeconfig), folder, chart, files)
    click.echo(f"the release {facility.name} is restored in {facility.namespace}")


@main.group("release")
def release_group() -> None:
    """Make a release of this checkout: RELEASE.md has all steps."""


@release_group.command("prepare")
@click.argument("version")
def release_prepare(version: str) -> None:
    """Set VERSION in all charts, and collect the changelog's fragments."""
    versions.prepare(version)
    click.echo(f"the charts and CHANGELOG.md say {version}: review, and commit")


@release_group.command("record")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def release_record(folder: Path) -> None:
    """Keep what `ci/shoppe gate` wrote into FOLDER as the record of the present version.

    All digests are recomputed first.  The README shows the record's badge from then on.
    """
    click.echo(f"{versions.record(folder)}: commit it with README.md, and tag that commit")


@release_group.command("start")
@click.argument("version")
def release_start(version: str) -> None:
    """Set VERSION in all charts for what follows a release, such as 0.2.0-dev."""
    versions.start(version)
    click.echo(f"the charts say {version}: commit")


@main.command()
@click.option(
    "--all", "everything", is_flag=True, help="Remove built tools and synthetic samples, too."
)
def clean(everything: bool) -> None:
    """Remove logs and build folders; with --all everything but running clusters."""
    for folder, size in toolchain.disk_use().items():
        say(f"  {folder}: {size:.2f} GiB")
    doomed = ["logs", "build"] + (["tools", "synth", "renderings", "uv"] if everything else [])
    for folder in doomed:
        shutil.rmtree(cache(folder), ignore_errors=True)
    say(f"removed: {', '.join(doomed)}")
