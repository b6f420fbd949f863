"""A door to PostgreSQL that breaks connections at the worst moments, exactly where a test says."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum, auto
from pathlib import Path
from random import Random
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

from execution.repository.statements import statements

COMMIT = "COMMIT"
"""The end of a transaction block, where it is the statement to strike."""
_PARSE = b"P"
_BIND = b"B"
_COMMIT = b"Q\x00\x00\x00\x0cCOMMIT;\x00"
_HEADER = 5  # a message's type and length
_READY_AFTER_COMMIT = b"Z\x00\x00\x00\x05I"
_CHUNK = 65_536
_ALIKE = {
    "create_execution": "create_executions",
    "append_to_execution": "append_events",
    "claim_execution": "claim_executions",
}
"""Statements that are of one execution what another one is of many; a fault that is asked for meets both."""
_NAMES = {sql.encode(): _ALIKE.get(name, name) for name, sql in statements().items()}


class Fault(Enum):
    """What happens to the next statement that is executed through the door, prepared or the end of a transaction."""

    LOSE_STATEMENT = auto()
    """It never reaches the server."""
    LOSE_ANSWER = auto()
    """The server commits it; the connection is cut before the answer gets through."""
    LEAVE_RUNNING = auto()
    """The client is cut off at once; the server goes on with it and does not notice."""


class CuttingProxy:
    """Passes bytes between clients and one server's socket; each armed fault strikes once.

    `lost` counts by statement the answers that did not get through to clients because of `lose_answers`.
    """

    def __init__(self, server_socket: Path) -> None:
        self._server_socket = server_socket
        self._armed: Fault | None = None
        self._armed_for: str | None = None
        self._then_close = False
        self._is_open = True
        self._clients: set[asyncio.StreamWriter] = set()
        self._shares: Mapping[str, float] = {}
        self._chance = Random()
        self._shut_seconds = 0.0
        self.lost: Counter[str] = Counter()
        self.struck = asyncio.Event()
        self.server_answered = asyncio.Event()
        self.refused = asyncio.Event()
        self.speaks = asyncio.Event()
        self.speaks.set()

    def arm(self, fault: Fault, *, at: str | None = None, then_close: bool = False) -> None:
        """Let a fault strike the next execution of a prepared statement (or of that one, or the next `COMMIT`), and
        close the door behind it if asked to."""
        self._armed, self._armed_for, self._then_close = fault, at, then_close

    def lose_answers(self, chance: Random, shares: Mapping[str, float], *, shut_seconds: float = 0.0) -> None:
        """From now on an execution of one of these statements loses its answer with its share of probability.

        Each time, nobody is let in for `shut_seconds` afterwards. With none of them everybody is, at once.
        """
        self._chance, self._shares, self._shut_seconds = chance, shares, shut_seconds
        if not shares:
            self.open_door()

    def close_door(self) -> None:
        """Cut everybody off and let nobody in."""
        self._is_open = False
        for client in self._clients:
            client.close()

    def open_door(self) -> None:
        self._is_open = True

    def fall_silent(self) -> None:
        """Take everything in and let no answer out, as a server does that hangs."""
        self.speaks.clear()

    def speak_again(self) -> None:
        self.speaks.set()

    async def serve(self, from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        if not self._is_open:
            to_client.close()
            self.refused.set()
            return
        self._clients.add(to_client)
        from_server, to_server = await asyncio.open_unix_connection(str(self._server_socket))
        connection = _Connection(self, from_client, to_client, from_server, to_server)
        await asyncio.gather(connection.pass_statements(), connection.pass_answers())
        self._clients.discard(to_client)

    def strikes(self, statement: str) -> Fault | None:
        """The fault that strikes this execution of a statement."""
        if self._armed is None or (statement != self._armed_for if self._armed_for else statement == COMMIT):
            return self._loses_answer(statement)
        fault, self._armed = self._armed, None
        self._is_open = not self._then_close
        return fault

    def _loses_answer(self, statement: str) -> Fault | None:
        if self._chance.random() >= self._shares.get(statement, 0.0):
            return None
        self.lost[statement] += 1
        if self._shut_seconds:
            self._is_open = False
            asyncio.get_running_loop().call_later(self._shut_seconds, self.open_door)
        return Fault.LOSE_ANSWER


class _Connection:
    """One client's connection through the door."""

    def __init__(
        self,
        proxy: CuttingProxy,
        from_client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        from_server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = from_client, to_client
        self._from_server, self._to_server = from_server, to_server
        self._fault: Fault | None = None
        self._prepared: dict[bytes, str] = {}

    async def pass_statements(self) -> None:
        while chunk := await _read(self._from_client):
            statement = self._executed(chunk)
            if statement is not None and self._fault is None:
                self._fault = self._proxy.strikes(statement)
            if self._fault is not Fault.LOSE_STATEMENT:
                self._to_server.write(chunk)
            if self._fault not in {None, Fault.LOSE_ANSWER}:  # a statement may come in several chunks
                break
        if self._fault is Fault.LEAVE_RUNNING:
            self._to_client.close()
            self._proxy.struck.set()
        elif self._fault is not Fault.LOSE_ANSWER:
            self._close()

    async def pass_answers(self) -> None:
        withheld = b""
        while chunk := await _read(self._from_server):
            await self._proxy.speaks.wait()
            if self._fault is None:
                self._to_client.write(chunk)
                continue
            withheld += chunk
            if withheld.endswith(_READY_AFTER_COMMIT):
                self._proxy.server_answered.set()
                break
        await self._proxy.speaks.wait()  # one that hangs does not hang up either
        self._close()

    def _executed(self, chunk: bytes) -> str | None:
        """The name of the statement a chunk executes; empty for a prepared one that is not of `statements.sql`."""
        if chunk.startswith(_PARSE):
            prepared, sql = chunk[_HEADER:].split(b"\0", 2)[:2]
            self._prepared[prepared] = _NAMES.get(sql, "")
        elif chunk.startswith(_BIND):
            _, prepared = chunk[_HEADER:].split(b"\0", 2)[:2]
            return self._prepared.get(prepared, "")
        return COMMIT if chunk == _COMMIT else None

    def _close(self) -> None:
        self._to_client.close()
        self._to_server.close()
        if self._fault is not None:
            self._proxy.struck.set()


@asynccontextmanager
async def cutting_proxy(url: str, folder: Path) -> AsyncIterator[tuple[CuttingProxy, str]]:
    """A proxy to the server of `url`, and the URL that leads through it; its socket is made in `folder`."""
    parts = urlsplit(url)
    options = {name: values[0] for name, values in parse_qs(parts.query).items()}
    socket_name = f".s.PGSQL.{options['port']}"
    proxy = CuttingProxy(Path(options["host"]) / socket_name)
    server = await asyncio.start_unix_server(proxy.serve, str(folder / socket_name))
    try:
        yield proxy, urlunsplit(parts._replace(query=urlencode(options | {"host": str(folder)})))
    finally:
        server.close()


async def _read(stream: asyncio.StreamReader) -> bytes:
    """The next bytes; nothing when the other side is gone, however it went."""
    try:
        return await stream.read(_CHUNK)
    except ConnectionError:
        return b""
