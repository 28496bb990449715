"""The steps from a machine to a running facility, which all commands share."""

from collections.abc import Callable, Sequence
from functools import cache as memoised
from functools import partial

from shoppe_ci import cluster as clusters
from shoppe_ci import engine as engines
from shoppe_ci import images, machine, nodeimage, release, tasks, toolchain
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine, pins
from shoppe_ci.images import Image
from shoppe_ci.progress import say, step
from shoppe_ci.tasks import Task

DEFAULT = "coffea-shoppe"
PROGRAMS = ("kind", "kubectl", "helm")
LANES = {"compile": 1, "fetch": 1, "images": 3}
"""A compiler uses all processors; images wait for packages, and for each other."""


def findings(source: machine.Source) -> list[machine.Finding]:
    """Return the findings of `doctor`, for images from a registry or from source."""
    return [
        machine.check_cores(),
        machine.check_memory(),
        machine.check_disk(source),
        machine.check_go(source),
        engines.check(),
    ]


def _plan(source: machine.Source) -> list[Task]:
    """Return the remaining tasks on this machine until all tools and images are available."""
    engine = memoised(engines.ensure)
    present = engines.find()
    missing = [
        image
        for image in images.declared().values()
        if present is None or not present.has_image(images.reference(image.name))
    ]
    plan = [Task("engine", "images", engine)]
    if source == "source":
        plan += _from_source(engine, present, missing)
    plan += [Task(f"program {n}", "compile", partial(toolchain.program, n)) for n in PROGRAMS]

    def build_image(name: str) -> None:
        images.build(engine(), name, source)

    planned = {task.name for task in plan} | {f"image {image.name}" for image in missing}
    for image in missing:
        needs = ["engine", "root", image.program, *(f"image {name}" for name in image.needs)]
        run = partial(build_image, image.name)
        plan.append(Task(f"image {image.name}", "images", run, planned.intersection(needs)))
    needs = ["engine", "image base"]
    plan.append(
        Task(
            "image of the registry",
            "images",
            lambda: images.registry_image(engine()),
            planned.intersection(needs),
        )
    )
    return plan


def _from_source(
    engine: Callable[[], Engine], present: Engine | None, missing: Sequence[Image]
) -> list[Task]:
    """Return what must be built because no registry has it: tools, and the node image."""
    node = present is None or not present.has_image(nodeimage.name("source"))
    tools = [*(nodeimage.TOOLS if node else ()), *(i.program for i in missing if i.program)]
    compiled = [tool for tool in tools if tool in pins()["go"]]
    plan = []
    if compiled:
        plan.append(Task("sources", "fetch", partial(toolchain.fetch_sources, compiled)))
    for tool in tools:
        lane = "compile" if tool in compiled else "fetch"
        plan.append(Task(tool, lane, partial(toolchain.folder, tool)))
    if node or any(not image.needs for image in missing):
        plan.append(
            Task("root", "images", lambda: nodeimage.root_file_system(engine()), ["engine"])
        )
    if node:
        packages = Task(
            "node packages",
            "images",
            lambda: nodeimage.install_packages_in_node(engine()),
            ["engine", "root"],
        )
        node_image = Task(
            "node",
            "images",
            lambda: nodeimage.ensure(engine(), "source"),
            [packages.name, *nodeimage.TOOLS],
        )
        plan += [packages, node_image]
    return plan


def build(wish: str = "auto") -> tuple[Engine, str]:
    """Return an engine with all tools and images, and where they come from.

    Checks the machine before anything is changed; what is there already is left
    as it is.  Compilers, downloads and the images' packages run beside each other.
    """
    source = machine.choose_source(wish)
    machine.require(findings(source))
    how = {
        "registry": "a container registry responds: tools and images come from there",
        "source": "no container registry responds: tools and images are built from packages",
    }
    say(f"  {how[source]}")
    tasks.run(_plan(source), LANES)
    return engines.ensure(), source


def start(engine: Engine, name: str, source: str) -> Cluster:
    """Return the running cluster of that name, with all images in its node."""
    cluster = clusters.ensure(engine, name, source)
    port = clusters.ensure_registry(engine)
    clusters.connect_registry(engine, cluster)
    listed = engine.run("exec", cluster.node_id, "ctr", "-n", "k8s.io", "images", "list", "-q")
    in_node = set(listed.split())
    plan = []
    for image in images.declared().values():
        if image.published:
            run = partial(images.push, engine, image.name, port)
            push = Task(f"push {image.name}", "images", run)
            plan.append(push)
            if images.reference(image.name) not in in_node:
                pull = partial(_pull, engine, cluster, image.name)
                plan.append(Task(f"pull {image.name}", "images", pull, [push.name]))
    tasks.run(plan, LANES)
    return cluster


def prepare(name: str, wish: str = "auto") -> tuple[Engine, Cluster]:
    """Return an engine and a cluster with all images at hand."""
    engine, source = build(wish)
    return engine, start(engine, name, source)


def _pull(engine: Engine, cluster: Cluster, name: str) -> None:
    """Pull an image into the node, so that the first user does not wait for it."""
    with step(f"pulling image {name} into the node"):
        pull = ["ctr", "-n", "k8s.io", "images", "pull", "--hosts-dir", "/etc/containerd/certs.d"]
        engine.run("exec", cluster.node_id, *pull, images.reference(name), what=f"pulling {name}")


def facility(name: str, wish: str = "auto", *values: release.Values) -> tuple[Engine, Cluster]:
    """Return an engine and a cluster in which the facility runs and is ready."""
    release.render(release.demo_values(), *values)
    engine, cluster = prepare(name, wish)
    release.install(cluster, release.UMBRELLA, release.demo_values(), *values)
    return engine, cluster
