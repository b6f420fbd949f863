"""Whatever a request ends in, its answer is a problem (`execution.problems`), with the headers that belong to it."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Match

from execution.access_errors import InsufficientScopeError, InvalidApiKeyError, UnauthenticatedError
from execution.api.errors import MethodNotAllowedError, RouteNotFoundError
from execution.errors import ExecutionServiceError
from execution.problems import MEDIA_TYPE, invalid_field, problem_document
from execution.request_errors import InvalidFieldsError, MalformedRequestError

log = structlog.get_logger(__name__)

_WORTH_WAITING = frozenset(
    {HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT}
)
_RETRY_AFTER_SECONDS = 1
_SCHEME = 'Bearer realm="execution"'


def add_problem_handlers(app: FastAPI) -> None:
    """Whatever a request ends in, its answer is a problem."""
    app.add_exception_handler(ExecutionServiceError, _of_ours)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(Exception, _of_defect)


def problem(error: ExecutionServiceError, request: Request, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that ended in an error."""
    request_id = request.scope.get("state", {}).get("request_id")
    document = problem_document(error) | {"instance": request.url.path, "request_id": request_id}
    return Response(orjson.dumps(document), error.status, _headers(error) | dict(headers or {}), MEDIA_TYPE)


def _headers(error: ExecutionServiceError) -> dict[str, str]:
    headers: dict[str, str] = dict(getattr(error, "headers", {}))
    soon = _RETRY_AFTER_SECONDS if error.retriable and error.status in _WORTH_WAITING else None
    seconds: float | None = getattr(error, "retry_after", soon)
    if seconds is not None:
        headers["Retry-After"] = str(max(1, ceil(seconds)))
    if isinstance(error, UnauthenticatedError | InsufficientScopeError):
        headers["WWW-Authenticate"] = ", ".join([_SCHEME, *_challenge(error)])
    return headers


def _challenge(error: ExecutionServiceError) -> list[str]:
    """What RFC 6750 says of a key, in its words; of a request without one, nothing."""
    if isinstance(error, InsufficientScopeError):
        return ['error="insufficient_scope"', f'scope="{error.needed}"']
    if isinstance(error, InvalidApiKeyError):
        return ['error="invalid_token"', f'error_description="{error.problem}"']
    return []


async def _of_ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, ExecutionServiceError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("http.failed", code=error.code, path=request.url.path, error=str(error))
    return problem(error, request)


async def _of_validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = error.errors()
    unreadable = next((one for one in errors if one["type"] == "json_invalid"), None)
    if unreadable is not None:
        return problem(MalformedRequestError("The body", f"it is not JSON ({unreadable['ctx']['error']})"), request)
    return problem(InvalidFieldsError([invalid_field(one) for one in errors]), request)


async def _of_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == HTTPStatus.NOT_FOUND:
        return problem(RouteNotFoundError(path), request)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        return problem(MethodNotAllowedError(request.method, path), request, {"Allow": ", ".join(_methods(request))})
    return problem(MalformedRequestError("The request", error.detail), request, error.headers)


def _methods(request: Request) -> list[str]:
    """What is served under the path of the request. The framework would name the methods of one of its routes only."""
    scope = dict(request.scope)
    contexts = iter_route_contexts(request.app.routes)
    return sorted(
        {method for one in contexts if one.matches(scope)[0] is not Match.NONE for method in one.methods or ()}
    )


async def _of_defect(request: Request, _error: Exception) -> Response:
    # Only without `AccessLog`, which logs every defect and answers it.
    return problem(ExecutionServiceError(), request)
