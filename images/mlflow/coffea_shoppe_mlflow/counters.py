"""Counters of MLflow's requests by operation and status, for Prometheus.

With PROMETHEUS_MULTIPROC_DIR each process of the server writes its own file in that folder, and
`exporter` serves the sums.
"""

from coffea_shoppe_identity.bodies import Application, Message, Receive, Scope, Send
from prometheus_client import Counter

from coffea_shoppe_mlflow.endpoints import OPERATIONS, OTHER, operation

REQUESTS = Counter(
    "shoppe_mlflow_requests",
    "Requests by operation and by the status of the response.",
    ["operation", "status"],
)
ABORTED = "aborted"
"""The status of a response that began and was not sent to its end."""
STATUSES = ("2xx", "3xx", "4xx", "5xx", ABORTED)
PROBED = "/health"
"""The path of the kubelet's probes, which do not count."""

for _name in (*OPERATIONS, OTHER):
    for _status in STATUSES:
        REQUESTS.labels(_name, _status)  # exported from the start, as zero


class Counters:
    """Middleware: counts each request once its response has ended."""

    def __init__(self, application: Application) -> None:
        self.application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["path"] == PROBED:
            await self.application(scope, receive, send)
            return
        status, complete = 0, False

        async def send_noted(message: Message) -> None:
            nonlocal status, complete
            status = message.get("status", status)
            await send(message)
            complete = message["type"] == "http.response.body" and not message.get("more_body")

        try:
            await self.application(scope, receive, send_noted)
        finally:
            # Without a response, the server around this middleware sends 500.
            kind = f"{(status or 500) // 100}xx" if complete or not status else ABORTED
            REQUESTS.labels(operation(scope["method"], scope["path"]), kind).inc()
