"""The kind node image: the published one, or one built from source packages."""

import hashlib
import io
import shutil
import tarfile
import tempfile
from pathlib import Path

from shoppe_ci import shell, toolchain
from shoppe_ci.engine import Engine, install_packages, pins
from shoppe_ci.errors import ShoppeError
from shoppe_ci.paths import TOOLCHAIN, cache, locked
from shoppe_ci.progress import step

LOCAL = "coffea-shoppe.local"
NODE = TOOLCHAIN / "node"
TOOLS = (
    *("kind", "kubernetes", "cni-plugins", "pause", "etcd", "containerd", "coredns"),
    "local-path-provisioner",
)
"""The parts of the node image, in the order of compilation."""
APT_SOURCES = ("/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list")


def root_file_system(engine: Engine) -> str:
    """Return the name of a minimal Debian image, built with mmdebstrap if it does not exist."""
    name = f"{LOCAL}/debian:{pins()['debian']['suite']}"
    with locked("debian"):
        if not engine.has_image(name):
            _make_root_file_system(engine, name)
    return name


def _make_root_file_system(engine: Engine, name: str) -> None:
    suite = pins()["debian"]["suite"]
    install_packages(pins()["debian"]["root_file_system"])
    sources = next((path for path in APT_SOURCES if Path(path).exists()), None)
    if sources is None:
        raise ShoppeError("no list of Debian package sources", f"create {APT_SOURCES[0]}")
    with step(f"making a Debian {suite} root file system") as note:
        archive = cache("build", "debian.tar")
        shell.run(
            [
                "mmdebstrap",
                "--variant=minbase",
                "--include=ca-certificates",
                suite,
                archive,
                sources,
            ],
            note=note,
        )
        engine.run("import", str(archive), name)
        archive.unlink()


def name(source: str) -> str:
    """Return the node image's name: the published one's, or one with a hash of all its parts."""
    if source == "registry":
        return str(pins()["kubernetes"]["node_image"])
    digest = hashlib.sha256(repr(sorted(pins()["kubernetes"].items())).encode())
    for path in sorted(NODE.iterdir()):
        digest.update(path.read_bytes())
    for tool in sorted(TOOLS):
        digest.update(toolchain.key(tool).encode())
    return f"{LOCAL}/node:{digest.hexdigest()[:12]}"


def ensure(engine: Engine, source: str) -> str:
    """Return the node image's name; built first where no registry offers it."""
    full = name(source)
    if source == "source":
        with locked("node-image"):
            if not engine.has_image(full):
                _build(engine, full)
                cache("stamps", "node-image").write_text(full)
    return full


def install_packages_in_node(engine: Engine) -> None:
    """Build the part of the node image that needs no compiled program: its packages.

    The engine keeps the layers for the build of the whole.
    """
    with step("installing the kind node image's packages") as note:
        root = root_file_system(engine)
        engine.build("--target", "system", "--build-arg", f"ROOT={root}", str(NODE), note=note)


