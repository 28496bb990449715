"""Base of all models in Kubernetes' spelling, and their structural schemas."""

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel


class Model(BaseModel):
    """A part of a resource or of the settings, in camelCase; unknown keys are refused."""

    model_config = ConfigDict(
        extra="forbid",
        populate_by_name=True,
        alias_generator=to_camel,
        use_attribute_docstrings=True,
    )


def _structural(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema as Kubernetes takes it: no references, no titles, closed defaults."""
    if "$ref" in schema:
        return _structural(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    dropped = ("title", "additionalProperties", "$defs")
    structural = {key: value for key, value in schema.items() if key not in dropped}
    # An optional field is `anyOf` with null in Pydantic; in a resource it is left out.
    if "anyOf" in structural:
        kinds = structural.pop("anyOf")
        structural |= next(kind for kind in kinds if kind.get("type") != "null")
    # OpenAPI 3.0 has no numeric exclusiveMinimum.
    if "exclusiveMinimum" in structural:
        structural |= {"minimum": structural["exclusiveMinimum"], "exclusiveMinimum": True}
    if structural.get("default", ()) is None or isinstance(structural.get("default"), dict):
        del structural["default"]
    if "properties" in structural:
        structural["properties"] = {
            key: _structural(value, definitions) for key, value in structural["properties"].items()
        }
    if "items" in structural:
        structural["items"] = _structural(structural["items"], definitions)
    return structural


def first_problem(error: ValidationError) -> str:
    """Return the path of the first invalid field, and why it is invalid."""
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"


def schema_of(model: type[Model]) -> dict[str, Any]:
    """Return a model's structural schema; its fields' docstrings are the descriptions."""
    schema = model.model_json_schema(by_alias=True)
    return _structural(schema, schema.get("$defs", {}))
