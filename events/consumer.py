"""For other services: the events of executions as an asynchronous iterator.

    async with consume_events("kafka:9092", group="billing") as events:
        async for event in events:
            ...

Each event is checked, repeats are dropped, and an event is committed once it has been processed, which is when the next
one is asked for, or when `done()` is called. docs/consuming.md says what exactly is promised.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import structlog
from aiokafka import TopicPartition

from events.codec import EventCodec, MalformedRecordError
from events.consumed_event import ConsumedEvent, read_event
from events.consumer_session import ConsumerState, Consuming
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic
from events.ordered_consumer import OrderedConsumer
from events.seen_versions import Seen, SeenVersions

log = structlog.get_logger(__name__)

EVENTS_TOPIC = "execution.events.v1"
LOOK_SECONDS = 1.0

LastVersion = Callable[[str], Awaitable[int | None]]
"""Of an execution's id: the last version that your own store has, or None if it has none."""


class EventStreamError(Exception):
    """The stream cannot go on by itself.

    EventStreamError
    ├── EventsUnavailableError   the brokers, or the topic
    ├── UnreadableEventError     a record; `skip()` leaves it out
    └── SequenceGapError         an execution; `caught_up()` goes on behind the gap
    """


class EventsUnavailableError(EventStreamError):
    """The topic cannot be read."""

    def __init__(self, topic: str, problem: str) -> None:
        super().__init__(f"topic {topic!r} cannot be read: {problem}")


class UnreadableEventError(EventStreamError):
    """A record that is no event, or one that this release cannot read. It stays the next one until it is skipped."""

    def __init__(self, record: Any, problem: str) -> None:
        self.topic, self.partition, self.offset = record.topic, record.partition, record.offset
        super().__init__(f"offset {record.offset} of {record.topic}[{record.partition}]: {problem}")


class SequenceGapError(EventStreamError):
    """Events of an execution are missing. The one behind the gap stays the next one until it is told how to go on."""

    def __init__(self, event: ConsumedEvent, last: int) -> None:
        self.event, self.last = event, last
        super().__init__(
            f"execution {event.execution_id}: version {event.version} follows {last}. Read its history over HTTP, and "
            f"say caught_up() with the version you have come to, or with {event.version - 1} to do without"
        )


@dataclass(frozen=True, kw_only=True)
class StreamOptions:
    """How a stream reads."""

    last_version: LastVersion | None = None
    """Asked when an execution is heard of for the first time since the partitions were divided. With it repeats are
    dropped, and gaps found, across restarts, too."""
    remembered: int = 100_000
    """Executions whose last version is remembered; some 250 bytes each."""
    patience: float | None = None
    """Seconds without the brokers after which the stream gives up; None: never, it goes on when they are back."""
    prefetch: int = 500
    """Events that wait in this process at most."""
    member: str | None = None
    """A name of this process that no other one of the group has. Restarted, it gets its partitions back at once."""
    session_seconds: float = 10.0
    """Silence after which others of the group take over what a dead process had."""
    handover_seconds: float = 10.0
    """What the event under way gets to be processed when its partition is to go to another process."""
    largest_record: int = 1_048_576
    """Bytes that are fetched of a partition at once."""

    def consuming(self, topic: str, group: str, leaving: Callable[[Collection[TopicPartition]], None]) -> Consuming:
        """The same for the consumer. The topic is the relay's to create."""
        named = Topic(
            name=topic, partitions=1, retention_seconds=1.0, largest_record=self.largest_record, is_foreign=True
        )
        return Consuming(
            topics=[named],
            group=group,
            by_key=False,  # whoever iterates takes one after the other anyway
            in_flight_limit=self.prefetch,
            handover_seconds=self.handover_seconds,
            session_seconds=self.session_seconds,
            member=self.member,
            leaving=leaving,
        )


@asynccontextmanager
async def consume_events(
    servers: str | KafkaConnection, *, group: str, topic: str = EVENTS_TOPIC, options: StreamOptions | None = None
) -> AsyncIterator[EventStream]:
    """The events of a topic, as long as the block; a group that has never read begins at the oldest.

    Args:
        servers: `host:port` of some brokers, separated by commas; or a connection, which can be encrypted, too.
        group: its members share the events, each execution's go to one of them.

    Raises:
        EventsUnavailableError: the brokers do not answer, or have no such topic.
    """
    if isinstance(servers, str):
        servers = KafkaConnection(bootstrap_servers=tuple(servers.split(",")), client_id=group)
    stream = EventStream(servers, topic, group, options or StreamOptions())
    try:
        await stream.open()
        yield stream
    finally:
        await stream.close()