def static_image(engine: Engine, name: str, program: Path, *changes: str) -> str:
    """Build an image with one static program at /usr/local/bin and return its name."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(program, f"usr/local/bin/{program.name}")
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        archive.addfile(tmp)
    arguments = [
        word for change in ("ENV PATH=/usr/local/bin", *changes) for word in ("-c", change)
    ]
    engine.run("import", *arguments, "-", name, stdin=buffer.getvalue())
    return name


def _kubernetes_images(engine: Engine, context: Path, root: str) -> list[str]:
    """Build every image that kubeadm, kind and the storage class expect."""
    version = pins()["kubernetes"]
    tools = toolchain.folder("kubernetes")
    registry = "registry.k8s.io"
    made = [
        static_image(engine, f"{registry}/{name}:{version['version']}", tools / name)
        for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
    ]
    etcd = toolchain.folder("etcd") / "etcd"
    made.append(static_image(engine, f"{registry}/etcd:{version['etcd']}", etcd))
    coredns = toolchain.folder("coredns") / "coredns"
    made.append(
        static_image(
            engine,
            f"{registry}/coredns/coredns:{version['coredns']}",
            coredns,
            'ENTRYPOINT ["/usr/local/bin/coredns"]',
        )
    )
    pause = toolchain.folder("pause") / "pause"
    made.append(
        static_image(
            engine,
            f"{registry}/pause:{version['pause']}",
            pause,
            'ENTRYPOINT ["/usr/local/bin/pause"]',
        )
    )
    provisioner = toolchain.folder("local-path-provisioner") / "local-path-provisioner"
    made.append(static_image(engine, f"{LOCAL}/local-path-provisioner:1", provisioner))
    made.append(_busybox(engine))
    proxy = f"{registry}/kube-proxy:{version['version']}"
    arguments = ["--target", "kube-proxy", "--build-arg", f"ROOT={root}", "-t", proxy]
    engine.build(*arguments, str(context))
    return [*made, proxy]


def _busybox(engine: Engine) -> str:
    """Build the image with a shell that creates and removes volumes."""
    install_packages(pins()["debian"]["root_file_system"])
    name = f"{LOCAL}/busybox:1"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "bin").mkdir()
        shutil.copy("/bin/busybox", root / "bin" / "busybox")
        for applet in ("sh", "mkdir", "rm"):
            (root / "bin" / applet).symlink_to("busybox")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            archive.add(root, ".")
    engine.run("import", "-c", "ENV PATH=/bin", "-", name, stdin=buffer.getvalue())
    return name


def _context(folder: Path) -> None:
    """Prepare the files that the node's Dockerfile copies."""
    for path in NODE.iterdir():
        shutil.copy(path, folder)
    module = shell.run(
        ["go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/kind"], cwd=TOOLCHAIN / "go" / "kind"
    ).strip()
    shutil.copytree(Path(module) / "images" / "base" / "files", folder / "files")
    config = folder / "files" / "etc" / "containerd" / "config.toml"
    config.chmod(0o644)
    shutil.copytree(toolchain.folder("cni-plugins"), folder / "cni")
    (folder / "bin").mkdir()
    kubernetes = toolchain.folder("kubernetes")
    for name in ("kubelet", "kubeadm", "kubectl", "kube-proxy"):
        shutil.copy(kubernetes / name, folder / "bin")
    for path in toolchain.folder("containerd").iterdir():
        shutil.copy(path, folder / "bin")


def _build(engine: Engine, name: str) -> None:
    """Build the node image and preload Kubernetes' own images into it."""
    root = root_file_system(engine)
    for tool in TOOLS:
        toolchain.folder(tool)
    version = pins()["kubernetes"]["version"]
    with tempfile.TemporaryDirectory(dir=cache("build", "x").parent) as text:
        context = Path(text)
        with step("building the kind node image") as note:
            _context(context)
            arguments = ["--build-arg", f"ROOT={root}", "--build-arg", f"VERSION={version}"]
            engine.build(
                *["--target", "node", *arguments, "-t", f"{name}-bare", str(context)], note=note
            )
            images = _kubernetes_images(engine, context, root)
    with step("preloading Kubernetes' images into the node image"):
        _preload(engine, f"{name}-bare", images, name)


def _preload(engine: Engine, bare: str, images: list[str], name: str) -> None:
    """Import images into the node image's containerd and commit the result."""
    container = "coffea-shoppe-node-build"
    engine.succeeds("rm", "-f", "-v", container)
    security = ["--security-opt", "seccomp=unconfined"]
    engine.run(
        *["run", "-d", "--name", container, *security, "--entrypoint", "sleep", bare, "infinity"]
    )
    archive = cache("build", "kubernetes.tar")
    try:
        engine.run("exec", "-d", container, "containerd")
        engine.run("save", "-o", str(archive), *images)
        wait = (
            "for i in $(seq 100); do ctr version >/dev/null 2>&1 && exit 0; sleep 0.3; done; exit 1"
        )
        engine.run("exec", container, "sh", "-c", wait, what="waiting 30 s for containerd")
        importing = "ctr -n k8s.io images import --no-unpack --digests -"
        shell.run(
            [
                "sh",
                "-c",
                f'"$0" exec -i "$1" {importing} < "$2"',
                engine.program,
                container,
                archive,
            ]
        )
        engine.run("exec", container, "sh", "-c", "pkill containerd; sleep 1")
        entry = 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]'
        engine.run("commit", "--change", entry, "--change", "CMD []", container, name)
    finally:
        archive.unlink(missing_ok=True)
        engine.succeeds("rm", "-f", "-v", container)
