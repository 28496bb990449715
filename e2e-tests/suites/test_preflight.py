"""The preflight: silent on a facility that works, and each injected fault is named."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from coffea_shoppe_preflight.before_install import bytes_or_cores
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from lib.components import without
from lib.enforcement import enforced
from shoppe_ci import images, origin, release, toolchain
from shoppe_ci.cluster import Cluster
from shoppe_ci.engine import Engine
from shoppe_ci.testing import with_values
from shoppe_ci.wait import eventually

RELEASE = release.RELEASE
NAMESPACE = release.NAMESPACE
BOUND_S = 300
"""What `helm test` may take."""
PSQL = ("psql", "-h", "/run/postgresql", "-U", "postgres", "-Atc")

pytestmark = pytest.mark.alone
later = pytest.mark.part("preflight")
"""Not in the core suite."""


def preflight(cluster: Cluster, release_name: str = RELEASE) -> tuple[int, list[str]]:
    """Run `helm test`; return its exit status and the lines of the preflight."""
    done = subprocess.run(
        [
            *(str(toolchain.program("helm")), "test", release_name, "--namespace", NAMESPACE),
            *("--logs", "--timeout", f"{BOUND_S}s"),
        ],
        env=cluster.environment(),
        capture_output=True,
        text=True,
        timeout=BOUND_S + 30,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line[:1] in ("✓", "✗", "?")]
    assert lines, f"{done.stdout}\n{done.stderr}"
    return done.returncode, lines


def assert_named(cluster: Cluster, component: str, cause: str) -> list[str]:
    """The preflight fails and names the component with the cause; return its other findings."""
    status, lines = preflight(cluster)
    assert status != 0
    named = f"✗ {component} broken: {cause}"
    assert any(line.startswith(named) for line in lines), lines
    return [line for line in lines if line[0] != "✓" and not line.startswith(named)]


@contextmanager
def applied(cluster: Cluster, manifest: dict[str, Any]) -> Iterator[None]:
    """Create an object; it is deleted afterwards."""
    metadata = manifest["metadata"]
    cluster.apply(manifest)
    try:
        yield
    finally:
        cluster.kubectl(
            *("-n", metadata["namespace"], "delete", manifest["kind"], metadata["name"]),
            "--ignore-not-found",
        )


@contextmanager
def changed(cluster: Cluster, kind: str, name: str, patch: dict[str, Any] | None) -> Iterator[None]:
    """Patch an object, or delete it without a patch; it is as before afterwards."""
    before = cluster.get(kind, name, "-n", NAMESPACE)
    for key in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
        before["metadata"].pop(key, None)
    where = ("-n", NAMESPACE)
    if patch is None:
        cluster.kubectl(*where, "delete", kind, name, "--wait=true")
    else:
        cluster.kubectl(*where, "patch", kind, name, "--type=merge", "-p", json.dumps(patch))
    try:
        yield
    finally:
        cluster.kubectl(*where, "delete", kind, name, "--wait=true", "--ignore-not-found")
        cluster.apply(before)


def claim(name: str, **spec: Any) -> dict[str, Any]:
    """Return a volume claim that is mlflow's by its labels."""
    labels = {
        "app.kubernetes.io/name": "mlflow",
        "app.kubernetes.io/instance": RELEASE,
        "app.kubernetes.io/part-of": "coffea-shoppe",
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "64Mi"}},
            **spec,
        },
    }


def test_a_facility_that_works_and_a_missing_storage_class(facility: Cluster) -> None:
    """Core story: one run finds nothing, the next one finds the fault, and only this."""
    status, lines = preflight(facility)
    assert status == 0, lines
    assert {line[0] for line in lines} == {"✓"}, lines
    with applied(facility, claim("preflight-no-class", storageClassName="no-such-class")):
        status, lines = preflight(facility)
    assert status != 0
    broken = [line for line in lines if line[0] != "✓"]
    assert [line.split(":")[:2] for line in broken] == [
        ["✗ mlflow broken", " storage class is missing"]
    ]


@later
def test_an_operator_without_a_right(facility: Cluster) -> None:
    """The core suite compares the API server's refusals with what the roles grant: not there."""
    name = f"{RELEASE}-operator-users"
    rules = facility.get("role", name, "-n", NAMESPACE)["rules"]
    less = [rule for rule in rules if "pods" not in rule["resources"]]
    facility.kubectl(
        *("-n", NAMESPACE, "patch", "role", name, "--type=merge"),
        *("-p", json.dumps({"rules": less})),
    )
    try:
        assert_named(facility, "operator", "right is missing")
    finally:
        facility.kubectl(
            *("-n", NAMESPACE, "patch", "role", name, "--type=merge"),
            *("-p", json.dumps({"rules": rules})),
        )


