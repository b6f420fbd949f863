"""The OpenAPI document: what FastAPI knows of the routes, and every problem that each may end in."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from execution.api.documented_problems import problems_of
from execution.api.models import Problem
from execution.domain.execution import JsonObject
from execution.errors import ExecutionServiceError
from execution.problems import MEDIA_TYPE, problem_document, problem_title

_DESCRIPTION = """
Submit executions, follow them, and command them. Every change is an event of an execution's log, numbered by version.

Errors are problems (RFC 9457) with a stable `type`. Commands may name the version they were decided on (`If-Match`);
requests that change something may carry an `Idempotency-Key`.
"""
_TAGS = [
    {"name": "executions", "description": "Submit, read, delete."},
    {"name": "commands", "description": "Change the course of one execution."},
    {"name": "bulk", "description": "Many executions in one request."},
    {"name": "step jobs", "description": "Plans that are carried out step by step, and their evidence."},
    {"name": "streams", "description": "Follow changes as they happen."},
    {"name": "operations", "description": "For those who run the service."},
]
_SCHEMA = {"$ref": "#/components/schemas/Problem"}
_HEADERS: dict[int, JsonObject] = {
    HTTPStatus.UNAUTHORIZED: {
        "WWW-Authenticate": {"description": "How to authenticate.", "schema": {"type": "string"}}
    },
    HTTPStatus.FORBIDDEN: {"WWW-Authenticate": {"description": "The scope needed.", "schema": {"type": "string"}}},
    HTTPStatus.TOO_MANY_REQUESTS: {
        "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
    },
}
_FRAMEWORK_SCHEMAS = ("HTTPValidationError", "ValidationError")
"""What FastAPI would answer to a request that it refuses; ours is a problem."""


class DoorApp(FastAPI):
    """The app, with a document of its own."""

    def openapi(self) -> JsonObject:
        """The document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _document(self)
        return self.openapi_schema


def _document(app: FastAPI) -> JsonObject:
    document: JsonObject = get_openapi(
        title=app.title,
        version=version("execution-service"),
        summary="An async, event-sourced execution service.",
        description=_DESCRIPTION,
        routes=app.routes,
        tags=_TAGS,
    )
    for operations in document["paths"].values():
        for method, operation in operations.items():
            _add_problems(method, operation)
            _forget_nulls(operation)
    schemas = document["components"]["schemas"]
    for name in _FRAMEWORK_SCHEMAS:
        schemas.pop(name, None)
    schemas["Problem"] = Problem.model_json_schema()
    return document


def _add_problems(method: str, operation: JsonObject) -> None:
    responses = operation["responses"]
    if "HTTPValidationError" in str(responses.get("422")):
        del responses["422"]
    for status, examples in problems_of(method, operation).items():
        response = responses.setdefault(str(status), {"description": _titles(examples)})
        response.setdefault("content", {})[MEDIA_TYPE] = {
            "schema": _SCHEMA,
            "examples": {one.code: {"summary": problem_title(one.code), "value": _example(one)} for one in examples},
        }
        if status in _HEADERS:
            response["headers"] = _HEADERS[status]
    operation["responses"] = dict(sorted(responses.items()))


def _forget_nulls(operation: JsonObject) -> None:
    """A parameter that may be left out cannot be null: there is no way to write it."""
    for one in operation.get("parameters", ()):
        kinds = one["schema"].pop("anyOf", None)
        if kinds is None:
            continue
        said = [kind for kind in kinds if kind != {"type": "null"}]
        one["schema"] |= said[0] if len(said) == 1 else {"anyOf": said}


def _titles(examples: Sequence[ExecutionServiceError]) -> str:
    return "; ".join(problem_title(one.code) for one in examples)


def _example(error: ExecutionServiceError) -> JsonObject:
    return problem_document(error) | {
        "instance": "/v1/executions",
        "request_id": "01890000-0000-7000-8000-000000000002",
    }
