"""Errors as RFC 9457 problems: one shape, made from the attributes of our error classes, through whichever door."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from execution.domain.execution import JsonObject
from execution.errors import ExecutionServiceError

MEDIA_TYPE = "application/problem+json"


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


def problem_type(code: str) -> str:
    """The stable `type` of a problem, relative to wherever the service is."""
    return f"/problems/{code}"


def problem_title(code: str) -> str:
    """What the problem is, in words that do not change from case to case."""
    words = " ".join("API" if word == "api" else word for word in code.split("_"))
    return words[0].upper() + words[1:]


def _detail(error: ExecutionServiceError) -> str:
    """What a client is told; what went wrong inside is for the log only."""
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return "Something went wrong inside the service; its log says what."
    return str(error)


def invalid_field(one: Mapping[str, Any]) -> JsonObject:
    """Where and why, but never the value: it may be a secret."""
    where, *path = one["loc"]
    pointer = "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)
    return {"in": where, "pointer": f"#{pointer}", "message": one["msg"].removeprefix("Value error, ")}
