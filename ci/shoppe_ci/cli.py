"""The command line of `ci/shoppe`."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import click

from shoppe_ci import (
    analysis,
    bench,
    checks,
    diagnostics,
    images,
    machine,
    origin,
    release,
    toolchain,
    up,
)
from shoppe_ci import cluster as clusters
from shoppe_ci import engine as engines
from shoppe_ci.cluster import Cluster
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import ROOT, cache
from shoppe_ci.progress import console, elapsed, say

TEST_CLUSTER = "coffea-shoppe-test"
FOLDER = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)

with_cluster = click.option(
    "--cluster", "name", default=up.DEFAULT, show_default=True, help="Name of the kind cluster."
)
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
        """Run the command that was asked for."""
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

    Everything made here lies in one cache folder (SHOPPE_CACHE, by default
    ~/.cache/coffea-shoppe) and in kind clusters of its own; running a command
    again continues where it was interrupted and does nothing twice.
    """


def _existing(name: str) -> Cluster:
    engine = engines.find()
    cluster = clusters.load(engine, name) if engine else None
    if cluster is None:
        raise ShoppeError(f"there is no cluster {name!r}", "ci/shoppe up makes one")
    return cluster


@main.command("up")
@with_cluster
@with_source
@click.option("-f", "--values", "files", multiple=True, type=FILE, help="Helm values.  Repeatable.")
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
    """Delete the cluster; caches and images stay."""
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
    help="Your own NanoAOD instead of the synthetic samples.  Repeatable.",
)
@click.option("--user", default="physicist", show_default=True, help="Who logs in at the hub.")
@click.option(
    "--weights",
    type=click.Choice(["xsec", "unit"]),
    help="Default: unit for your own data, xsec for the synthetic samples.",
)
@click.option("--workers", type=click.IntRange(1, 8), default=2, show_default=True)
@click.option(
    "--columns",
    "source",
    type=click.Choice(["servicex", "direct"]),
    default="servicex",
    show_default=True,
    help="Have ServiceX deliver columns, or read the files from the workers.",
)
@click.option(
    "--assignment",
    type=click.Choice(analysis.ASSIGNMENTS),
    help="Where the models score that assign jets; they are trained first, on nominal ttbar.  "
    "Default: served (by Triton) for the synthetic samples, none for your own data.",
)
@click.option("--results", type=FOLDER, default=ROOT / "results" / "demo", show_default=True)
def demo(
    name: str,
    wish: str,
    data: tuple[str, ...],
    user: str,
    weights: str | None,
    workers: int,
    source: str,
    assignment: str | None,
    results: Path,
) -> None:
    """Do everything: set up, install, and run the AGC in a user's pod."""
    start = time.monotonic()
    if data:
        analysis.check_inputs(data)
    _, cluster = up.facility(name, wish)
    inputs = analysis.fileset(cluster, data)
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
    )
    say(f"\nThe AGC has run, {elapsed(time.monotonic() - start)} after the start.\n")
    click.echo(outcome.summary())
    say(f"\nThe facility stays up at {cluster.url}; `ci/shoppe down` removes it.")


@main.command()
@with_cluster
@click.option("--notebook", type=FILE, required=True, help="The notebook to run.")
@click.option(
    "--with",
    "folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder whose files are put beside it.",
)
@click.option("--user", default="physicist", show_default=True, help="Who logs in at the hub.")
@click.option("--output", type=FOLDER, default=ROOT / "results" / "notebook", show_default=True)
def agc(name: str, notebook: Path, folder: Path | None, user: str, output: Path) -> None:
    """Run anyone's notebook in a spawned user's pod and bring the executed copy back."""
    cluster = _existing(name)
    someone, _ = analysis.log_in(cluster, user)
    home = notebook.stem
    for path in sorted(folder.rglob("*")) if folder else []:
        if path.is_file():
            someone.upload(path, f"{home}/{path.relative_to(folder or path)}")
    someone.upload(notebook, f"{home}/{notebook.name}")
    target = output / notebook.name
    analysis.run_notebook(someone, notebook, target, folder=home)
    click.echo(target)


@main.command()
@with_cluster
def status(name: str) -> None:
    """Show the facility's pods and where it answers."""
    cluster = _existing(name)
    rows, healthy = diagnostics.status(cluster)
    for namespace, pod, state in rows:
        click.echo(f"{namespace:14s} {pod:60s} {state}")
    click.echo(f"{cluster.url}  {'healthy' if healthy and rows else 'NOT healthy'}")
    if not rows:
        raise ShoppeError("nothing is installed in this cluster", "ci/shoppe up installs it")
    if not healthy:
        sys.exit(1)


