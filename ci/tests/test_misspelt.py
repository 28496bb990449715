import re
from typing import Any

import jsonschema
import pytest
from shoppe_ci import misspelt

KEYS = ["nodeSelector", "podLabels", "podAnnotations", "size", "url", "storageClass"]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("nodeSelecter", "nodeSelector"),
        ("nodeselector", "nodeSelector"),
        ("node_selector", "nodeSelector"),
        ("nodeSelectors", "nodeSelector"),
        ("NodeSelector", "nodeSelector"),
        ("storageclass", "storageClass"),
        ("storageClassName", "storageClass"),
        ("sise", "size"),
        ("sizes", "size"),
        ("podLables", "podLabels"),
    ],
)
def test_a_misspelt_key_is_near_one_key(name: str, key: str) -> None:
    assert [other for other in KEYS if re.search(misspelt.near_pattern(other), name)] == [key]


@pytest.mark.parametrize("name", ["tolerations", "zone", "affinity", "labels"])
def test_another_word_is_near_none(name: str) -> None:
    assert [key for key in KEYS if re.search(misspelt.near_pattern(key), name)] == []


def test_the_message_names_the_nearest_key() -> None:
    closed = {"type": "object", "properties": {key: {} for key in KEYS}}
    schema = misspelt.with_names({"properties": {"a": {**closed, "additionalProperties": False}}})
    with pytest.raises(jsonschema.ValidationError) as refused:
        jsonschema.validate({"a": {"nodeSelecter": {}}}, schema)
    assert "nodeSelector" in str(refused.value)
    jsonschema.validate({"a": {key: {} for key in KEYS}}, schema)


def test_keys_that_are_near_one_another_are_all_accepted() -> None:
    values: dict[str, Any] = {"minReplicas": 1, "maxReplicas": 2, "mixReplicas": 3}
    properties: dict[str, Any] = {key: {} for key in values}
    closed = {"properties": properties, "additionalProperties": False}
    jsonschema.validate(values, misspelt.with_names(closed))


def test_an_open_map_takes_any_name() -> None:
    assert misspelt.with_names({"properties": {"nodeSelector": {}}}) == {
        "properties": {"nodeSelector": {}}
    }
