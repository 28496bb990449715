import jsonschema
import pytest
from shoppe_ci import schema
from shoppe_ci.paths import CHARTS


def test_comments_belong_to_the_key_below_them() -> None:
    text = "# First.\n# Second.\na:\n  # Inner.\n  b: 1\n\n# Lost: a blank line follows.\n\nc: 2\n"
    assert schema.comments(text) == {"a": "First. Second.", "a.b": "Inner."}


@pytest.mark.parametrize("chart", [path.name for path in schema.charts()])
def test_defaults_are_valid(chart: str) -> None:
    import yaml

    values = yaml.safe_load((CHARTS / chart / "values.yaml").read_text())
    jsonschema.validate(values, schema.build(CHARTS / chart))


def test_unknown_keys_are_refused_at_every_depth() -> None:
    built = schema.build(CHARTS / "jupyterhub")
    for bad in ({"hubb": {}}, {"hub": {"dbb": {}}}, {"hub": {"db": {"pvc": {"size": "1Gi"}}}}):
        with pytest.raises(jsonschema.ValidationError, match="unexpected"):
            jsonschema.validate(bad, built)
    jsonschema.validate({"hub": {"db": {"pvc": {"storage": "2Gi"}}}}, built)


def test_a_subchart_accepts_what_helm_passes_to_it() -> None:
    values = {"global": {"imagePullSecrets": []}, "enabled": True, "shoppe-lib": {}}
    jsonschema.validate(values, schema.build(CHARTS / "xcache"))