def test_a_pending_claim(facility: Cluster) -> None:
    """Core story.  The class waits for a pod that uses the claim, and there is none."""
    with applied(facility, claim("preflight-pending")):
        assert_named(facility, "mlflow", "volume claim is pending")


@later
def test_a_full_volume(facility: Cluster) -> None:
    """The store's folder is a file system of 64 MiB that is full."""
    volume = {"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}}
    values = {"objectstore": {"extraVolumes": [volume]}}
    with with_values(facility, values):
        run = ("-n", NAMESPACE, "exec", f"{RELEASE}-objectstore-0", "-c", "objectstore", "--")
        look = (*run, "find", "/data", "-name", "service-mlflow")
        eventually(lambda: facility.kubectl(*look).strip(), "the bucket is there", timeout=180)
        fill = "dd if=/dev/zero of=/data/fill bs=1M count=64 || true"
        facility.kubectl(*run, "sh", "-c", fill)
        assert_named(facility, "objectstore", "volume is full")


@later
def test_dns_that_is_away(facility: Cluster) -> None:
    scale = ("-n", "kube-system", "scale", "deployment/coredns")
    replicas = facility.get("deployment", "coredns", "-n", "kube-system")["spec"]["replicas"]
    facility.kubectl(*scale, "--replicas=0")
    # A pod that is ending responds for some seconds.
    gone = ("wait", "--for=delete", "pod", "-l", "k8s-app=kube-dns", "--timeout=90s")
    facility.kubectl("-n", "kube-system", *gone)
    try:
        assert_named(facility, "dns", "names are not resolved")
    finally:
        facility.kubectl(*scale, f"--replicas={replicas}")
        facility.kubectl("-n", "kube-system", "rollout", "status", "deployment/coredns")


@later
@pytest.mark.parametrize(
    ("values", "component", "cause"),
    [
        (
            {"xcache": {"metrics": {"origins": ["no-such-origin.invalid:1094"]}}},
            "xcache",
            "origin is wrong",
        ),
        (
            {
                "jupyterhub": {
                    "hub": {
                        "config": {
                            "GenericOAuthenticator": {"token_url": "https://idp.invalid/token"}
                        }
                    }
                }
            },
            "identity provider",
            "identity provider cannot be reached",
        ),
        (
            {
                "jupyterhub": {
                    "hub": {
                        "config": {
                            "GenericOAuthenticator": {
                                "oauth_callback_url": "http://elsewhere.invalid/hub/oauth_callback"
                            }
                        }
                    }
                }
            },
            "external address",
            "external address is wrong",
        ),
    ],
    ids=["wrong-origin", "identity-provider", "external-address"],
)
def test_a_wrong_address(
    facility: Cluster, values: dict[str, Any], component: str, cause: str
) -> None:
    with with_values(facility, values):
        assert_named(facility, component, cause)


@later
def test_a_wrong_database_password(facility: Cluster) -> None:
    """The role's password is another than the Secret's."""
    pod = f"{RELEASE}-postgresql-0"
    password = "SELECT rolpassword FROM pg_authid WHERE rolname = 'mlflow'"  # noqa: S105
    run = ("-n", NAMESPACE, "exec", pod, "-c", "postgresql", "--", *PSQL)
    before = facility.kubectl(*run, password).strip()
    facility.kubectl(*run, "ALTER ROLE mlflow PASSWORD 'another'")
    try:
        assert_named(facility, "postgresql", "password is refused")
    finally:
        # A password that is a verifier is stored as it is.
        facility.kubectl(*run, f"ALTER ROLE mlflow PASSWORD '{before}'")


@later
def test_a_database_at_its_connection_limit(facility: Cluster) -> None:
    pod = f"{RELEASE}-postgresql-0"
    run = ("-n", NAMESPACE, "exec", pod, "-c", "postgresql", "--", *PSQL)
    facility.kubectl(*run, "ALTER ROLE mlflow CONNECTION LIMIT 0")
    try:
        assert_named(facility, "postgresql", "database is at its connection limit")
    finally:
        facility.kubectl(*run, "ALTER ROLE mlflow CONNECTION LIMIT -1")


@later
def test_a_revoked_s3_key(facility: Cluster) -> None:
    """The service's Secret has a key that the store does not know; the operator would mend it."""
    name = f"{RELEASE}-mlflow-s3"
    wrong = "[default]\naws_access_key_id = service-mlflow\naws_secret_access_key = wrong\n"
    with (
        without(facility, "operator"),
        changed(facility, "secret", name, {"stringData": {"aws-credentials": wrong}}),
    ):
        assert_named(facility, "objectstore", "access key is refused")
        assert_named(facility, "operator", "pods are not ready")


@later
def test_an_old_definition(facility: Cluster) -> None:
    """It lacks a field that this release has; others' data are kept."""
    name = "servedmodels.coffea-shoppe.dev"
    path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/model"
    patch = ("patch", "customresourcedefinition", name, "--type=json", "-p")
    place: Any = facility.get("customresourcedefinition", name)
    for key in path.strip("/").split("/"):
        place = place[int(key)] if isinstance(place, list) else place[key]
    facility.kubectl(*patch, json.dumps([{"op": "remove", "path": path}]))
    try:
        assert_named(facility, "operator", "definition of a resource is of an old release")
    finally:
        facility.kubectl(*patch, json.dumps([{"op": "add", "path": path, "value": place}]))


@later
def test_a_missing_definition(facility: Cluster) -> None:
    name = "servedmodels.coffea-shoppe.dev"
    with changed(facility, "customresourcedefinition", name, None):
        assert_named(facility, "operator", "definition of a resource is missing")
    # The operator watches models of the definition that is gone.
    facility.kubectl("-n", NAMESPACE, "rollout", "restart", f"deployment/{RELEASE}-operator")
    release.wait_ready(facility)


@later
def test_a_signer_whose_clock_is_moved(facility: Cluster) -> None:
    """Python in the facility API's pod reads a clock that is ten minutes ahead."""
    program = "import time\nreal = time.time\ntime.time = lambda: real() + 600\n"
    clock = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "preflight-clock", "namespace": NAMESPACE},
        "data": {"sitecustomize.py": program},
    }
    values = {
        "operator": {
            "api": {
                "extraEnv": {"PYTHONPATH": "/clock"},
                "extraVolumes": [{"name": "clock", "configMap": {"name": "preflight-clock"}}],
                "extraVolumeMounts": [{"name": "clock", "mountPath": "/clock"}],
            }
        }
    }
    with applied(facility, clock), with_values(facility, values):
        assert_named(facility, "operator", "clock is wrong")


