"""How much waits, how long, and how much runs: what metrics and admission know of the queue."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from execution.repository.database import Database
from execution.repository.reading import fetch, fetch_row


@dataclass(frozen=True, kw_only=True)
class QueueDepth:
    """Of every tenant. Counts stop at a limit. `oldest_wait`: seconds; 0 while nothing is due."""

    waiting: int
    """PENDING and due."""
    scheduled: int
    """PENDING and not due yet."""
    held: dict[str, int]
    """Held by workers, by state."""
    oldest_wait: float


@dataclass(frozen=True, kw_only=True)
class Head:
    """The waiting execution of a kind that is due first. `seconds`: until it is; negative: since it was."""

    seconds: float
    priority: int
    run_at: datetime


async def find_head(db: Database, kind: str) -> Head | None:
    """The head of a kind's queue. It takes long where dead entries pile up in the index; errors as `queue_depth`."""
    row = await fetch_row(db, "next_run_at", [kind], [], [], [])
    return Head(**dict(row.items())) if row else None


async def follow_head(db: Database, kind: str, head: Head) -> Head | None:
    """What is the head of its priority now, which it has been; errors as `queue_depth`.

    None: nothing of that priority waits. What has been added before it, late or by a retry, is not looked at.
    """
    row = await fetch_row(db, "next_run_at_from", kind, head.priority, head.run_at)
    return Head(**dict(row.items())) if row else None


async def queue_depth(db: Database, kinds: Collection[str], *, limit: int) -> QueueDepth:
    """How the queue stands; the oldest wait is that of these kinds and those that live workers offer.

    Raises:
        DatabaseUnavailableError, DatabaseError: as `reading.fetch`.
    """
    counts: dict[str, int] = {row["what"]: row["executions"] for row in await fetch(db, "queue_depth", limit)}
    offered = {row["kind"] for row in await fetch(db, "offered_kinds")}
    row = await fetch_row(db, "next_run_at", list(offered.union(kinds)), [], [], [])
    due_in = row["seconds"] if row else None
    return QueueDepth(
        waiting=counts.pop("waiting"),
        scheduled=counts.pop("scheduled"),
        held=counts,
        oldest_wait=0.0 if due_in is None else max(0.0, -due_in),
    )
