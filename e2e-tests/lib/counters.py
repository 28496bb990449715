"""What servers count for Prometheus, as an administrator reads it."""

from prometheus_client.parser import text_string_to_metric_families
from shoppe_ci.cluster import Cluster


def counts(cluster: Cluster, service: str, name: str, label: str) -> dict[str, float]:
    """Return the sums of a counter of a Service of the release, by one of its labels.

    They are read at port 9090, through Kubernetes' API.
    """
    path = f"/api/v1/namespaces/shoppe/services/shoppe-{service}:9090/proxy/metrics"
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(cluster.kubectl("get", "--raw", path)):
        for sample in family.samples:
            if sample.name == name:
                value = sample.labels[label]
                sums[value] = sums.get(value, 0) + sample.value
    return sums
