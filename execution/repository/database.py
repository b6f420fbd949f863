"""Everything this process holds open to PostgreSQL, started in one order and stopped in the reverse."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack, suppress
from typing import Self

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from execution.clock import DatabaseClock
from execution.errors import ServiceClosedError
from execution.repository.connections import DRIVER_ERRORS, Connector
from execution.repository.lanes import AppendLanes
from execution.repository.presence import Presence
from execution.repository.schema import check_schema
from execution.repository.wakeups import Wakeups
from execution.shielded import to_its_end

LISTS_AT_ONCE = 4
_FIRST_QUESTIONS = 3
"""What the clock is first set by: the quickest answer of so many."""
_TIME_KEEPING_SECONDS = 60.0
_PLAN_FOR_VALUES = {"plan_cache_mode": "force_custom_plan"}
"""Which index a list wants depends on the values: a generic plan cannot use executions_list_state, because a parameter
proves nothing about its predicate, and seeks a small tenant's rows among all of a large one's."""


class Database:
    """The one way to PostgreSQL: `pool` for reads and commands, `lanes` for appends, `list_pool` for listing, `engine`
    for administration, `wakeups`.

    Its start talks to the database first and checks the schema, so that a wrong address or missing tables fail there.
    """

    def __init__(
        self,
        url: str,
        *,
        pool_size: int = 8,
        append_lanes: int = 1,
        batch_limit: int = 200,
        connect_timeout: float = 10.0,
        statement_timeout: float = 10.0,
        append_patience: float = 15.0,
        submission_queue_limit: int = 5_000,
        notify: bool = True,
    ) -> None:
        self.clock = DatabaseClock()
        self._connector = Connector(
            url,
            connect_timeout=connect_timeout,
            statement_timeout=statement_timeout,
            application_name=f"execution {os.getpid()}",
        )
        self.wakeups = Wakeups(self._connector, enabled=notify)
        self.lanes = AppendLanes(
            self._connector,
            self.wakeups.connection,
            lanes=append_lanes,
            batch_limit=batch_limit,
            patience=append_patience,
            creations_limit=submission_queue_limit,
        )
        self._pool_size = pool_size
        self._pool: asyncpg.Pool | None = None
        self._list_pool: asyncpg.Pool | None = None
        self._engine: AsyncEngine | None = None
        self._stack = AsyncExitStack()

    @property
    def pool(self) -> asyncpg.Pool:
        """The pool.

        Raises:
            ServiceClosedError: before the start or after the stop.
        """
        if self._pool is None:
            raise ServiceClosedError("The database")
        return self._pool

    @property
    def list_pool(self) -> asyncpg.Pool:
        """A small pool whose connections plan for the values that they are given."""
        if self._list_pool is None:
            raise ServiceClosedError("The database")
        return self._list_pool

    @property
    def engine(self) -> AsyncEngine:
        """SQLAlchemy's engine over connections of that kind, for administration."""
        if self._engine is None:
            raise ServiceClosedError("The database")
        return self._engine

    async def connect(self) -> asyncpg.Connection:
        """A connection of the caller's own, as a lane has one; to be given to `disconnect`.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
        """
        return await self._connector.connect()

    async def disconnect(self, connection: asyncpg.Connection) -> None:
        """Close it, in whatever condition it is."""
        await self._connector.discard(connection)

    @property
    def presence(self) -> Presence:
        """Whether PostgreSQL is there, as this process has found out."""
        return self._connector.presence

    async def ask_the_time(self) -> None:
        """Set the clock by PostgreSQL's, as exactly as its answer allows. Errors are the driver's."""
        asked_at = time.monotonic()
        self.clock.synchronize(await self.pool.fetchval("SELECT clock_timestamp()"), asked_at)

    async def keep_time(self) -> None:
        """Ask again every minute, for ever: no clocks run apart by much in that time."""
        while True:
            await asyncio.sleep(_TIME_KEEPING_SECONDS)
            with suppress(*DRIVER_ERRORS):  # while PostgreSQL is away, others tell of it
                await self.ask_the_time()

    async def start(self) -> None:
        """Open everything, or nothing.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer.
            SchemaMismatchError: the tables are missing, older or newer; it names the command to run.
        """
        try:
            await self._open(self._stack)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Close everything in reverse order, whoever is cancelled meanwhile; a second stop does nothing."""
        await to_its_end(self._stack.aclose())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _open(self, stack: AsyncExitStack) -> None:
        self._pool = await self._connector.create_pool(self._pool_size)
        stack.push_async_callback(self._close_pool)
        await check_schema(self._pool)
        for _ in range(_FIRST_QUESTIONS):
            await self.ask_the_time()
        self._list_pool = await self._connector.create_pool(LISTS_AT_ONCE, least=0, **_PLAN_FOR_VALUES)
        stack.push_async_callback(self._close_list_pool)
        self._engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=self._connect_for_engine, pool_size=2, max_overflow=2
        )
        stack.push_async_callback(self._close_engine)
        stack.push_async_callback(self.wakeups.stop)
        await self.wakeups.start()
        stack.push_async_callback(self.lanes.stop)
        await self.lanes.start()

    async def _connect_for_engine(self) -> asyncpg.Connection:
        return await self._connector.connect_for_engine(**_PLAN_FOR_VALUES)

    async def _close_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def _close_list_pool(self) -> None:
        pool, self._list_pool = self._list_pool, None
        if pool is not None:
            pool.terminate()

    async def _close_engine(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            await engine.dispose()
