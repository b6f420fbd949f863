"""Lists: their filters, and the two ways to go through them: by cursor, or by page number with a total."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Undecodable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query, Request, Response

from execution.api.answers import json_answer
from execution.api.values import Moment
from execution.domain.state import ExecutionState
from execution.presentation import Document, linked, listed_execution_document
from execution.repository.stored import StoredExecution
from execution.request_errors import InvalidFieldsError
from execution.service import ExecutionService

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
MAX_PAGE = 1_000_000


@dataclass(frozen=True)
class Filters:
    """Which executions; everything given must hold."""

    state: Annotated[ExecutionState | None, Query(description="In this state.")] = None
    kind: Annotated[str | None, Query(description="Of this kind.", max_length=100, examples=["noop"])] = None
    agent_id: Annotated[str | None, Query(description="For this agent.", max_length=200)] = None
    task_id: Annotated[str | None, Query(description="Of this task.", max_length=200)] = None
    created_after: Annotated[Moment | None, Query(description="Created at this time or later.")] = None
    created_before: Annotated[Moment | None, Query(description="Created before this time.")] = None

    def to_mapping(self) -> dict[str, Any]:
        """As the facade takes them."""
        return dict(vars(self))


@dataclass(frozen=True)
class Window:
    """Which part of the list."""

    limit: Annotated[int | None, Query(ge=1, le=MAX_LIMIT, description="Items at most; with `cursor`.")] = None
    cursor: Annotated[str | None, Query(max_length=100, description="`next_cursor` of the page before.")] = None
    page: Annotated[int | None, Query(ge=1, le=MAX_PAGE, description="Page by number, with a total.")] = None
    page_size: Annotated[int | None, Query(ge=1, le=MAX_LIMIT, description="Items a page has; with `page`.")] = None

    @property
    def is_numbered(self) -> bool:
        """Is it a page by number?

        Raises:
            InvalidFieldsError: it is that and by cursor, too.
        """
        numbered = self.page is not None or self.page_size is not None
        if numbered and (self.limit is not None or self.cursor is not None):
            message = "Pages by number (page, page_size) and by cursor (limit, cursor) do not mix"
            raise InvalidFieldsError([{"in": "query", "pointer": "#/page", "message": message}])
        return numbered


async def list_answer(request: Request, service: ExecutionService, filters: Filters, window: Window) -> Response:
    """The part of the list that was asked for."""
    if window.is_numbered:
        return await _numbered_page(request, service, filters, window)
    limit = window.limit or DEFAULT_LIMIT
    before_id = None if window.cursor is None else _read_cursor(window.cursor)
    found = await service.stored.list_older(filters.to_mapping(), before_id=before_id, limit=limit + 1)
    following = _cursor(found[limit - 1]) if len(found) > limit else None
    document = {"items": _items(found[:limit]), "next_cursor": following}
    return _answer(request, document, {"cursor": following} if following else None)


async def _numbered_page(request: Request, service: ExecutionService, filters: Filters, window: Window) -> Response:
    page, size = window.page or 1, window.page_size or DEFAULT_LIMIT
    items, total = await service.stored.list_executions(filters.to_mapping(), {"page": page, "page_size": size})
    has_more = page * size < total and len(items) == size
    document = {
        "items": _items(items),
        "next_cursor": _cursor(items[-1]) if has_more else None,
        "total": total,
        "page": page,
        "page_size": size,
    }
    return _answer(request, document, {"page": str(page + 1)} if has_more and page < MAX_PAGE else None)


def _items(executions: list[StoredExecution]) -> list[Document]:
    return [linked(listed_execution_document(one)) for one in executions]


def _answer(request: Request, document: Document, following: dict[str, str] | None) -> Response:
    headers = link_to_next(next_url(request, following)) if following else None
    return json_answer(document, headers=headers)


def next_url(request: Request, changed: dict[str, str]) -> str:
    """The same request with other parameters."""
    return f"{request.url.path}?{urlencode(dict(request.query_params) | changed)}"


def link_to_next(url: str) -> dict[str, str]:
    """The header that says where to go on (RFC 8288)."""
    return {"Link": f'<{url}>; rel="next"'}


def _cursor(last: StoredExecution) -> str:
    """Where the page after that execution begins; opaque, so that it may become something else."""
    return urlsafe_b64encode(last.id.bytes).rstrip(b"=").decode()


def _read_cursor(cursor: str) -> UUID:
    try:
        before_id = UUID(bytes=urlsafe_b64decode(cursor + "=="))
    except (Undecodable, ValueError):
        message = "Not a cursor of this service; begin again without one"
        raise InvalidFieldsError([{"in": "query", "pointer": "#/cursor", "message": message}]) from None
    return before_id
