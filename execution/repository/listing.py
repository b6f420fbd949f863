"""Listing executions: filters, pages by number with a total, and pages by key that stay cheap however deep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, null, select
from sqlalchemy.ext.asyncio import AsyncEngine

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.domain.text import storable
from execution.errors import InvalidFilterError
from execution.repository.reading import translating
from execution.repository.records import execution_from_row
from execution.repository.tables import executions

MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 50
MAX_PAGE = 1_000_000_000
_HEAVY = {"parameters", "result", "progress_context"}
"""Columns a list leaves out: a page of large documents helps nobody."""


@dataclass(frozen=True, kw_only=True)
class ExecutionFilters:
    """Which executions to list; everything given must hold. Times compare with `created_at`."""

    state: ExecutionState | None = None
    kind: str | None = None
    agent_id: str | None = None
    task_id: str | None = None
    parent_id: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    @classmethod
    def from_mapping(cls, filters: Mapping[str, Any]) -> ExecutionFilters:
        """The filters of a mapping of names to values; None values do not count.

        Raises:
            InvalidFilterError: an unknown name, an unknown state, a time without zone, a text that cannot be stored.
        """
        values = {name: value for name, value in filters.items() if value is not None}
        unknown = values.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            name = min(unknown)
            raise InvalidFilterError(name, values[name], f"one of {', '.join(cls.__dataclass_fields__)}")
        return cls(**{name: _PARSERS[name](name, value) for name, value in values.items()})


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page by number, counted from 1."""

    page: int = 1
    page_size: int = DEFAULT_PAGE_SIZE

    @classmethod
    def from_mapping(cls, pagination: Mapping[str, int]) -> Page:
        """The page of a mapping with `page` and `page_size`.

        Raises:
            InvalidFilterError: an unknown name, or a number out of range.
        """
        unknown = pagination.keys() - {"page", "page_size"}
        if unknown:
            raise InvalidFilterError(min(unknown), pagination[min(unknown)], "page and page_size")
        page, size = pagination.get("page", 1), pagination.get("page_size", DEFAULT_PAGE_SIZE)
        if not isinstance(page, int) or not 1 <= page <= MAX_PAGE:
            raise InvalidFilterError("page", page, f"a whole number from 1 to {MAX_PAGE}")
        check_limit("page_size", size)
        return cls(page=page, page_size=size)


async def list_page(
    engine: AsyncEngine, tenant_id: str, filters: ExecutionFilters, page: Page
) -> tuple[list[Execution], int]:
    """One numbered page, newest first, and how many match in all."""
    query = _matching(_columns(), tenant_id, filters).order_by(executions.c.id.desc())
    query = query.limit(page.page_size).offset((page.page - 1) * page.page_size)
    count = _matching(select(func.count()), tenant_id, filters)
    with translating("Listing executions"):
        async with engine.connect() as connection:
            rows = (await connection.execute(query)).mappings().all()
            total = (await connection.execute(count)).scalar_one()
    return [_light_execution(row) for row in rows], total


async def list_after(
    engine: AsyncEngine, tenant_id: str, filters: ExecutionFilters, *, before_id: UUID | None, limit: int
) -> list[Execution]:
    """The `limit` newest executions older than `before_id` (None: from the newest on). Index: executions_list."""
    check_limit("limit", limit)
    query = _matching(_columns(), tenant_id, filters)
    if before_id is not None:
        query = query.where(executions.c.id < before_id)
    with translating("Listing executions"):
        async with engine.connect() as connection:
            rows = (await connection.execute(query.order_by(executions.c.id.desc()).limit(limit))).mappings().all()
    return [_light_execution(row) for row in rows]


async def list_cancellable(engine: AsyncEngine, tenant_id: str, filters: ExecutionFilters, *, limit: int) -> list[UUID]:
    """Those that neither have ended nor are being cancelled, newest first: `limit`, and one more if there are more."""
    check_limit("limit", limit)
    if filters == ExecutionFilters():
        # All executions of a tenant are not cancelled by an omission.
        raise InvalidFilterError("filters", {}, f"at least one of {', '.join(ExecutionFilters.__dataclass_fields__)}")
    query = _matching(select(executions.c.id), tenant_id, filters)
    query = query.where(executions.c.completed_at.is_(None), executions.c.state != ExecutionState.CANCELLING)
    with translating("Listing executions"):
        async with engine.connect() as connection:
            return list((await connection.execute(query.order_by(executions.c.id.desc()).limit(limit + 1))).scalars())


def check_limit(name: str, limit: object) -> None:
    """Refuse a page size out of range."""
    if not isinstance(limit, int) or not 1 <= limit <= MAX_PAGE_SIZE:
        raise InvalidFilterError(name, limit, f"a whole number from 1 to {MAX_PAGE_SIZE}")


def checked_moment(name: str, value: object) -> datetime:
    """A time that PostgreSQL can compare with others: one with a zone, within the years 1 to 9999 also in UTC.

    Raises:
        InvalidFilterError: it is none.
    """
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidFilterError(name, value, "a time with a time zone")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidFilterError(name, value, "a time within the years 1 to 9999") from None


def _columns() -> Select[Any]:
    return select(*(null().label(one.name) if one.name in _HEAVY else one for one in executions.c))


def _matching(query: Select[Any], tenant_id: str, filters: ExecutionFilters) -> Select[Any]:
    column = executions.c
    query = query.select_from(executions).where(column.tenant_id == tenant_id)
    for name in ("state", "kind", "agent_id", "task_id", "parent_id"):
        if (value := getattr(filters, name)) is not None:
            query = query.where(column[name] == value)
    if filters.created_after is not None:
        query = query.where(column.created_at >= filters.created_after)
    if filters.created_before is not None:
        query = query.where(column.created_at < filters.created_before)
    return query


def _light_execution(row: Mapping[str, Any]) -> Execution:
    return execution_from_row(dict(row) | {"parameters": "{}"})


def _state(name: str, value: object) -> ExecutionState:
    try:
        return ExecutionState(str(value).upper())
    except ValueError:
        raise InvalidFilterError(name, value, f"one of {', '.join(ExecutionState)}") from None


def _text(name: str, value: object) -> str:
    if isinstance(value, str) and storable(value) == value:
        return value
    raise InvalidFilterError(name, value, "a text")


def _uuid(name: str, value: object) -> UUID:
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        raise InvalidFilterError(name, value, "a UUID") from None


def _time(name: str, value: object) -> datetime:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise InvalidFilterError(name, value, "an ISO 8601 time") from None
    return checked_moment(name, value)


_PARSERS: dict[str, Callable[[str, object], Any]] = {
    "state": _state,
    "kind": _text,
    "agent_id": _text,
    "task_id": _text,
    "parent_id": _uuid,
    "created_after": _time,
    "created_before": _time,
}
