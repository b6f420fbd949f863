"""Errors as RFC 9457 problems: one shape, made from the attributes of our error classes, whatever went wrong."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import iter_route_contexts
from starlette.exceptions import HTTPException
from starlette.routing import Match

from execution.access_errors import InsufficientScopeError, InvalidApiKeyError, UnauthenticatedError
from execution.api.errors import (
    InvalidFieldsError,
    MalformedRequestError,
    MethodNotAllowedError,
    RouteNotFoundError,
)
from execution.domain.execution import JsonObject
from execution.errors import ExecutionServiceError

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
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


def problem_type(code: str) -> str:
    """The stable `type` of a problem, relative to wherever the service is."""
    return f"/problems/{code}"


def problem_title(code: str) -> str:
    """What the problem is, in words that do not change from case to case."""
    return code.replace("_", " ").capitalize()


def problem(error: ExecutionServiceError, request: Request, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to a request that ended in an error."""
    request_id = request.scope.get("state", {}).get("request_id")
    document = problem_document(error) | {"instance": request.url.path, "request_id": request_id}
    return Response(orjson.dumps(document), error.status, _headers(error) | dict(headers or {}), MEDIA_TYPE)


def problem_document(error: ExecutionServiceError) -> JsonObject:
    """What an error says of itself, whatever the request was."""
    return {
        "type": problem_type(error.code),
        "title": problem_title(error.code),
        "status": error.status,
        "detail": _detail(error),
        "code": error.code,
        "retriable": error.retriable,
    } | {name: getattr(error, name) for name in error.facts}


def _detail(error: ExecutionServiceError) -> str:
    """What a client is told; what went wrong inside is for the log only."""
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return "Something went wrong inside the service; its log says what."
    return str(error)


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


def invalid_field(one: Mapping[str, Any]) -> JsonObject:
    """Where and why, but never the value: it may be a secret."""
    where, *path = one["loc"]
    pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
    return {"in": where, "pointer": f"#{pointer}", "message": one["msg"].removeprefix("Value error, ")}


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
