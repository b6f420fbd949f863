"""`RequestReplyClient`: requests on one topic, their replies on another, found by the `correlationid` of CloudEvents.

A request is sent until the brokers have acknowledged it, so it can arrive twice: who answers has to bear that, or to
know requests by their id. Everybody who sends reads all replies, and drops those of others.
"""

from __future__ import annotations

import asyncio
import random
from itertools import count
from typing import Any
from uuid import uuid4

from msgspec import Struct

from events.codec import Record
from events.commands import ClosedError, NoReplyError, NotSentError
from events.deadlines import deadline_in
from events.kafka_connection import KafkaConnection
from events.kafka_sender import KafkaSender, RecordTooLargeError, SendError
from events.kafka_topics import Topic
from events.topic_tail import TopicTail

CORRELATION = "ce_correlationid"
SHORTEST_BACK_OFF, LONGEST_BACK_OFF = 0.05, 1.0


class Reply(Struct, frozen=True):
    """What came back."""

    value: bytes
    headers: dict[str, bytes]


class RequestReplyClient:
    """Sends requests and waits for their replies, any number at the same time; it connects with the first one."""

    def __init__(self, connection: KafkaConnection, *, requests: Topic, replies: Topic) -> None:
        self._requests = requests
        self._sender = KafkaSender(connection, [requests])
        self._tail = TopicTail(connection, replies, self._settle)
        self._name = uuid4().hex
        self._numbers = count(1)
        self._pending: dict[str, asyncio.Future[Reply]] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self.late = 0
        """Replies to requests of this client that came when nobody waited any more, or for the second time."""

    @property
    def rebuilds(self) -> int:
        """Producers and consumers that were thrown away."""
        return self._sender.rebuilds + self._tail.rebuilds

    async def request(self, record: Record, what: str, *, timeout: float) -> Reply:  # noqa: ASYNC109
        """The reply to a request, whose record gets the headers that name the request and its deadline.

        Args:
            what: what errors call the request.
            timeout: seconds, everything in them: connecting, sending, waiting.

        Raises:
            NotSentError: in this time the brokers did not acknowledge it; or they never will, because it is too large.
            NoReplyError: nobody has answered in this time.
            ClosedError: the client was stopped.
        """
        name = f"{self._name}-{next(self._numbers)}"
        sent = Record(record.key, record.value, [*record.headers, (CORRELATION, name.encode()), deadline_in(timeout)])
        reply = self._pending[name] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(what, timeout)
        try:
            async with asyncio.timeout(timeout):
                await self._listening(reply)
                waiting.is_listening = True
                return await self._until_answered(sent, reply, waiting)
        except TimeoutError:
            raise waiting.error(self._tail.problem) from None
        finally:
            del self._pending[name]
            reply.cancel()

    async def stop(self) -> None:
        """Close everything; whoever still waits for a reply is told that there will be none."""
        for reply in self._pending.values():
            if not reply.done():
                reply.set_exception(ClosedError())
        for task in self._sending:
            task.cancel()
        if self._sending:
            await asyncio.wait(self._sending)
        await self._tail.stop()
        await self._sender.stop()

    async def _listening(self, reply: asyncio.Future[Reply]) -> None:
        """Until a reply would not go unheard, or there will be none because the client was stopped."""
        self._tail.start()
        ready = asyncio.ensure_future(self._tail.ready.wait())
        try:
            await _first_of(ready, reply)
        finally:
            ready.cancel()

    async def _until_answered(self, record: Record, reply: asyncio.Future[Reply], waiting: _Waiting) -> Reply:
        """Send it, again where that fails, and wait. The answer may be there before the acknowledgement."""
        back_off = SHORTEST_BACK_OFF
        while True:
            sending = self._send(record)
            await _first_of(sending, reply)
            if reply.done():
                return reply.result()
            try:
                sending.result()
            except RecordTooLargeError as error:
                raise NotSentError(waiting.what, str(error)) from error
            except SendError as error:
                waiting.problem = str(error)
            else:
                waiting.is_sent = True
                return await reply
            await asyncio.wait([reply], timeout=random.uniform(back_off / 2, back_off))
            back_off = min(2 * back_off, LONGEST_BACK_OFF)

    def _send(self, record: Record) -> asyncio.Task[None]:
        """In a task of its own: whoever gives up earlier must not keep a producer that hangs from being noticed."""
        task = asyncio.create_task(self._sender.send(self._requests.name, record), name="send a request")
        self._sending.add(task)
        task.add_done_callback(self._sent)
        return task

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled():
            task.exception()  # who sent it may have given up

    def _settle(self, record: Any) -> None:
        headers = dict(record.headers)
        name = headers.get(CORRELATION, b"").decode(errors="replace")
        reply = self._pending.get(name)
        if reply is not None and not reply.done():
            reply.set_result(Reply(record.value or b"", headers))
        elif name.startswith(self._name):
            self.late += 1


async def _first_of(*futures: asyncio.Future[Any]) -> None:
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)


class _Waiting:
    """How far a request has got."""

    def __init__(self, what: str, timeout: float) -> None:
        self.what = what
        self.timeout = timeout
        self.is_listening = False
        self.is_sent = False
        self.problem: str | None = None

    def error(self, cannot_listen: str | None) -> NoReplyError | NotSentError:
        """What the one who asked is told after the deadline."""
        if self.is_sent:
            return NoReplyError(self.what, self.timeout)
        problem = self.problem if self.is_listening else cannot_listen
        return NotSentError(self.what, problem or f"the brokers did not answer within {self.timeout:g} s")
