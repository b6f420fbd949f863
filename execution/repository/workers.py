"""Workers as rows: who lives, what each claims, and what the dead left behind."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from execution.domain.execution import Execution
from execution.repository.database import Database
from execution.repository.frontier import ClaimFrontier, columns_of
from execution.repository.reading import fetch, fetch_as_woken, fetch_row
from execution.repository.records import claimed_execution, execution_from_row, to_json


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What there is to rescue. `seconds_until_deadline`: None if nothing has a deadline, negative if one has passed."""

    silent_workers: bool
    dead_workers: bool
    seconds_until_deadline: float | None

    @property
    def overdue(self) -> bool:
        """Has a deadline passed?"""
        return self.seconds_until_deadline is not None and self.seconds_until_deadline <= 0


class WorkerStore:
    """The `workers` table, and the statements that claim for a worker and rescue from one.

    Every method may raise `DatabaseUnavailableError` or `DatabaseError`.
    """

    def __init__(self, db: Database) -> None:
        self.db = db

    async def register(
        self, worker_id: UUID, kinds: Sequence[str], *, concurrency: int, timeout_seconds: float
    ) -> None:
        """Announce a worker. It promises a heartbeat at least every `timeout_seconds`."""
        await fetch(
            self.db,
            "register_worker",
            worker_id,
            kinds,
            socket.gethostname(),
            os.getpid(),
            concurrency,
            timeout_seconds,
        )

    async def heartbeat(self, worker_id: UUID) -> datetime | None:
        """Say that it lives; the database's time, or None if it was declared dead."""
        row = await fetch_row(self.db, "heartbeat", worker_id)
        return row[0] if row else None

    async def claim(
        self, worker_id: UUID, kinds: Mapping[str, bool], limit: int, frontier: ClaimFrontier | None = None
    ) -> list[Execution]:
        """Claim up to `limit` due executions, most urgent first. `kinds`: kind to whether it is idempotent.

        A worker that was declared dead gets nothing. Without a frontier every claim searches from the head.
        """
        frontier = frontier or ClaimFrontier(self.db.clock.now)
        search = frontier.begin()
        rows = await fetch_as_woken(
            self.db,
            "claim_executions",
            list(kinds),
            list(kinds.values()),
            worker_id,
            f"worker:{worker_id}",
            limit,
            *search.columns(),
        )
        claimed = [claimed_execution(row, worker_id, idempotent=kinds[row["kind"]]) for row in rows]
        frontier.end(search, claimed, limit)
        return claimed

    async def claim_one(self, worker_id: UUID, kinds: Mapping[str, bool], execution_id: UUID) -> list[Execution]:
        """Claim this execution, if it is due, of these kinds, and nobody else has it; otherwise nothing."""
        rows = await fetch_as_woken(
            self.db, "claim_execution", to_json(kinds), execution_id, worker_id, f"worker:{worker_id}"
        )
        return [claimed_execution(row, worker_id, idempotent=kinds[row["kind"]]) for row in rows]

    async def seconds_until_due(self, kinds: Sequence[str], frontier: ClaimFrontier | None = None) -> float | None:
        """Seconds until the next waiting execution of these kinds is due; None if none waits.

        With a frontier, what lies behind it is left out: only a whole search finds that, and nobody knows when it does.
        """
        levels = frontier.levels() if frontier else ()
        row = await fetch_row(self.db, "next_run_at", kinds, *columns_of(levels))
        return row["seconds"] if row else None

    async def held_by(self, worker_id: UUID) -> list[Execution]:
        """What a worker holds, as the database sees it."""
        return [execution_from_row(row) for row in await fetch(self.db, "held_by_worker", worker_id)]

    async def retire(self, worker_id: UUID) -> None:
        """Sign a worker off. What it still holds is left to the rescuers, who need not wait for its timeout."""
        await fetch(self.db, "bury_worker", worker_id)

    async def bury(self) -> list[UUID]:
        """Declare dead those whose heartbeat is overdue, by the database's clock; their ids."""
        return [row["id"] for row in await fetch(self.db, "bury_workers")]

    async def orphans(self, limit: int) -> list[Execution]:
        """Executions that dead workers hold."""
        return [execution_from_row(row) for row in await fetch(self.db, "find_orphans", limit)]

    async def forget_dead(self, after_seconds: float) -> None:
        """Remove the rows of workers that died long ago and hold nothing."""
        await fetch(self.db, "forget_dead_workers", after_seconds)

    async def overdue(self, slack: float, limit: int) -> list[Execution]:
        """Executions past their deadline; of RUNNING ones those past it by `slack` seconds."""
        return [execution_from_row(row) for row in await fetch(self.db, "find_overdue", slack, limit)]

    async def survey(self, slack: float) -> Survey:
        """What there is to rescue; `slack` as in `overdue`."""
        rows = await fetch(self.db, "survey", slack)
        return Survey(**dict(rows[0].items()))

    async def offered_kinds(self) -> set[str]:
        """The kinds that live workers can run."""
        return {row["kind"] for row in await fetch(self.db, "offered_kinds")}