@main.command()
@with_cluster
@click.option("--output", type=FOLDER, help="Write events, pod states and all logs there.")
@click.argument("component", required=False)
def logs(name: str, output: Path | None, component: str | None) -> None:
    """Show the last log lines of a component (hub, proxy, gateway …) or of all."""
    cluster = _existing(name)
    if output:
        click.echo(diagnostics.dump(cluster, output))
        return
    found = False
    for pod in diagnostics.pods(cluster):
        meta = pod["metadata"]
        part = meta["labels"].get("app.kubernetes.io/component", "")
        if component and component not in (part, meta["name"]):
            continue
        found = True
        click.echo(f"=== {meta['namespace']}/{meta['name']}")
        where = ["-n", meta["namespace"], meta["name"], "--all-containers", "--tail=50"]
        click.echo(cluster.kubectl("logs", *where))
    if not found:
        raise ShoppeError(f"no pod of a component {component!r}", "ci/shoppe status lists the pods")


@main.command()
@with_source
def doctor(wish: str) -> None:
    """Tell what this machine lacks, and the remedy."""
    source = machine.choose_source(wish)
    click.echo(f"images and tools: from {source}")
    found = up.findings(source)
    for finding in found:
        click.echo(f"{finding.state:8s} {finding.subject}: {finding.detail}")
        if finding.remedy:
            click.echo(f"         remedy: {finding.remedy}")
    for folder, size in toolchain.disk_use().items():
        click.echo(f"cache    {folder}: {size:.2f} GiB")
    if any(finding.state == "missing" for finding in found):
        sys.exit(1)


@main.command()
@click.option("--fix", is_flag=True, help="Format, write image tags, schemas and references.")
def check(fix: bool) -> None:
    """Check all that needs no cluster: lint, types, contracts, charts, generated files."""
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
@click.option("--all", "everything", is_flag=True, help="Also the long suites (chaos, load).")
@click.option("--fast", is_flag=True, help="Only what needs no cluster.")
@click.option("--keep", is_flag=True, help="Keep the test cluster for another look.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def test(
    wish: str, everything: bool, fast: bool, keep: bool, pytest_arguments: tuple[str, ...]
) -> None:
    """Run every test, in a cluster of their own that is removed at the end.

    Arguments after `--` go to pytest.  Tests that compare with reference inputs are
    collected where SHOPPE_REFERENCE_DATA names their folder.
    """
    if failed := checks.run_all():
        raise ShoppeError(
            "\n".join(error.problem for error in failed),
            "; ".join(filter(None, (error.remedy for error in failed))),
        )
    environment = dict(os.environ)
    arguments = ["--suite=long"] if everything else []
    engine = None
    if fast:
        arguments.append("--suite=fast")
    else:
        present = engines.find()
        if present and not keep:
            clusters.delete(present, TEST_CLUSTER)
        engine, cluster = up.prepare(TEST_CLUSTER, wish)
        environment |= cluster.environment() | {"SHOPPE_TEST_CLUSTER": TEST_CLUSTER}
        arguments.append("e2e-tests")
    try:
        folders = ["ci", "operator", "images", "charts"]
        command = [sys.executable, "-m", "pytest", *arguments, *folders, *pytest_arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
    finally:
        # pytest's summary stays the last thing printed.
        console.quiet = True
        if engine and not keep:
            clusters.delete(engine, TEST_CLUSTER)
    sys.exit(done.returncode)


@main.command("bench")
@with_cluster
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=Path, resolve_path=True),
    help="For `agc`: models to assign jets with; others are trained with published settings.",
)
@click.argument("subject", type=click.Choice(["agc", "install", "models", "scale", "servicex"]))
def bench_command(name: str, models: Path | None, subject: str) -> None:
    """Measure.

    `agc`: events/s on one core; `install`: install, spawn and Dask's start; `models`:
    Triton beside XGBoost in process; `scale`: the analysis' costs by workers and size of
    the input; `servicex`: columns delivered beside direct reading.
    """
    if subject == "agc":
        rows = bench.agc(models)
    elif subject == "install":
        rows = bench.install(_existing(name))
    elif subject == "servicex":
        rows = bench.servicex(_existing(name))
    elif subject == "scale":
        rows = bench.scale()
    else:
        rows = bench.models(_existing(name))
    for label, value in rows.items():
        click.echo(f"{label:48s} {value}")


@main.command("images")
@with_source
@click.option("--sbom", type=FOLDER, help="Also write each image's list of packages there.")
def images_command(wish: str, sbom: Path | None) -> None:
    """Build the images whose content changed, and list all of them."""
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


@main.command()
@click.option("--all", "everything", is_flag=True, help="Also finished tools and made samples.")
def clean(everything: bool) -> None:
    """Remove logs and leftovers of builds; with --all everything but running clusters."""
    for folder, size in toolchain.disk_use().items():
        say(f"  {folder}: {size:.2f} GiB")
    doomed = ["logs", "build"] + (["tools", "synth", "uv"] if everything else [])
    for folder in doomed:
        shutil.rmtree(cache(folder), ignore_errors=True)
    say(f"removed: {', '.join(doomed)}")
