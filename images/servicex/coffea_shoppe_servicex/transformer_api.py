"""The REST API's calls for transformers: lease, renew, upload, complete, fail."""

from collections.abc import Awaitable, Callable
from typing import Any

from coffea_shoppe_identity.bodies import SENDER
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coffea_shoppe_servicex.access import TransformerAuthenticator
from coffea_shoppe_servicex.backend import Backend
from coffea_shoppe_servicex.models import Result
from coffea_shoppe_servicex.request_bodies import parse_object, validate
from coffea_shoppe_servicex.responses import EXPECTED_ERRORS, error_response

Handler = Callable[[str, dict[str, Any], Request], Response]
"""Called with the request of the transformer, '' for a shared one, and the JSON body."""


def routes(backend: Backend, transformers: TransformerAuthenticator) -> list[Route]:
    """Return the routes of transformers' calls."""

    def for_transformer(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """Wrap a handler that needs the request of the authenticated transformer."""

        async def handle(request: Request) -> Response:
            header = request.headers.get("Authorization", "")
            try:
                request_id = await run_in_threadpool(transformers.identify, header)
                request.scope[SENDER] = f"transformer {request_id}"
                body = await parse_object(request)
                return await run_in_threadpool(handler, request_id, body, request)
            except EXPECTED_ERRORS as error:
                return error_response(error)

        return handle

    def lease(request_id: str, body: dict[str, Any], _: Request) -> Response:
        # Only where there is a single user may shared transformers run users' functions.
        single_user = not backend.context.settings.auth.enabled
        leased = backend.queue.lease(
            body["transformer"],
            memory=body["memory"],
            request_id=request_id,
            any_codegen=single_user and bool(body.get("everything")),
        )
        return JSONResponse(vars(leased)) if leased else Response(status_code=204)

    def renew(request_id: str, body: dict[str, Any], request: Request) -> Response:
        file_id, attempt = request.path_params["file"], body["attempt"]
        backend.queue.renew(file_id, attempt, request_id=request_id)
        return JSONResponse({})

    def upload(request_id: str, body: dict[str, Any], request: Request) -> Response:
        file_id, attempt = request.path_params["file"], body["attempt"]
        url = backend.queue.upload_url(file_id, attempt, request_id=request_id)
        return JSONResponse({"url": url})

    def complete(request_id: str, body: dict[str, Any], request: Request) -> Response:
        file_id, attempt = request.path_params["file"], body["attempt"]
        result = validate(body, Result)
        backend.queue.complete(file_id, attempt, result, request_id=request_id)
        return JSONResponse({})

    def fail(request_id: str, body: dict[str, Any], request: Request) -> Response:
        file_id, attempt = request.path_params["file"], body.pop("attempt")
        retry = body.pop("again")
        backend.queue.fail(file_id, attempt, retry=retry, request_id=request_id, **body)
        return JSONResponse({})

    file_path = "/servicex/internal/files/{file:int}"
    return [
        Route("/servicex/internal/lease", for_transformer(lease), methods=["POST"]),
        Route(f"{file_path}/renew", for_transformer(renew), methods=["POST"]),
        Route(f"{file_path}/upload", for_transformer(upload), methods=["POST"]),
        Route(f"{file_path}/complete", for_transformer(complete), methods=["POST"]),
        Route(f"{file_path}/fail", for_transformer(fail), methods=["POST"]),
    ]
