"""What the database says about itself, the workers and the work that waits: for `execution doctor` and `migrate`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Select, and_, func, select
from sqlalchemy.exc import SQLAlchemyError

from execution.domain.state import ExecutionState
from execution.repository.database import Database
from execution.repository.reading import translated
from execution.repository.tables import executions, workers


@dataclass(frozen=True, kw_only=True)
class ServerFacts:
    """The server: its time, its release (18), and how many bytes the database takes."""

    now: datetime
    major_version: int
    database_bytes: int


@dataclass(frozen=True, kw_only=True)
class WorkerFacts:
    """One registered worker. `alive`: not declared dead, and heard of within the time it promised."""

    id: UUID
    host: str
    pid: int
    kinds: tuple[str, ...]
    concurrency: int
    alive: bool
    silent_seconds: float
    held: int
    """Executions it holds."""


@dataclass(frozen=True, kw_only=True)
class KindBacklog:
    """What waits of one kind. `oldest_seconds`: how long the oldest one has been due; None if none is due yet."""

    kind: str
    pending: int
    oldest_seconds: float | None


class Diagnosis:
    """Reads facts; changes nothing. Every method may raise `DatabaseError`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def server(self) -> ServerFacts:
        """The server and the size of the database."""
        version = func.current_setting("server_version_num").cast(Integer)
        [row] = await self._read(
            select(
                func.clock_timestamp().label("now"),
                version.label("version"),
                func.pg_database_size(func.current_database()).label("database_bytes"),
            )
        )
        return ServerFacts(now=row["now"], major_version=row["version"] // 10_000, database_bytes=row["database_bytes"])

    async def workers(self) -> list[WorkerFacts]:
        """Every registered worker, the living ones first."""
        held = select(func.count()).where(executions.c.worker_id == workers.c.id).scalar_subquery()
        query = select(workers, _ALIVE.label("alive"), _SILENT.label("silent_seconds"), held.label("held"))
        rows = await self._read(query.order_by(_ALIVE.desc(), workers.c.id))
        return [
            WorkerFacts(
                id=row["id"],
                host=row["host"],
                pid=row["pid"],
                kinds=tuple(row["kinds"]),
                concurrency=row["concurrency"],
                alive=row["alive"],
                silent_seconds=float(row["silent_seconds"]),
                held=row["held"],
            )
            for row in rows
        ]

    async def backlog(self) -> list[KindBacklog]:
        """What waits, by kind, of every tenant. Index: executions_claim."""
        kind, age = executions.c.kind, _seconds_since(func.min(executions.c.run_at))
        waiting = select(kind, func.count().label("pending"), age.label("age"))
        waiting = waiting.where(executions.c.state == ExecutionState.PENDING.value)
        rows = await self._read(waiting.group_by(kind).order_by(kind))
        return [
            KindBacklog(
                kind=row["kind"], pending=row["pending"], oldest_seconds=float(row["age"]) if row["age"] >= 0 else None
            )
            for row in rows
        ]

    async def orphans(self) -> int:
        """How many executions are held by workers that do not live. Index: executions_held."""
        living = select(workers.c.id).where(_ALIVE)
        holder = executions.c.worker_id
        [row] = await self._read(
            select(func.count().label("orphans")).where(holder.is_not(None), holder.not_in(living))
        )
        return int(row["orphans"])

    async def _read(self, query: Select[Any]) -> list[dict[str, Any]]:
        try:
            async with self._db.engine.connect() as connection:
                return [dict(row) for row in (await connection.execute(query)).mappings()]
        except SQLAlchemyError as error:
            raise translated("The diagnosis", error) from error


def _seconds_since(moment: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.extract("epoch", func.clock_timestamp() - moment)


_SILENT = _seconds_since(workers.c.heartbeat_at)
_ALIVE = and_(workers.c.dead_at.is_(None), workers.c.timeout_seconds >= _SILENT)