@later
def test_a_network_policy_in_the_way(facility: Cluster, engine: Engine) -> None:
    """Somebody's policy lets nobody in; policies add up, so the facility's own is away."""
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "preflight-deny", "namespace": NAMESPACE},
        "spec": {
            "podSelector": {"matchLabels": {"app.kubernetes.io/component": "mlflow"}},
            "policyTypes": ["Ingress"],
            "ingress": [],
        },
    }
    with (
        changed(facility, "networkpolicy", f"{RELEASE}-mlflow", None),
        applied(facility, policy),
        enforced(engine, facility),
    ):
        others = assert_named(facility, "mlflow", "NetworkPolicy may be in the way")
    assert others == [], "the facility's own policies let the preflight pass"


@later
def test_an_exceeded_quota(facility: Cluster) -> None:
    """There is room for the preflight's pod, but not for mlflow's."""
    quota: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "preflight-small", "namespace": NAMESPACE},
        "spec": {"hard": {"requests.cpu": "1000"}},
    }

    def used() -> str:
        status = facility.get("resourcequota", "preflight-small", "-n", NAMESPACE)["status"]
        return str(status.get("used", {}).get("requests.cpu", ""))

    scale = ("-n", NAMESPACE, "scale", f"deployment/{RELEASE}-mlflow")
    with applied(facility, quota):
        cores = bytes_or_cores(eventually(used, "the quota is measured", timeout=60))
        quota["spec"]["hard"]["requests.cpu"] = f"{cores * 1000 + 8:.0f}m"
        facility.apply(quota)
        facility.kubectl(*scale, "--replicas=2")
        try:
            assert_named(facility, "mlflow", "namespace's quota is exceeded")
        finally:
            facility.kubectl(*scale, "--replicas=1")
    release.wait_ready(facility)


@contextmanager
def broken_deployment(cluster: Cluster, container: dict[str, Any]) -> Iterator[None]:
    """Change the first container of mlflow's Deployment, without waiting for its pod."""
    name = f"{RELEASE}-mlflow"
    before = cluster.get("deployment", name, "-n", NAMESPACE)["spec"]["template"]["spec"]
    patch = [
        {"op": "add", "path": f"/spec/template/spec/containers/0/{key}", "value": value}
        for key, value in container.items()
    ]
    words = ("-n", NAMESPACE, "patch", "deployment", name, "--type=json", "-p")
    cluster.kubectl(*words, json.dumps(patch))
    try:
        yield
    finally:
        restored = [{"op": "replace", "path": "/spec/template/spec", "value": before}]
        cluster.kubectl(*words, json.dumps(restored))
        release.wait_ready(cluster)


