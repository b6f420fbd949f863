"""A connection that one loop keeps for its own statement."""

from __future__ import annotations

from typing import Any

import asyncpg

from execution.repository.connections import DRIVER_ERRORS
from execution.repository.database import Database
from execution.repository.reading import fetch, translated
from execution.repository.statements import statement

LEAST_POOL = 4
"""Connections that a pool must have, or none is kept: whatever else a process asks would wait for the rest."""


class KeptConnection:
    """Runs named statements one after the other over a pooled connection that it does not give back in between.

    Taking one from the pool for each statement and giving it back is three rounds of the event loop, which a worker
    under load, and whoever waits for a worker that has nothing to do, pays with every claim.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._connection: Any = None
        self._busy = False

    async def fetch(self, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """The rows of a named statement, over the pool if another one is under way; errors as `reading.fetch`."""
        if self._busy or self._db.pool.get_max_size() < LEAST_POOL:
            return await fetch(self._db, name, *arguments)
        self._busy = True
        try:
            rows: list[asyncpg.Record] = await (await self._connected()).fetch(statement(name), *arguments)
        except DRIVER_ERRORS as error:
            await self.release()
            raise translated(f"Statement {name!r}", error) from error
        except BaseException:
            await self.release()  # it was cut off: the pool sees to what is left of the statement
            raise
        finally:
            self._busy = False
        return rows

    async def release(self) -> None:
        """Give the connection back; the next statement takes another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._db.pool.release(connection)

    async def _connected(self) -> Any:
        if self._connection is None or self._connection.is_closed():
            await self.release()
            self._connection = await self._db.pool.acquire()
        return self._connection
