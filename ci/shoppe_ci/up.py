"""From a machine to a running facility: the steps that all commands share."""

from shoppe_ci import cluster as clusters
from shoppe_ci import engine as engines
from shoppe_ci import images, machine, release, toolchain
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.progress import say, step

DEFAULT = "coffea-shoppe"


def findings(source: machine.Source) -> list[machine.Finding]:
    """Return what `doctor` finds, for one way of getting images and cluster."""
    return [
        machine.check_cores(),
        machine.check_memory(),
        machine.check_disk(source),
        machine.check_go(source),
        engines.check(),
    ]


def prepare(name: str, wish: str = "auto") -> tuple[Engine, Cluster]:
    """Return an engine and a cluster with all images at hand.

    Checks the machine before anything is changed; what is there already is left
    as it is.
    """
    source = machine.choose_source(wish)
    machine.require(findings(source))
    how = {
        "registry": "a container registry answers: tools and images come from there",
        "source": "no container registry answers: tools and images are built from packages",
    }
    say(f"  {how[source]}")
    engine = engines.ensure()
    for tool in ("kind", "kubectl", "helm"):
        toolchain.program(tool)
    cluster = clusters.ensure(engine, name, source)
    port = clusters.ensure_registry(engine)
    clusters.connect_registry(engine, cluster)
    for image in images.declared().values():
        images.build(engine, image.name, source)
        if image.published:
            images.push(engine, image.name, port)
    warm(engine, cluster)
    return engine, cluster


def warm(engine: Engine, cluster: Cluster) -> None:
    """Pull the images into the node, so that the first user does not wait for it."""
    listed = engine.run("exec", cluster.node_id, "ctr", "-n", "k8s.io", "images", "list", "-q")
    have = set(listed.split())
    wanted = [images.reference(i.name) for i in images.declared().values() if i.published]
    missing = [name for name in wanted if name not in have]
    if not missing:
        return
    with step("pulling the images into the node") as note:
        for name in missing:
            note(name)
            pull = [
                "ctr",
                "-n",
                "k8s.io",
                "images",
                "pull",
                "--hosts-dir",
                "/etc/containerd/certs.d",
            ]
            engine.run("exec", cluster.node_id, *pull, name, what=f"pulling {name} into the node")


def facility(name: str, wish: str = "auto", *values: release.Values) -> tuple[Engine, Cluster]:
    """Return an engine and a cluster in which the facility runs and is ready."""
    release.check_values(release.demo_values(), *values)
    engine, cluster = prepare(name, wish)
    release.install(cluster, release.UMBRELLA, release.demo_values(), *values)
    return engine, cluster
