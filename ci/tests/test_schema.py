from typing import Any

import jsonschema
import pytest
import yaml
from shoppe_ci import schema
from shoppe_ci.paths import CHARTS


@pytest.mark.parametrize("chart", [path.name for path in schema.charts()])
def test_defaults_are_valid(chart: str) -> None:
    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    jsonschema.validate(values, schema.build(CHARTS / chart))


def test_unknown_keys_are_refused_at_every_depth() -> None:
    built = schema.build(CHARTS / "jupyterhub")
    unknown: list[dict[str, Any]] = [
        {"hubb": {}},
        {"hub": {"dbb": {}}},
        {"hub": {"db": {"pvc": {"size": "1Gi"}}}},
    ]
    for bad in unknown:
        with pytest.raises(jsonschema.ValidationError, match=r"unexpected|was expected"):
            jsonschema.validate(bad, built)
    jsonschema.validate({"hub": {"db": {"pvc": {"storage": "2Gi"}}}}, built)


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        (
            "hub.resources.limits.memory",
            ["1Gi", "1.5Gi", "500M", 1e9, "1e9"],
            ["1 GB", "lots", "1G B"],
        ),
        ("hub.resources.requests.cpu", ["50m", "2", 0.5], ["2 cores"]),
        ("singleuser.memory.limit", ["2G", "1.5G", 2**30, None], ["2Gi", "lots"]),
        ("singleuser.storage.capacity", ["10Gi"], ["10 GB"]),
    ],
)
def test_quantities_are_checked(path: str, good: list[Any], bad: list[Any]) -> None:
    built = schema.build(CHARTS / "jupyterhub")

    def values(quantity: Any) -> Any:
        for key in reversed(path.split(".")):
            quantity = {key: quantity}
        return quantity

    for quantity in good:
        jsonschema.validate(values(quantity), built)
    for quantity in bad:
        with pytest.raises(jsonschema.ValidationError, match="does not match"):
            jsonschema.validate(values(quantity), built)


def test_a_subchart_accepts_what_helm_passes_to_it() -> None:
    values = yaml.safe_load((CHARTS / "xcache" / "values.yaml").read_text())
    values |= {"global": {"imagePullSecrets": []}, "enabled": True, "shoppe-lib": {}}
    jsonschema.validate(values, schema.build(CHARTS / "xcache"))


def test_keys_of_upstreams_charts_may_be_null_and_others_need_their_values() -> None:
    assert "auth" in schema.build(CHARTS / "mlflow")["required"]
    assert "existingSecret" not in schema.build(CHARTS / "mlflow")["required"]
    for chart in schema.OF_UPSTREAM:
        assert "required" not in schema.build(CHARTS / chart)


def test_generated_files_say_at_their_top_which_command_writes_them() -> None:
    texts = schema.generated()
    tops = {path: "\n".join(text.splitlines()[:3]) for path, text in texts.items()}
    silent = [path.name for path, top in tops.items() if schema.GENERATED not in top]
    assert texts
    assert silent == []
