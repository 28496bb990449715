"""The command `agc`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from agc.nanoaod import ERAS
from agc.samples import InputError, check_files, parse_inputs, read_fileset

OUTPUT = click.Path(dir_okay=False, path_type=Path)
INPUT = click.Path(exists=True, dir_okay=False, path_type=Path)

with_weights = click.option(
    "--weights", type=click.Choice(["xsec", "unit"]), default="xsec", show_default=True
)
with_chunk_size = click.option(
    "--chunk-size",
    type=click.IntRange(1),
    default=200_000,
    show_default=True,
    help="Events that are read at once.",
)
with_max_files = click.option(
    "--max-files", type=click.IntRange(1), help="Maximum number of files per sample."
)
with_executor = click.option(
    "--executor", type=click.Choice(["local", "dask"]), default="local", show_default=True
)
with_workers = click.option(
    "--workers", type=click.IntRange(1), default=2, show_default=True, help="Dask workers."
)
with_source = click.option(
    "--from",
    "source",
    type=click.Choice(["direct", "servicex"]),
    default="direct",
    show_default=True,
    help="Read the files, or have ServiceX deliver their columns.",
)
with_cache = click.option(
    "--cache/--no-cache",
    default=True,
    show_default=True,
    help="Read root:// URLs through the facility's cache, where there is one.",
)

with_servicex_cache = click.option(
    "--servicex-cache/--no-servicex-cache",
    "use_cached_results",
    default=True,
    show_default=True,
    help="Use what ServiceX has delivered in an earlier run, or have it delivered again.",
)
with_cache_prefix = click.option(
    "--cache-prefix",
    metavar="root://HOST:PORT",
    help="Read root:// URLs through this cache, instead of the facility's.",
)

with_experiment = click.option(
    "--experiment", help="Also log the result to MLflow, where there is one, in this experiment."
)


@contextmanager
def _clear_errors() -> Iterator[None]:
    """Show errors that the user can correct as a message, not as a traceback."""
    from coffea_shoppe import FacilityError

    try:
        yield
    except (InputError, FacilityError) as error:
        raise click.ClickException(str(error)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run the AGC CMS ttbar analysis."""


