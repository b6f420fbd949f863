"""What the database says about itself, the workers and the work that waits: for `execution doctor` and `migrate`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
from sqlalchemy import Select, and_, func, select, text
from sqlalchemy.exc import SQLAlchemyError

from execution.domain.state import ExecutionState
from execution.repository.connections import Connector
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


async def read_revision(url: str, *, connect_timeout: float = 10.0) -> str | None:
    """The revision the schema is at; None without a schema.

    Raises:
        DatabaseUnavailableError: PostgreSQL does not answer.
    """
    connector = Connector(
        url, connect_timeout=connect_timeout, statement_timeout=connect_timeout, application_name="execution diagnosis"
    )
    connection = await connector.connect()
    try:
        revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    except asyncpg.UndefinedTableError:
        return None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise translated("Reading the schema's revision", error) from error
    finally:
        await connector.discard(connection)
    return revision


class Diagnosis:
    """Reads facts; changes nothing. Every method may raise `DatabaseError`."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def server(self) -> ServerFacts:
        """The server and the size of the database."""
        [row] = await self._read(
            select(
                func.clock_timestamp().label("now"),
                (text("current_setting('server_version_num')::int / 10000 AS major_version")),
                func.pg_database_size(func.current_database()).label("database_bytes"),
            )
        )
        return ServerFacts(**row)

    async def workers(self) -> list[WorkerFacts]:
        """Every registered worker, the living ones first."""
        column = workers.c
        silent = func.extract("epoch", func.clock_timestamp() - column.heartbeat_at)
        held = select(func.count()).where(executions.c.worker_id == column.id).scalar_subquery()
        query = select(
            column.id,
            column.host,
            column.pid,
            column.kinds,
            column.concurrency,
            and_(column.dead_at.is_(None), silent <= column.timeout_seconds).label("alive"),
            silent.label("silent_seconds"),
            held.label("held"),
        )
        rows = await self._read(query.order_by(text("alive DESC"), column.id))
        return [WorkerFacts(**_plain(row) | {"kinds": tuple(row["kinds"])}) for row in rows]

    async def backlog(self) -> list[KindBacklog]:
        """What waits, by kind, of every tenant. Index: executions_claim."""
        column = executions.c
        age = func.extract("epoch", func.clock_timestamp() - func.min(column.run_at))
        query = (
            select(column.kind, func.count().label("pending"), age.label("oldest_seconds"))
            .where(column.state == ExecutionState.PENDING)
            .group_by(column.kind)
            .order_by(column.kind)
        )
        return [_backlog(row) for row in await self._read(query)]

    async def orphans(self) -> int:
        """How many executions are held by workers that do not live. Index: executions_held."""
        silent = func.extract("epoch", func.clock_timestamp() - workers.c.heartbeat_at)
        alive = select(workers.c.id).where(workers.c.dead_at.is_(None), silent <= workers.c.timeout_seconds)
        held = executions.c.worker_id
        [row] = await self._read(
            select(func.count().label("orphans")).where(held.is_not(None), held.not_in(alive))
        )
        return int(row["orphans"])

    async def _read(self, query: Select[tuple[object, ...]]) -> list[dict[str, object]]:
        try:
            async with self._db.engine.connect() as connection:
                return [dict(row) for row in (await connection.execute(query)).mappings()]
        except SQLAlchemyError as error:
            raise translated("The diagnosis", error) from error
