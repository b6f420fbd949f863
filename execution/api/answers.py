"""Executions as answers: JSON, the version as their entity tag, and where to go on."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import orjson
from fastapi import Response

from execution.presentation import Document, Shown, etag, execution_document, linked


class UnfinishedAnswer(Response):
    """An answer that is not kept under an idempotency key: the same request again may do what is left."""


def execution_answer(
    execution: Shown, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """The whole execution."""
    document = linked(execution_document(execution))
    return json_answer(document, status, {"ETag": etag(execution)} | dict(headers or {}))


def json_answer(
    document: Document, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> Response:
    """A document made of what JSON can say; not validated again on its way out."""
    return Response(orjson.dumps(document), status, headers, "application/json")