@main.command()
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="FILE[=PROCESS[:VARIATION]]",
    help="A NanoAOD file, a pattern of local files ('data/*.root'), or a URL; nominal ttbar by "
    "default.  Repeatable.",
)
@click.option("--fileset", type=INPUT, help="JSON of PROCESS → VARIATION → files.")
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with model_even.json and model_odd.json, to assign jets with.",
)
@click.option(
    "--served",
    metavar="NAME",
    help="Assign jets with the models NAME-even and NAME-odd that the facility serves for you.",
)
@with_max_files
@click.option("--output", type=OUTPUT, default=Path("histograms.root"), show_default=True)
@click.option(
    "--report",
    type=OUTPUT,
    help="Also write time and resources of the run: JSON, and an HTML page beside it.",
)
@with_executor
@with_workers
@with_weights
@with_chunk_size
@click.option(
    "--read-only",
    "percent",
    type=click.FloatRange(0, 100, min_open=True),
    metavar="PERCENT",
    help="Only read, without analysis, this share of the files' bytes (the AGC's shares are 4.1, "
    "15, 25 and 50).",
)
@click.option("--bins", type=int, default=25, show_default=True, help="Bins of both regions.")
@click.option(
    "--range",
    "limits",
    type=(float, float),
    default=(50.0, 550.0),
    show_default=True,
    metavar="LOW HIGH",
    help="Range of the bins, in GeV.",
)
@click.option(
    "--era",
    type=click.Choice(list(ERAS)),
    help="Tag b jets with this era's medium working point.  By default the AGC's cut is used where "
    "the files have CSVv2; else the era is taken from their paths.",
)
@click.option(
    "--btag",
    metavar="TAGGER[=CUT]",
    help="Tag b jets with this tagger, such as btagDeepFlavB=0.2783; without a cut, with the "
    "working point of --era.",
)
@with_source
@with_servicex_cache
@with_cache
@with_cache_prefix
@with_experiment
def run(
    inputs: tuple[str, ...],
    fileset: Path | None,
    models: Path | None,
    served: str | None,
    max_files: int | None,
    output: Path,
    report: Path | None,
    executor: str,
    workers: int,
    weights: str,
    chunk_size: int,
    percent: float | None,
    bins: int,
    limits: tuple[float, float],
    era: str | None,
    btag: str | None,
    source: str,
    use_cached_results: bool,
    cache: bool,
    cache_prefix: str | None,
    experiment: str | None,
) -> None:
    """Select events and write the histograms of both regions.

    With --models or --served, also write the histograms of the best assignment's features, to
    OUTPUT_ml.root.
    """
    from coffea_shoppe import data_url

    from agc import histograms, inference, samples, serving
    from agc import report as run_report
    from agc.run import read_only
    from agc.run import run as analyse

    with _clear_errors():
        files = parse_inputs(inputs)
        if fileset:
            files += read_fileset(fileset, limit=max_files)
        if not files:
            raise click.UsageError("give at least one --input FILE or a --fileset JSON")
        check_files(files)
        # ServiceX's transformers use the facility's cache themselves.
        if cache_prefix and (source != "direct" or not cache):
            raise click.UsageError("--cache-prefix needs --from direct and --cache")
        if cache_prefix:
            files = samples.located(files, samples.via_cache(cache_prefix))
        elif cache and source == "direct":
            files = samples.located(files, data_url)
        if percent:
            if source != "direct" or models or served or experiment:
                raise click.UsageError(
                    "--read-only goes with none of --from servicex, --models, --served, "
                    "--experiment"
                )
            with _client(executor, workers) as client:
                done = read_only(files, percent, client=client)
            gigabits = done.bytes_read * 8e-9
            click.echo(
                f"{sum(done.events.values())} events, {done.bytes_read / 1e6:.1f} MB in "
                f"{done.seconds:.1f} s on {done.workers} worker(s), "
                f"{gigabits / done.seconds:.3f} Gbps, {done.rate:.0f} events/s"
            )
            for path in run_report.save(done, report) if report else ():
                click.echo(path)
            return
        if models and served:
            raise click.UsageError("give --models or --served, not both")
        scorer: inference.Scorer | None = None
        if models:
            scorer = inference.LocalModels.load(models)
        elif served:
            scorer = serving.find(served)
            click.echo(f"assigning jets with {' and '.join(scorer.names.values())}")
        options: dict[str, Any] = {"weights": weights, "scorer": scorer, "chunk_size": chunk_size}
        options |= {
            "source": source,
            "use_cached_results": use_cached_results,
            "era": era,
            "btag": btag,
        }
        options["binning"] = histograms.Binning(bins, *limits)
        with _client(executor, workers) as client:
            done = analyse(files, client=client, **options)
        histograms.save(done.histograms, output)
        written = [output]
        if scorer:
            written.append(output.with_stem(f"{output.stem}_ml"))
            histograms.save(done.features, written[-1])
        click.echo(f"b tag: {done.btag}")
        unit = f"events expected in {samples.LUMINOSITY:g}/pb" if weights == "xsec" else "events"
        click.echo(f"{unit}:")
        for key, value in histograms.counts(done.histograms).items():
            click.echo(f"{key:32s} {value:12.1f}")
        total = sum(done.events.values())
        click.echo(
            f"{total} events in {done.seconds:.1f} s on {done.workers} worker(s), "
            f"{done.rate:.0f} events/s; histograms in {output}"
        )
        for use in done.served.values():
            scored = f"{use.rows} rows in {use.requests} requests"
            click.echo(f"Triton scored {scored} with version {use.version} of {use.model}")
        if done.source == "servicex":
            megabytes = done.bytes_read / 1e6
            click.echo(
                f"ServiceX delivered {done.delivered} file(s), {megabytes:.1f} MB, "
                f"in {done.delivery_seconds:.1f} s"
            )
        for note in done.notes:
            click.echo(f"note: {note}")
        if report:
            for path in run_report.save(done, report):
                written.append(path)
                click.echo(path)
        if experiment:
            from agc import tracking

            parameters = {
                "weights": weights,
                "executor": executor,
                "models": str(models or served or ""),
            }
            _show_logged(
                tracking.log_run(done, files, written, experiment=experiment, **parameters)
            )


def _show_logged(run: str) -> None:
    """Show the run in MLflow."""
    click.echo(f"logged to MLflow as run {run}" if run else "no MLFLOW_TRACKING_URI: not logged")


@contextmanager
def _client(executor: str, workers: int) -> Iterator[Any]:
    """Yield a Dask client: of a cluster of the facility, or of a local one; None for `local`."""
    if executor == "local":
        yield None
        return
    import dask

    if dask.config.get("gateway.address", None):
        from dask_gateway import Gateway

        with Gateway().new_cluster() as cluster:
            cluster.scale(workers)
            with cluster.get_client() as client:
                client.wait_for_workers(workers, timeout=300)
                yield client
    else:
        from distributed import Client, LocalCluster

        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=1, dashboard_address=None
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client