class EventStream:
    """The events of a topic, shared with the other members of a group. Use `consume_events`."""

    def __init__(self, connection: KafkaConnection, topic: str, group: str, options: StreamOptions) -> None:
        self._topic = topic
        self._options = options
        self._consumer = OrderedConsumer(connection, options.consuming(topic, group, self._leave), self._arrive)
        self._running: asyncio.Task[None] | None = None
        self._codec = EventCodec()
        self._seen = SeenVersions(options.remembered)
        self._arrivals: deque[_Arrival] = deque()
        self._has_arrived = asyncio.Event()
        self._next: _Arrival | None = None
        self._current: _Arrival | None = None
        self._is_closed = False
        self.repeats = 0
        """Events that were dropped because they had come before."""

    @property
    def state(self) -> ConsumerState:
        """How the consumer is doing: its partitions, what it was thrown away for."""
        return self._consumer.state

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumedEvent:
        """The next event; the one before it counts as processed. May be cancelled, and asked again.

        Raises:
            UnreadableEventError, SequenceGapError: asking again raises them again, until `skip()` or `forget()`.
            EventsUnavailableError: nothing could be read for as long as `patience` says.
        """
        self.done()
        while True:
            arrival = await self._arrival()
            try:
                event = read_event(arrival.record, self._codec)
            except MalformedRecordError as error:
                raise UnreadableEventError(arrival.record, str(error)) from error
            if await self._is_new(event):
                self._seen.note(event.envelope.subject, event.version)
                self._current, self._next = arrival, None
                return event
            self.repeats += 1
            self._pass_over()

    def done(self) -> None:
        """The event that was given last has been processed, and is committed in a moment."""
        current, self._current = self._current, None
        if current is not None:
            current.finish()

    def skip(self) -> None:
        """Leave out the record that the last error was about."""
        if self._next is not None:
            log.warning("events.skipped", topic=self._topic, offset=self._next.record.offset)
            self._pass_over()

    def caught_up(self, execution_id: object, version: int) -> None:
        """The execution is known up to that version, by whatever way: what comes next is the one after it."""
        self._seen.note(str(execution_id), version)

    async def open(self) -> None:
        """Begin to read; see `consume_events`."""
        self._running = asyncio.create_task(self._consumer.run(), name=f"consume {self._topic}")
        await self._consumer.ready.wait()
        if self.state.problem is not None:
            raise EventsUnavailableError(self._topic, self.state.problem)

    async def close(self) -> None:
        """Commit what has been processed, and leave the group. What was given, and is not done, comes again."""
        self._is_closed = True
        for arrival in (self._current, self._next, *self._arrivals):
            if arrival is not None:
                arrival.give_up()
        self._consumer.stop()
        if self._running is not None:
            await asyncio.wait([self._running])

    async def _arrival(self) -> _Arrival:
        """What comes next, and is still this process's."""
        while self._next is None or not self._next.is_here:
            if self._arrivals:
                self._next = self._arrivals.popleft()
            else:
                self._next = None
                await self._until_something_arrives()
        return self._next

    async def _until_something_arrives(self) -> None:
        if self._running is None or self._running.done():
            raise EventsUnavailableError(self._topic, "the stream is closed")
        since, patience = self.state.failing_since, self._options.patience
        if since is not None and patience is not None and time.monotonic() - since > patience:
            raise EventsUnavailableError(self._topic, f"{self.state.problem}, for {patience:g} s")
        self._has_arrived.clear()
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._has_arrived.wait()
        except TimeoutError:
            pass

    async def _is_new(self, event: ConsumedEvent) -> bool:
        subject, version = event.envelope.subject, event.version
        last = self._seen.last(subject)
        if not last.is_certain and self._options.last_version is not None:
            kept = await self._options.last_version(subject)
            if kept is not None:
                last = Seen(max(kept, last.version), is_certain=True)
                self._seen.note(subject, last.version)
        if last.is_certain and version > last.version + 1:
            raise SequenceGapError(event, last.version)
        return version > last.version

    def _pass_over(self) -> None:
        passed, self._next = self._next, None
        if passed is not None:
            passed.finish()

    # Called by the consumer

    async def _arrive(self, record: Any) -> None:
        """A record is here; returns when it is processed, and never if it goes to another process."""
        if self._is_closed:
            raise asyncio.CancelledError
        arrival = _Arrival(record)
        self._arrivals.append(arrival)
        self._has_arrived.set()
        await arrival.wait()

    def _leave(self, partitions: Collection[TopicPartition]) -> None:
        """What waits here of these partitions will come to others; what has been given may still be processed here."""
        self._seen.divided_anew()
        for arrival in (self._next, *self._arrivals):
            if arrival is not None and arrival.partition in partitions:
                arrival.give_up()


class _Arrival:
    """A record from its coming to its end."""

    def __init__(self, record: Any) -> None:
        self.record = record
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def partition(self) -> TopicPartition:
        return TopicPartition(self.record.topic, self.record.partition)

    @property
    def is_here(self) -> bool:
        """Is it still to be processed, and by this process?"""
        return not self._end.done()

    async def wait(self) -> None:
        """Until it is processed; cancelled if it never will be."""
        await self._end

    def finish(self) -> None:
        """It was processed, unless it has gone already."""
        if not self._end.done():
            self._end.set_result(None)

    def give_up(self) -> None:
        """It will not be processed here."""
        self._end.cancel()
