"""Listing executions: filters, pages by number with a total, and pages by key that stay cheap however deep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache, partial
from operator import eq, ge, lt, ne
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Select, bindparam, func, select
from sqlalchemy.dialects import registry

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.domain.text import storable
from execution.errors import InvalidFilterError
from execution.repository.connections import DRIVER_ERRORS
from execution.repository.reading import translated
from execution.repository.records import execution_from_row
from execution.repository.stored import STORED_COLUMNS
from execution.repository.tables import executions

MAX_PAGE_SIZE = 1000
DEFAULT_PAGE_SIZE = 50
MAX_PAGE = 1_000_000_000
_NO_DOCUMENTS = {"parameters": "{}", "result": None, "progress_context": None}
"""Columns a list leaves out: a page of large documents helps nobody."""


class What(Enum):
    """What is asked of the executions that match."""

    SHOWN = "shown"
    """What lists show (`stored.py`)."""
    WITHOUT_DOCUMENTS = "without documents"
    COUNT = "count"
    NOT_ENDED = "not ended"

    def query(self) -> Select[Any]:
        """All of it, without conditions of the asker."""
        column = executions.c
        if self is What.SHOWN:
            return select(*(column[name] for name in STORED_COLUMNS))
        if self is What.WITHOUT_DOCUMENTS:
            return select(*(one for one in column if one.name not in _NO_DOCUMENTS))
        if self is What.COUNT:
            return select(func.count())
        return select(column.id).where(column.completed_at.is_(None))


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

    def given(self) -> dict[str, Any]:
        """Those that are given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


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
    pool: asyncpg.Pool, wanted: What, tenant_id: str, filters: ExecutionFilters, page: Page
) -> tuple[list[asyncpg.Record], int]:
    """One numbered page, newest first, and how many match in all."""
    matching = {"tenant_id": tenant_id} | filters.given()
    window = {"limit": page.page_size, "offset": (page.page - 1) * page.page_size}
    rows = await _fetch(pool, wanted, matching | window)
    ((total,),) = await _fetch(pool, What.COUNT, matching)
    return rows, total


async def list_after(
    pool: asyncpg.Pool, wanted: What, tenant_id: str, filters: ExecutionFilters, *, before_id: UUID | None, limit: int
) -> list[asyncpg.Record]:
    """The `limit` newest executions older than `before_id` (None: from the newest on). Index: executions_list."""
    check_limit("limit", limit)
    after = {} if before_id is None else {"before_id": before_id}
    return await _fetch(pool, wanted, {"tenant_id": tenant_id} | filters.given() | after | {"limit": limit})


async def list_cancellable(pool: asyncpg.Pool, tenant_id: str, filters: ExecutionFilters, *, limit: int) -> list[UUID]:
    """Those that neither have ended nor are being cancelled, newest first: `limit`, and one more if there are more."""
    check_limit("limit", limit)
    if filters == ExecutionFilters():
        # All executions of a tenant are not cancelled by an omission.
        raise InvalidFilterError("filters", {}, f"at least one of {', '.join(ExecutionFilters.__dataclass_fields__)}")
    values = {"tenant_id": tenant_id, "other_than": ExecutionState.CANCELLING} | filters.given() | {"limit": limit + 1}
    return [row["id"] for row in await _fetch(pool, What.NOT_ENDED, values)]


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
        given = str(value) if isinstance(value, datetime) else value
        raise InvalidFilterError(name, given, "a time with a time zone, such as a trailing Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise InvalidFilterError(name, value, "a time within the years 1 to 9999") from None


async def _fetch(pool: asyncpg.Pool, what: What, values: Mapping[str, Any]) -> list[asyncpg.Record]:
    sql, names = listing_statement(what, tuple(values))
    try:
        rows: list[asyncpg.Record] = await pool.fetch(sql, *(values[name] for name in names))
    except DRIVER_ERRORS as error:
        raise translated("Listing executions", error) from error
    return rows


@lru_cache(maxsize=512)
def listing_statement(what: What, given: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The statement that uses these values, and their names in the order of its parameters.

    SQLAlchemy writes it, once for each combination that anybody asks for; the driver runs it without its transactions
    around single reads, which cost two round trips more than the read.
    """
    query = what.query().select_from(executions)
    for name in given:
        if name in _CONDITIONS:
            query = query.where(_CONDITIONS[name](bindparam(name)))
    if "limit" in given:
        query = query.order_by(executions.c.id.desc()).limit(bindparam("limit"))
    if "offset" in given:
        query = query.offset(bindparam("offset"))
    compiled = query.compile(dialect=_DIALECT)
    return str(compiled), tuple(compiled.positiontup or ())


def light_execution(row: asyncpg.Record) -> Execution:
    """The execution of a row of `What.WITHOUT_DOCUMENTS`."""
    return execution_from_row(dict(row) | _NO_DOCUMENTS)


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

_DIALECT = registry.load("postgresql.asyncpg")()
_CONDITIONS: dict[str, Callable[[Any], Any]] = {
    name: partial(operator, executions.c[column])
    for name, operator, column in (
        *((name, eq, name) for name in ("tenant_id", "state", "kind", "agent_id", "task_id", "parent_id")),
        ("other_than", ne, "state"),
        ("created_after", ge, "created_at"),
        ("created_before", lt, "created_at"),
        ("before_id", lt, "id"),
    )
}
