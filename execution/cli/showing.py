"""`execution get`, `list` and `history`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from execution.cli.connection import open_client
from execution.cli.output import answer
from execution.cli.parameters import ConflictingOptionsError
from execution.cli.views import execution_view, executions_table, history_table
from execution.presentation import execution_to_json, listed_execution_to_json
from execution.service import ExecutionService

_DEFAULT_SIZE = 50


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which part of a list: a numbered page (`page` is set), or the `size` newest ones older than `before`."""

    size: int
    page: int | None = None
    before: UUID | None = None

    @classmethod
    def chosen(cls, *, page: int | None, page_size: int | None, limit: int | None, before: UUID | None) -> Window:
        """From the options; without any, the first page."""
        if limit is None and before is None:
            return cls(page=page or 1, size=page_size or _DEFAULT_SIZE)
        return cls(size=limit or page_size or _DEFAULT_SIZE, page=page, before=before)

    def check(self) -> None:
        """Refuse a numbered page of something that is not numbered."""
        if self.page is not None and self.before is not None:
            raise ConflictingOptionsError("--page", "--before", "only one of them can say where to begin")


async def show_one(execution_id: UUID, *, at_version: int | None, as_json: bool) -> None:
    """Show one execution, as it is or as it was."""
    async with open_client() as service:
        if at_version is None:
            execution = await service.get_execution(execution_id)
        else:
            execution = await service.get_execution_at(execution_id, at_version)
    answer(execution_to_json(execution), execution_view(execution), as_json=as_json)


async def show_many(filters: Mapping[str, Any], window: Window, *, as_json: bool) -> None:
    """Show a page of executions."""
    window.check()
    async with open_client() as service:
        show = _show_page if window.page is not None else _show_newest
        await show(service, filters, window, as_json=as_json)


async def show_history(execution_id: UUID, *, after: int, limit: int, as_json: bool) -> None:
    """Show an execution's log."""
    async with open_client() as service:
        items = await service.history(execution_id, after_version=after, limit=limit)
    document = {"execution_id": str(execution_id), "items": [item.to_json() for item in items]}
    answer(document, history_table(items), as_json=as_json)


async def _show_page(service: ExecutionService, filters: Mapping[str, Any], window: Window, *, as_json: bool) -> None:
    page = window.page or 1
    items, total = await service.list_executions(filters, {"page": page, "page_size": window.size})
    document = {
        "items": [listed_execution_to_json(one) for one in items],
        "total": total,
        "page": page,
        "page_size": window.size,
    }
    answer(document, executions_table(items, f"page {page}: {len(items)} of {total:,}"), as_json=as_json)


async def _show_newest(service: ExecutionService, filters: Mapping[str, Any], window: Window, *, as_json: bool) -> None:
    items = await service.repository.list_after(
        filters, before_id=window.before, limit=window.size, tenant_id=service.settings.tenant_id
    )
    following = str(items[-1].id) if len(items) == window.size else None
    document = {"items": [listed_execution_to_json(one) for one in items], "next_before": following}
    caption = f"go on with: --before {following}" if following else "that is all"
    answer(document, executions_table(items, caption), as_json=as_json)
