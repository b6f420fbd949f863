"""How long a connection waits for an answer: a connection whose server says nothing any more is cut."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg


class Patience:
    """Enter it for a statement: if that takes longer, its connection is cut. One statement at a time.

    One timer looks after all statements of a connection. The driver's own limit starts and stops one for each, which is
    a third of what a small statement costs this process.
    """

    __slots__ = ("_connection", "_loop", "_seconds", "_since", "_timer")

    def __init__(self, connection: asyncpg.Connection, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._connection = connection
        self._loop = loop
        self._seconds = seconds
        self._since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self._since = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def __exit__(self, *_: object) -> None:
        self._since = None

    def end(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._since is None:
            return
        left = self._since + self._seconds - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._connection.terminate()


def patient_connection(seconds: float) -> type[asyncpg.Connection]:
    """A class of connections whose statements are answered within so many seconds, or fail as after a lost connection.

    They must be made without the driver's own limit (`command_timeout`), and run no statements but by these methods.
    """

    class PatientConnection(asyncpg.Connection):
        __slots__ = ("_patience",)

        def __init__(self, protocol: Any, transport: Any, loop: asyncio.AbstractEventLoop, *rest: Any) -> None:
            super().__init__(protocol, transport, loop, *rest)
            self._patience = Patience(self, loop, seconds)
            self.add_termination_listener(lambda _: self._patience.end())

        async def fetch(self, *given: Any, **options: Any) -> Any:
            with self._patience:
                return await super().fetch(*given, **options)

        async def fetchrow(self, *given: Any, **options: Any) -> Any:
            with self._patience:
                return await super().fetchrow(*given, **options)

        async def fetchval(self, *given: Any, **options: Any) -> Any:
            with self._patience:
                return await super().fetchval(*given, **options)

        async def execute(self, *given: Any, **options: Any) -> Any:
            with self._patience:
                return await super().execute(*given, **options)

    return PatientConnection