@main.command()
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="FILE",
    help="A NanoAOD file of nominal ttbar, a pattern of local files, or a URL.  Repeatable.",
)
@click.option("--fileset", type=INPUT, help="JSON of a fileset; only nominal ttbar is used.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("models"),
    show_default=True,
    help="Folder for the models and training.json.",
)
@click.option(
    "--events",
    type=click.IntRange(20),
    default=20_000,
    show_default=True,
    help="Maximum number of events of each parity of the event number.",
)
@click.option("--trials", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--seed", type=int, default=2, show_default=True, help="Seed of the trials' settings."
)
@with_executor
@with_workers
@with_cache
@with_experiment
def train(
    inputs: tuple[str, ...],
    fileset: Path | None,
    output: Path,
    events: int,
    trials: int,
    seed: int,
    executor: str,
    workers: int,
    cache: bool,
    experiment: str | None,
) -> None:
    """Train the two models that assign jets, on nominal ttbar.

    Trials with random settings are compared by cross-validation, separately for each parity
    of the event number; the best settings train the model.  With --experiment each trial is
    logged as a run of its own, and both models are registered in MLflow.
    """
    import os

    from coffea_shoppe import data_url

    from agc import samples, training

    with _clear_errors():
        files = parse_inputs(inputs)
        if fileset:
            files += [f for f in read_fileset(fileset) if f.sample.name == "ttbar__nominal"]
        if not files:
            raise click.UsageError("give at least one --input FILE or a --fileset with ttbar")
        check_files(files)
        if cache:
            files = samples.located(files, data_url)
        with _client(executor, workers) as client:
            samples_by_parity = training.collect(files, events=events, client=client)
            counts = ", ".join(
                f"{len(s.right)} {parity}" for parity, s in samples_by_parity.items()
            )
            click.echo(f"training on {counts} events")
            trained = training.train(
                samples_by_parity,
                trials=trials,
                seed=seed,
                threads=1 if client else os.cpu_count() or 1,
                client=client,
                note=click.echo,
            )
        for parity, model in trained.items():
            score = model.best.quality.jet_score
            click.echo(f"{parity}: {score:.3f} of the jets assigned correctly")
        written = training.save(trained, output)
        for path in written:
            click.echo(path)
        if experiment:
            from agc import tracking

            parameters = {"events": events, "trials": trials, "seed": seed}
            versions = tracking.log_training(
                trained, files, written, experiment=experiment, **parameters
            )
            for parity, version in versions.items():
                click.echo(f"registered as {tracking.model_name(parity)}, version {version}")
            if not versions:
                _show_logged("")


@main.command()
@click.argument("file", metavar="FILE")
@click.option(
    "--models",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    help="Folder with model_even.json and model_odd.json.",
)
@click.option("--output", type=OUTPUT, default=Path("scores.root"), show_default=True)
def score(file: str, models: Path, output: Path) -> None:
    """Write the best assignment's score of each event of a NanoAOD file.

    OUTPUT has one entry for each event, in FILE's order, with run, luminosityBlock and
    event, so that `agc.friends` can join it to the events; NaN outside of 4j2b.
    """
    from agc import inference, score

    with _clear_errors():
        scorer = inference.LocalModels.load(models)
        for done, total in score.write(file, output, scorer):
            click.echo(f"{done} of {total} events")
        click.echo(output)


@main.command()
@click.argument("histograms_file", metavar="HISTOGRAMS", type=INPUT)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("plots"),
    show_default=True,
    help="Folder for the figures.",
)
@with_weights
def plot(histograms_file: Path, output: Path, weights: str) -> None:
    """Draw stacked processes with the uncertainty of all variations."""
    from agc import histograms, plots

    with _clear_errors():
        for path in plots.save(histograms.load(histograms_file), output, weights=weights):
            click.echo(path)


