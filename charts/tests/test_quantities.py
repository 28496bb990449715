"""Quantities, numbers and digests that Kubernetes would misread or refuse are refused by name."""

import pytest
import yaml
from rendering import ALONE, CHARTS, HelmError, Manifest, merged, nested, template
from shoppe_ci import descriptions


def paths(ending: str) -> list[tuple[str, str]]:
    """Return chart and dotted path of each value whose path ends so."""
    return [
        (chart, path)
        for chart in sorted(set(ALONE) - {"jupyterhub", "dask-gateway"})
        for path, _, _ in descriptions.leaves(
            yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
        )
        if f".{path}".endswith(ending)
    ]


BAD = [
    *((*place, "2GB", "'2GB' does not match pattern") for place in paths(".memory")),
    *((*place, "10GB", "'10GB' does not match pattern") for place in paths(".size")),
    *((*place, -1, "got -1, want") for place in paths("eplicas")),
    *((*place, "abc", "'abc' does not match pattern") for place in paths(".digest")),
    *((*place, 70000, "got 70,000") for place in paths(".port")),
    ("mlflow", "resources.limits.cpu", "two", "'two' does not match pattern"),
    ("triton", "resources.limits.nvidia.com/gpu", -1, "got -1, want 0"),
    ("servicex", "transformer.scratch", "20GB", "'20GB' does not match pattern"),
    ("triton", "service.type", "Loadbalancer", "'ClusterIP', 'NodePort', 'LoadBalancer'"),
]


def test_there_are_values_of_each_kind() -> None:
    assert {len(paths(end)) > 1 for end in (".memory", ".size", "eplicas", ".digest", ".port")} == {
        True
    }


def test_bad_quantities_are_refused_by_name() -> None:
    """All of a chart are reported at once, so that a chart is rendered once."""
    for chart in {place[0] for place in BAD}:
        values = ALONE[chart]
        rows = [(path, value, named) for name, path, value, named in BAD if name == chart]
        for path, value, _ in rows:
            head, _, resource = path.partition(".limits.")
            bad = {"limits": {resource: value}} if resource else value
            values = merged(values, nested(head, bad))
        with pytest.raises(HelmError) as refused:
            template(chart, values)
        lines = str(refused.value).splitlines()
        for path, _, named in rows:
            head, _, resource = path.partition(".limits.")
            pointer = f"/{head}".replace(".", "/")
            if resource:
                pointer += f"/limits/{resource.replace('/', '~1')}"
            assert [line for line in lines if f"'{pointer}'" in line and named in line], pointer


@pytest.mark.parametrize(
    "values",
    [
        {"resources": {"limits": {"memory": "2G", "cpu": 0.5, "nvidia.com/gpu": 1}}},
        {"resources": {"limits": {"memory": 2147483648, "cpu": "1500m"}}},
        {"replicas": 0, "image": {"digest": f"sha256:{'0' * 64}"}},
    ],
)
def test_good_quantities_render(values: Manifest) -> None:
    assert template("triton", {**ALONE["triton"], **values})
