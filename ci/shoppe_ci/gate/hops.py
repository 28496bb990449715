"""The services that the analysis crosses, and how each one's counters prove it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shoppe_ci.counters import Endpoint, Reading, increase

PROVED, FAILED, NOT_REACHED = "proved", "failed", "not reached"
SEEN, ABSENT = "seen", "absent"
"""In a run with a user's rights: by what the user got, and where the facility lacks a service."""


@dataclass(frozen=True)
class Counter:
    """A counter that must increase during the run."""

    what: str
    metric: str
    labels: Mapping[str, str] = field(default_factory=dict)
    least: str = "one"
    """The quantity of `required` by which it must increase."""

    @property
    def selector(self) -> str:
        """Return the counter as Prometheus' queries select it."""
        labels = ",".join(f'{name}="{value}"' for name, value in self.labels.items())
        return f"{self.metric}{{{labels}}}" if labels else self.metric


@dataclass(frozen=True)
class Sign:
    """A metric that shows a fault of a service, and its description."""

    metric: str
    labels: Mapping[str, str]
    what: str
    bad: float | None = None
    """The value of a gauge that is bad; None: any increase of a counter is."""


@dataclass(frozen=True)
class Hop:
    """A service that the analysis crosses."""

    name: str
    title: str
    endpoint: Endpoint
    order: int
    """When the notebook needs it first."""
    counters: tuple[Counter, ...]
    signs: tuple[Sign, ...] = ()


HOPS = (
    Hop(
        "hub",
        "JupyterHub",
        Endpoint("hub", 8081),
        1,
        (
            Counter(
                "servers started",
                "jupyterhub_server_spawn_duration_seconds_count",
                {"status": "success"},
            ),
        ),
    ),
    Hop(
        "servicex",
        "ServiceX",
        Endpoint("servicex", 5000, shared=True),
        6,
        (
            Counter(
                "transform requests completed",
                "servicex_requests_total",
                {"status": "complete"},
                "samples",
            ),
            Counter("files delivered", "servicex_files_total", {"status": "done"}, "files"),
        ),
    ),
    Hop(
        "xcache",
        "XCache",
        Endpoint("xcache", 9931),
        3,
        (
            Counter("files read", "xcache_file_accesses_total", {}, "files"),
            Counter("bytes from the origin", "xcache_origin_bytes_total"),
        ),
        (Sign("xcache_origin_up", {}, "an origin does not respond", bad=0),),
    ),
    Hop(
        "dask",
        "Dask",
        Endpoint("gateway", 9090),
        2,
        (Counter("clusters created", "shoppe_gateway_clusters_total", {"event": "created"}),),
    ),
    Hop(
        "triton",
        "Triton",
        Endpoint("triton", 9090),
        5,
        (
            Counter(
                "inference requests",
                "shoppe_triton_requests_total",
                {"protocol": "grpc"},
                "inferences",
            ),
        ),
    ),
    Hop(
        "mlflow",
        "MLflow",
        Endpoint("mlflow", 9090),
        4,
        (
            Counter(
                "runs created",
                "shoppe_mlflow_requests_total",
                {"operation": "run_created", "status": "2xx"},
                "runs",
            ),
            Counter(
                "artifacts stored",
                "shoppe_mlflow_requests_total",
                {"operation": "artifact_stored", "status": "2xx"},
            ),
        ),
    ),
    Hop(
        "objectstore",
        "object store",
        Endpoint("objectstore", 9090),
        7,
        (
            Counter(
                "objects stored",
                "objectstore_requests_total",
                {"action": "PutObject", "status": "200"},
                "files",
            ),
        ),
        (
            # Requests to read are refused all the time: clients ask what they may.
            Sign(
                "objectstore_requests_total",
                {"action": "PutObject", "status": "403"},
                "it refused to store objects (403)",
            ),
        ),
    ),
)


@dataclass(frozen=True)
class Evidence:
    """A counter's increase, and what the run requires."""

    what: str
    selector: str
    increase: float
    required: float


@dataclass
class Proof:
    """What is known about a hop after the run."""

    name: str
    title: str
    state: str
    reason: str = ""
    evidence: list[Evidence] = field(default_factory=list)
    suspect: bool = False
    """The service itself shows that something is wrong with it."""

    @property
    def begun(self) -> bool:
        """Return whether the run has used the service for each of its counters."""
        return bool(self.evidence) and all(entry.increase > 0 for entry in self.evidence)


def prove(
    hop: Hop,
    before: Reading | str,
    after: Reading | str,
    required: Mapping[str, float],
    *,
    finished: bool,
) -> Proof:
    """Compare a hop's counters before and after the run.

    A reading that failed is its reason.  A hop that counted too little has failed if the run
    `finished`; in a run that stopped it may just not have been reached.
    """
    if isinstance(after, str) or isinstance(before, str):
        when, cause = ("after", after) if isinstance(after, str) else ("before", before)
        reason = f"its counters cannot be read {when} the run: {cause}"
        return Proof(hop.name, hop.title, FAILED, reason, suspect=True)
    evidence = [
        Evidence(
            counter.what,
            counter.selector,
            increase(before, after, counter.metric, counter.labels),
            required[counter.least],
        )
        for counter in hop.counters
    ]
    missing = [entry for entry in evidence if entry.increase < entry.required]
    signs = [sign for sign in hop.signs if _shows(sign, before, after)]
    if not missing and (finished or all(sign.bad is not None for sign in signs)):
        # What others see of the service, or did, does not count against this run.
        return Proof(hop.name, hop.title, PROVED, evidence=evidence)
    counted = ", ".join(
        f"{entry.what}: {entry.increase:g} of at least {entry.required:g}" for entry in missing
    )
    reason = "; ".join(filter(None, [counted, ", ".join(sign.what for sign in signs)]))
    state = FAILED if finished or signs else NOT_REACHED
    return Proof(hop.name, hop.title, state, reason, evidence, suspect=bool(signs))


def _shows(sign: Sign, before: Reading, after: Reading) -> bool:
    """Return whether a metric shows a fault."""
    if sign.bad is None:
        return increase(before, after, sign.metric, sign.labels) > 0
    values = [
        value
        for by_series in after.values()
        for (name, labels), value in by_series.items()
        if name == sign.metric and set(sign.labels.items()) <= labels
    ]
    return sign.bad in values


def broken(proofs: Sequence[Proof], *, finished: bool) -> Proof | None:
    """Return the hop that a failed run is due to, and mark it as failed.

    It is a service that itself shows a fault, else the first one that the run needed and that
    counted too little.  A run that stopped has used the services before for a part of its work, so
    that these come last.  None: all hops are proved.
    """
    order = {hop.name: hop.order for hop in HOPS}
    missing = sorted(
        (proof for proof in proofs if proof.state != PROVED),
        key=lambda proof: (
            not proof.suspect,
            proof.begun and not finished,
            order[proof.name],
        ),
    )
    if not missing:
        return None
    first = missing[0]
    if not finished:
        first.state = FAILED
    return first