@main.command()
@click.argument("histograms_file", metavar="FILE", type=INPUT)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for workspace, result and figures.",
)
@click.option(
    "--features",
    type=INPUT,
    help="Histograms of `agc run --models`: draw them with the fit's prediction.",
)
@click.option(
    "--ranking", is_flag=True, help="Also rank the parameters by their impact on the normalisation."
)
@click.option("--asimov", is_flag=True, help="Fit the model's own expectation, not pseudodata.")
@click.option(
    "--inject",
    type=click.FloatRange(0, 10),
    default=1.0,
    show_default=True,
    help="With --asimov: the true normalisation of ttbar.",
)
@with_experiment
def fit(
    histograms_file: Path,
    output: Path | None,
    features: Path | None,
    ranking: bool,
    asimov: bool,
    inject: float,
    experiment: str | None,
) -> None:
    """Fit the normalisation of ttbar.

    FILE contains the histograms of all nine samples: a ROOT file of `agc run`, or
    reference histograms as JSON.
    """
    from agc import histograms, statistics
    from agc.validate import read_reference

    if inject != 1.0 and not asimov:
        raise click.UsageError("--inject is for --asimov")
    if features and not output:
        raise click.UsageError("--features needs an --output for its figures")
    with _clear_errors():
        if histograms_file.suffix == ".json":
            measured = statistics.from_reference(read_reference(histograms_file))
        else:
            measured = histograms.load(histograms_file)
        workspace = statistics.workspace(measured)
        fitted = statistics.fit(workspace, asimov=asimov, inject=inject, goodness=not asimov)
        value, error = fitted.norm
        down, up = fitted.interval
        click.echo(f"{statistics.POI} = {value:.3f} ± {error:.3f}  (MINOS {down:+.3f} {up:+.3f})")
        if not asimov:
            click.echo(f"p-value of the goodness of fit: {fitted.results.goodness_of_fit:.3f}")
        ranked = statistics.ranking(fitted) if ranking else None
        if ranked is not None:
            for index in abs(ranked.postfit_up).argsort()[:-11:-1]:
                label, impact = ranked.labels[index], ranked.postfit_up[index]
                click.echo(f"  {label:32s} {impact:+.4f}")
        written: list[Path] = []
        if output:
            written = statistics.save(fitted, workspace, output, ranked=ranked)
            if features:
                feature_histograms = histograms.load(features)
                written += statistics.validate_features(
                    fitted, feature_histograms, output / "features"
                )
            for path in written:
                click.echo(path)
        if experiment:
            from agc import tracking

            parameters = {"file": str(histograms_file), "asimov": asimov, "inject": inject}
            _show_logged(tracking.log_fit(fitted, written, experiment=experiment, **parameters))


@main.command()
@click.argument("histograms_file", metavar="HISTOGRAMS", type=INPUT)
@click.option(
    "--reference",
    type=INPUT,
    required=True,
    help="Reference histograms: JSON, or a ROOT file that `agc run` wrote.",
)
def validate(histograms_file: Path, reference: Path) -> None:
    """Compare histograms with a reference: JSON by the AGC's rule, ROOT bin for bin."""
    from agc import histograms
    from agc.validate import differences, different_bins, read_reference

    with _clear_errors():
        measured = histograms.load(histograms_file)
        if reference.suffix == ".root":
            problems = different_bins(measured, histograms.load(reference))
        else:
            problems = differences(measured, read_reference(reference))
        if problems:
            raise InputError(f"{len(problems)} histograms differ:\n  " + "\n  ".join(problems))
        click.echo(f"all histograms agree with {reference}")


@main.group()
def export() -> None:
    """Write the analysis in the format of another system."""


@export.command()
@click.option("--fileset", type=INPUT, required=True, help="JSON of PROCESS → VARIATION → files.")
@with_max_files
@click.option(
    "--image",
    envvar="JUPYTER_IMAGE",
    default="",
    help="Image of the analysis; by default that of the notebook server.",
)
@with_weights
@with_chunk_size
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("reana"),
    show_default=True,
    help="Folder for the workflow.",
)
def reana(
    fileset: Path,
    max_files: int | None,
    image: str,
    weights: str,
    chunk_size: int,
    output: Path,
) -> None:
    """Write a workflow for REANA: select, draw, fit.

    Afterwards, in that folder: reana-client run.
    """
    from agc import reana as workflow

    with _clear_errors():
        files = read_fileset(fileset, limit=max_files)
        for path in workflow.export(
            files, output, image=image, weights=weights, chunk_size=chunk_size
        ):
            click.echo(path)


@main.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("synth"),
    show_default=True,
    help="Folder for the files and their fileset.json.",
)
@click.option(
    "--events",
    type=click.IntRange(100),
    default=20_000,
    show_default=True,
    help="Events of nominal ttbar; the other samples follow in proportion.",
)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option(
    "--like",
    type=click.Choice(["demo", "nano"]),
    default="demo",
    show_default=True,
    help="demo: the branches that the analysis reads.  nano: all 947 of the AGC's files, with "
    "their precision, sizes and baskets.",
)
@click.option(
    "--container",
    type=click.Choice(["ttree", "rntuple"]),
    default="ttree",
    show_default=True,
    help="ROOT's format of the events.",
)
@click.option(
    "--sample",
    "names",
    multiple=True,
    metavar="PROCESS[:VARIATION]",
    help="Write only this sample.  Repeatable.",
)
def synth(
    output: Path, events: int, seed: int, like: Any, container: Any, names: tuple[str, ...]
) -> None:
    """Make synthetic NanoAOD of all nine samples."""
    from agc.samples import sample
    from agc.synth import write_all

    with _clear_errors():
        only = {sample(*name.split(":", 1)).name for name in names}
    options = {"like": like, "container": container, "only": only}
    for path, count in write_all(output, events=events, seed=seed, **options):
        click.echo(f"{path}  {count} events")
    click.echo(output / "fileset.json")
