"""JSON bodies of requests to the API."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from coffea_shoppe_servicex.errors import QueryError

Body = TypeVar("Body", bound=BaseModel)


async def _parse(request: Request) -> Any:
    try:
        return await request.json()
    except (ValueError, RecursionError) as error:
        raise QueryError(f"the body is not valid JSON: {error}") from error


async def parse_object(request: Request) -> dict[str, Any]:
    """Return the body, a JSON object; raises `QueryError` for anything else."""
    body = await _parse(request)
    if not isinstance(body, dict):
        raise QueryError("the body is not a JSON object")
    return body


async def parse_model(request: Request, model: type[Body]) -> Body:
    """Return the body as a model; raises `QueryError`, which names the first wrong field."""
    return validate(await _parse(request), model)


def validate(body: Any, model: type[Body]) -> Body:
    """Return a parsed body as a model; raises `QueryError`, which names the first wrong field."""
    try:
        return model.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the body"
        raise QueryError(f"{field}: {first['msg']}") from error
