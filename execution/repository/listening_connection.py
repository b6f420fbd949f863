"""The connection that a process listens over, and what it says and asks in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg

from execution.repository.connections import Connector


class ListeningConnection:
    """Hears the notifications of one channel; runs one statement at a time, and keeps its own NOTIFY waiting meanwhile.

    What is heard is most often answered by a statement: the claim of what was submitted, the end of what was claimed,
    the question for what has ended. PostgreSQL has just woken the process behind this connection, whose memory is warm.
    Over connections of their own the same chain of statements took a tenth longer, by hand as well.
    """

    def __init__(self, connector: Connector) -> None:
        self._connector = connector
        self._connection: asyncpg.Connection | None = None
        self._is_busy = False
        self._freed: asyncio.Future[None] | None = None
        """What a NOTIFY that is not said yet waits for."""

    @property
    def is_free(self) -> bool:
        """Would it run a statement at once? Not while another one is under way, nor while there is no connection."""
        return not self._is_busy and self.is_open

    @property
    def is_open(self) -> bool:
        """Is there a connection?"""
        return self._connection is not None and not self._connection.is_closed()

    async def open(self, channel: str, hear: Callable[..., None], lost: Callable[[], None]) -> None:
        """Connect and listen. `hear` is called as the driver calls listeners; `lost` when the connection is.

        Raises:
            DatabaseUnavailableError: PostgreSQL does not answer. Other errors are the driver's; `close` it then, too.
        """
        connection = await self._connector.connect()
        connection.add_termination_listener(lambda _: lost())
        self._is_busy, self._connection = True, connection
        try:
            await connection.add_listener(channel, hear)
        finally:
            self._free()

    def cut(self) -> None:
        """Break off whatever is under way; whoever keeps it up opens it anew."""
        if self._connection is not None:
            self._connection.terminate()

    async def close(self) -> None:
        """Listen no more; a second call does nothing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._connector.discard(connection)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of a statement, while it is free; errors are the driver's."""
        if self._connection is None:
            raise asyncpg.InterfaceError("the listening connection is closed")
        self._is_busy = True
        try:
            rows: list[asyncpg.Record] = await self._connection.fetch(query, *arguments)
        finally:
            self._free()
        return rows

    async def notify(self, channel: str, payload: str) -> None:
        """Notify all who listen, as soon as it is free. One at a time; errors are the driver's.

        Nobody waits for the commits of notifications, and a lost one costs one poll interval.
        """
        while self._is_busy:
            self._freed = asyncio.get_running_loop().create_future()
            await self._freed
        await self.fetch("SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)", channel, payload)

    def _free(self) -> None:
        self._is_busy = False
        freed, self._freed = self._freed, None
        if freed is not None and not freed.done():
            freed.set_result(None)
