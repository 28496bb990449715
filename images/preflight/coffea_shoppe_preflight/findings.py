"""What can be wrong in a facility: the table of symptoms, causes and remedies."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum


class Cause(Enum):
    """A cause of a broken component: its name, what users see of it, and the remedy."""

    NO_STORAGE_CLASS = (
        "storage class is missing",
        "a pod stays pending, and so does its volume claim",
        "set the component's storageClass or global.storageClass to a class that `kubectl get"
        " storageclass` lists, or mark one of them as the cluster's default; delete the claim",
    )
    CLAIM_PENDING = (
        "volume claim is pending",
        "a pod stays pending, although the storage class is there",
        "`kubectl describe pvc` has the reason: the provisioner may be away, or out of space",
    )
    VOLUME_FULL = (
        "volume is full",
        "writing fails: runs, results or logins are refused, or the pod restarts again and again",
        "raise the component's persistence.size (docs/how-to/volumes.md), or remove data",
    )
    DNS_AWAY = (
        "names are not resolved",
        "all services report that they cannot connect to any other",
        "`kubectl -n kube-system get pods -l k8s-app=kube-dns` must list ready pods",
    )
    UNKNOWN_HOST = (
        "host name does not exist",
        "connections to this address fail at once",
        "correct the address in the values, or add the name to DNS",
    )
    CONNECTION_REFUSED = (
        "connection is refused",
        "connections fail at once",
        "start a ready pod or server at this address; `kubectl get endpointslices` lists the pods",
    )
    NO_CONNECTION = (
        "no connection",
        "connections wait until they time out",
        "open the way for this address and port: firewalls, routes, and the cluster's network",
    )
    NETWORK_POLICY = (
        "NetworkPolicy may be in the way",
        "connections time out or are refused, although the pods are ready",
        "if the policy denies it, have who wrote it allow what docs/reference/connections.md lists",
    )
    HTTP_ERROR = (
        "server reports an error",
        "pages and requests show an internal error",
        "the server's log has the reason: `kubectl logs`",
    )
    WRONG_ORIGIN = (
        "origin is wrong",
        "ServiceX and users cannot read files through the cache",
        "set the cache's origin in xcache.instances, or xcache.metrics.origins, to HOST:PORT of an"
        " XRootD server that is up",
    )
    ORIGIN_CREDENTIALS = (
        "origin demands credentials",
        "files are refused that others can read with a proxy certificate or a token",
        "give the cache credentials for this origin (docs/explanation/xcache.md), or use an origin"
        " that is open to all",
    )
    IDENTITY_PROVIDER = (
        "identity provider cannot be reached",
        "nobody can log in; users who are logged in go on",
        "correct the addresses below jupyterhub.hub.config, or open the way to the provider from"
        " the hub's pod",
    )
    CERTIFICATE_EXPIRED = (
        "certificate has expired",
        "browsers warn of the page, and clients refuse to connect",
        "renew the certificate of this server, in its TLS Secret or at its owner",
    )
    CERTIFICATE_REFUSED = (
        "certificate is not trusted",
        "browsers warn of the page, and clients refuse to connect",
        "use a certificate for this host name, from an authority that the images know",
    )
    WRONG_URL = (
        "external address is wrong",
        "logins end at an error page, or at another server",
        "set oauth_callback_url, jupyterhub.ingress.hosts or"
        " global.services.jupyterhub.subdomainHost to where browsers find this hub",
    )
    PASSWORD_REFUSED = (
        "password is refused",
        "the service does not start, or its requests fail",
        "use the password of the Secret that the service reads for the database, too: restart the"
        " release's PostgreSQL, or ALTER ROLE in an external one",
    )
    CONNECTION_LIMIT = (
        "database is at its connection limit",
        "some requests fail, others do not",
        "raise max_connections, or end idle sessions: `SELECT * FROM pg_stat_activity`",
    )
    DATABASE_REFUSES = (
        "database refuses to work",
        "the service does not start, or its requests fail",
        "PostgreSQL's log has the reason: `kubectl logs`",
    )
    KEY_REFUSED = (
        "access key is refused",
        "artifacts, results or models cannot be stored",
        "delete the Secret with the keys: the operator creates new ones within a minute; for an"
        " external store, write valid keys to it",
    )
    STORE_REFUSES = (
        "store refuses objects",
        "artifacts, results or models cannot be stored",
        "the object store's log has the reason: `kubectl logs`",
    )
    SECRET_MISSING = (
        "Secret is missing",
        "a pod does not start",
        "create the Secret (docs/reference/secrets.md); the operator creates those of buckets",
    )
    CRD_MISSING = (
        "definition of a resource is missing",
        "no user gets access, and no model is served",
        "set operator.crds.create to true, or have an administrator apply the definitions"
        " (docs/how-to/clusters.md)",
    )
    CRD_OLD = (
        "definition of a resource is of an old release",
        "settings of users or models have no effect",
        "have the release that created the definition upgraded, or apply this release's definition"
        " (docs/how-to/clusters.md)",
    )
    CLOCK_SKEW = (
        "clock is wrong",
        "tokens are refused that were just issued, or S3 refuses signatures",
        "synchronise the clocks of all nodes and servers (NTP)",
    )
    QUOTA_EXCEEDED = (
        "namespace's quota is exceeded",
        "pods are missing, although nothing is pending",
        "raise the ResourceQuota, or lower the components' resources (docs/how-to/sizing.md)",
    )
    PODS_REFUSED = (
        "cluster refuses to create pods",
        "pods are missing, although nothing is pending",
        "change the policy that is named, or the component's values that violate it",
    )
    UNSCHEDULABLE = (
        "pod fits on no node",
        "a pod stays pending",
        "add a node, lower the component's resources, or correct nodeSelector and tolerations",
    )
    IMAGE_MISSING = (
        "image is missing",
        "a pod waits for its image",
        "correct the image's name and tag, global.imageRegistry, or global.imagePullSecrets",
    )
    RIGHT_MISSING = (
        "right is missing",
        "new users get no access, or their servers do not start",
        "set operator.rbac.create to true, or have an administrator apply the roles of this"
        " release (docs/how-to/clusters.md)",
    )
    OUT_OF_MEMORY = (
        "killed for memory",
        "a service restarts under load, and its requests fail meanwhile",
        "raise the container's resources.limits.memory (docs/how-to/sizing.md)",
    )
    CRASHING = (
        "container ends again and again",
        "a service is not available",
        "its log has the reason: `kubectl logs --previous`",
    )
    NOT_READY = (
        "pods are not ready",
        "a service is not available",
        "`kubectl describe pod` shows which probe fails, `kubectl logs` why",
    )
    OLD_KUBERNETES = (
        "Kubernetes is too old",
        "Helm refuses the chart",
        "upgrade the cluster to the version that the chart requires",
    )
    INSTALL_RIGHT = (
        "right to install is missing",
        "Helm stops in the middle of an installation",
        "have an administrator grant it, or install as docs/how-to/clusters.md says for the"
        " administrator of a namespace",
    )
    UPDATE_REFUSED = (
        "update does not go on",
        "pods of the former release run on, and changes have no effect",
        "`kubectl rollout status` and `kubectl describe` show why no new pod becomes ready",
    )
    API_SERVER = (
        "API server does not respond",
        "nothing is known of the release's objects",
        "let the preflight's pod reach kubernetes.default.svc: NetworkPolicies, and the network",
    )
    UNCHECKED = (
        "this may not be looked at",
        "nothing is known of it",
        "grant the right, or have an administrator run the check",
    )
    CHECK_FAILED = (
        "check failed",
        "nothing is known of it",
        "report this error: it is one of the preflight",
    )
    NO_ANSWER = (
        "check did not end in time",
        "something waits that should answer within seconds",
        "run the preflight again; if it stays, look at the component's pods and logs",
    )

    @property
    def title(self) -> str:
        """The cause in a few words."""
        return self.value[0]

    @property
    def symptom(self) -> str:
        """What users or operators see."""
        return self.value[1]

    @property
    def remedy(self) -> str:
        """What to do."""
        return self.value[2]


@dataclass(frozen=True)
class Finding:
    """A component is broken, and why."""

    component: str
    cause: Cause
    detail: str


def broken(findings: Iterable[Finding]) -> bool:
    """Return whether something is wrong, and not only unknown."""
    return any(finding.cause != Cause.UNCHECKED for finding in findings)


def verdict(
    components: Iterable[str], findings: Iterable[Finding], unread: Mapping[str, str]
) -> list[str]:
    """Return a line for each component: that it works, or each thing that is wrong with it.

    Components that only findings name follow, and then the kinds of objects that could not be
    read, with the reasons.  Without the pods nothing is said to work.
    """
    blind = any(kind.startswith("pods") for kind in unread)
    by_component: dict[str, list[Finding]] = {name: [] for name in components}
    for finding in dict.fromkeys(findings):
        by_component.setdefault(finding.component, []).append(finding)
    lines = []
    for name, causes in by_component.items():
        if not causes:
            lines.append(
                f"? {name} not checked: its pods were not read" if blind else f"✓ {name} works"
            )
        for finding in causes:
            detail = " ".join(finding.detail.split())
            cause = finding.cause
            state = "? {} not checked" if cause == Cause.UNCHECKED else "✗ {} broken"
            lines.append(f"{state.format(name)}: {cause.title}: {detail} → {cause.remedy}")
    return lines + [f"? {kind} not read: {why}" for kind, why in unread.items()]


def reference() -> str:
    """Return the reference page of all causes."""
    lines = [
        "# What the preflight finds",
        "",
        "Generated by `ci/shoppe check --fix` from coffea_shoppe_preflight.findings; do not edit.",
        "",
        "`helm test RELEASE` and `ci/shoppe doctor --cluster VALUES` name a broken component",
        "with one of these causes and its remedy ([how to run them](../how-to/preflight.md)).",
        "",
        "| symptom | cause | remedy |",
        "|---|---|---|",
    ]
    lines += [f"| {cause.symptom} | {cause.title} | {cause.remedy} |" for cause in Cause]
    return "\n".join([*lines, ""])