def waiting_for(cluster: Cluster, reasons: set[str]) -> bool:
    """Return whether a container of mlflow is, or was, in such a state."""
    selector = "app.kubernetes.io/component=mlflow"
    for pod in cluster.get("pods", "-n", NAMESPACE, "-l", selector)["items"]:
        for status in pod["status"].get("containerStatuses", ()):
            for state in (status.get("state", {}), status.get("lastState", {})):
                if any(each.get("reason") in reasons for each in state.values()):
                    return True
    return False


@later
def test_a_missing_image(facility: Cluster) -> None:
    reasons = {"ImagePullBackOff", "ErrImagePull"}
    with broken_deployment(facility, {"image": "ghcr.io/coffea-shoppe/mlflow:no-such-tag"}):
        eventually(lambda: waiting_for(facility, reasons), "the image is missing", timeout=120)
        assert_named(facility, "mlflow", "image is missing")


@later
def test_a_pod_killed_for_memory(facility: Cluster) -> None:
    greedy = "data = bytearray(); [data.extend(bytes(1 << 22)) for _ in range(1000)]"
    container = {
        "command": ["python", "-c", greedy],
        "resources": {"limits": {"memory": "64Mi"}, "requests": {"memory": "32Mi", "cpu": "10m"}},
    }
    with broken_deployment(facility, container):
        eventually(lambda: waiting_for(facility, {"OOMKilled"}), "it is killed", timeout=120)
        assert_named(facility, "mlflow", "killed for memory")


@later
def test_an_origin_that_is_away(data_origin: Cluster) -> None:
    """The origin's name is resolved, and nothing is there."""
    address = origin.ADDRESS.removeprefix("root://")
    with with_values(data_origin, {"xcache": {"metrics": {"origins": [address]}}}):
        origin.scale(data_origin, 0)
        try:
            assert_named(data_origin, "xcache", "origin is wrong")
        finally:
            origin.scale(data_origin, 1)


@later
def test_an_origin_that_demands_credentials(data_origin: Cluster) -> None:
    """An XRootD server whose folders are for a user who has proved who it is."""
    name = "origin-closed"
    kept = ("ConfigMap", "Service", "Deployment")
    manifests = [
        manifest
        for manifest in origin.manifests(images.reference("xcache"), name)
        if manifest["kind"] in kept
    ]
    closed = "ofs.authorize 1\nacc.authdb /etc/origin/authdb\n"
    manifests[0]["data"]["origin.cfg"] += closed
    manifests[0]["data"]["authdb"] = "u somebody / lr\n"
    data_origin.apply(*manifests)
    try:
        origin.scale(data_origin, 1, name=name)
        address = origin.address(name).removeprefix("root://")
        with with_values(data_origin, {"xcache": {"metrics": {"origins": [address]}}}):
            assert_named(data_origin, "xcache", "origin demands credentials")
    finally:
        for kind in kept:
            data_origin.kubectl("-n", origin.NAMESPACE, "delete", kind, name)


SERVER = """
import http.server, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("/tls/server.pem")
server = http.server.HTTPServer(("", 8443), http.server.SimpleHTTPRequestHandler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""


def expired_certificate(host: str) -> str:
    """Return a certificate that was valid until yesterday, and its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    end = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(end - timedelta(days=90)).not_valid_after(end)
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return (private + signed.public_bytes(serialization.Encoding.PEM)).decode()


@later
def test_an_expired_certificate(facility: Cluster) -> None:
    """The identity provider's; the preflight trusts it, but for its age."""
    name, port = "preflight-tls", 8443
    host = f"{name}.{NAMESPACE}"
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {"app": name}}
    hub = facility.get("pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=hub")
    template = hub["items"][0]["spec"]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata,
        "stringData": {"server.pem": expired_certificate(host)},
    }
    volume = {"name": "tls", "secret": {"secretName": name}}
    mount = {"name": "tls", "mountPath": "/tls"}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "securityContext": template["securityContext"],
            "containers": [
                {
                    "name": "server",
                    "image": template["containers"][0]["image"],
                    "command": ["python", "-c", SERVER],
                    "securityContext": template["containers"][0]["securityContext"],
                    "volumeMounts": [mount],
                    "readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1},
                }
            ],
            "volumes": [volume],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    }
    config = {"GenericOAuthenticator": {"token_url": f"https://{host}:{port}/token"}}
    values = {
        "jupyterhub": {"hub": {"config": config}},
        "preflight": {
            "extraEnv": {"REQUESTS_CA_BUNDLE": "/tls/server.pem"},
            "extraVolumes": [volume],
            "extraVolumeMounts": [mount],
        },
    }
    with applied(facility, secret), applied(facility, pod), applied(facility, service):
        ready = ("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
        facility.kubectl("-n", NAMESPACE, *ready)
        with with_values(facility, values):
            assert_named(facility, "identity provider", "certificate has expired")
