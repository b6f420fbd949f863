"""One life of a consumer of a group: from its start to its end, whatever ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)

from events.kafka_closing import CLOSE_SECONDS, close_consumer, start_client, told
from events.kafka_connection import KafkaConnection
from events.kafka_topics import Topic, ensure_topic
from events.partition_progress import PartitionProgress

log = structlog.get_logger(__name__)

Handle = Callable[[Any], Awaitable[None]]

LOOK_SECONDS = 0.5
"""How long one look for records waits for them."""
COMMIT_PAUSE = 0.1
"""Between two commits: what a crash repeats at most, beside what is under way."""
ALIVE_SECONDS = 30.0
"""How often a consumer that has no room tells its client that it is there; the client waits 300 s for that."""
REBALANCE_SECONDS = 60.0
"""What the division of the partitions among the group's members may take."""
_TAKEN_AWAY = (
    CommitFailedError,
    IllegalGenerationError,
    IllegalStateError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)


class SilentConsumerError(Exception):
    """The consumer has partitions, there are records in them, and it is given none."""

    def __init__(self, lag: int, seconds: float) -> None:
        super().__init__(f"nothing of {lag} waiting records was received for {seconds:.0f} s")


@dataclass
class ConsumerState:
    """How a consumer is doing, for whoever looks after it."""

    handled: int = 0
    """Records that were worked off."""
    in_flight: int = 0
    assigned: int = 0
    """Partitions that are its own now."""
    rebuilds: int = 0
    """Consumers that were thrown away."""
    restarts: int = 0
    """Those of them that were assigned, lagging and silent."""
    problem: str | None = None
    """What keeps it from consuming."""
    failing_since: float | None = None
    """Since when, on the monotonic clock."""


@dataclass(frozen=True, kw_only=True)
class Consuming:
    """What is consumed, and how."""

    topics: Sequence[Topic]
    group: str
    answers: Sequence[Topic] = ()
    """Topics that are written to for what was consumed: created or checked at the start, too."""
    by_key: bool = True
    """Is a record worked on only after the one of the same key before it? Otherwise all are begun as they come."""
    in_flight_limit: int = 200
    """Records that are worked on at the same time."""
    silence_seconds: float = 30.0
    """Silence of a consumer that should hear something, after which it is thrown away."""
    handover_seconds: float = 10.0
    """What records under way get to end when their partition is taken away, or everything stops."""
    session_seconds: float = 10.0
    """Silence after which the others of the group take over what a dead consumer had."""
    member: str | None = None
    """A name of this consumer that no other one of the group has. One that comes back under it within the session has
    its partitions at once, and whoever had them under this name before is shut out."""
    leaving: Callable[[Collection[TopicPartition]], None] | None = None
    """Told before partitions are divided anew, which ones this consumer is about to lose."""


class ConsumerSession:
    """Reads, hands over, commits, and watches itself, until it is told to stop or something is wrong."""

    def __init__(self, connection: KafkaConnection, consuming: Consuming, handle: Handle, state: ConsumerState) -> None:
        self._connection = connection
        self._consuming = consuming
        self._handle = handle
        self._state = state
        self._consumer: Any = None
        self._progress: dict[TopicPartition, PartitionProgress] = {}
        self._tails: dict[tuple[TopicPartition, bytes], asyncio.Task[None]] = {}
        self._running: dict[asyncio.Task[None], TopicPartition] = {}
        self._room = asyncio.Event()
        self._done = asyncio.Event()
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._committing = asyncio.Lock()
        self._commits: set[asyncio.Task[None]] = set()
        self._heard_at = time.monotonic()
        self.ready = asyncio.Event()
        """It has been given its share of the partitions, which may be none."""

    async def run(self, stopping: asyncio.Event) -> None:
        """Consume until `stopping`, and then end in order.

        Raises:
            Exception: whatever was wrong. What was not committed will be delivered again.
        """
        loops: list[asyncio.Task[Any]] = []
        try:
            await self._start()
            loops = [
                asyncio.create_task(loop(), name=f"consumer {loop.__name__}")
                for loop in (self._read, self._commit_for_ever, self._watch, stopping.wait)
            ]
            ends: list[asyncio.Future[Any]] = [*loops, self._failure]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for ended in [one for one in ends if one.done()]:
                ended.result()
            loops[0].cancel()
            await self._hand_over(set(self._running))
            await self._commit(set(self._progress))
        finally:
            await self._close(loops)

    # Life

    async def _start(self) -> None:
        async with asyncio.timeout(self._connection.timeout):
            for topic in (*self._consuming.topics, *self._consuming.answers):
                await ensure_topic(self._connection, topic)
        self._consumer = AIOKafkaConsumer(
            **self._connection.options(),
            group_id=self._consuming.group,
            group_instance_id=self._consuming.member,
            session_timeout_ms=int(self._consuming.session_seconds * 1000),
            heartbeat_interval_ms=int(self._consuming.session_seconds * 1000 / 3),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            max_partition_fetch_bytes=max(topic.largest_record for topic in self._consuming.topics),
        )
        self._consumer.subscribe([topic.name for topic in self._consuming.topics], listener=self)
        async with asyncio.timeout(REBALANCE_SECONDS):
            await start_client(self._consumer)

    async def _close(self, loops: Sequence[asyncio.Task[Any]]) -> None:
        tasks = [*loops, *self._running]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if not self._failure.cancel():
            self._failure.exception()  # seen, also where something else has ended the session before
        self._state.assigned = 0
        if self._consumer is not None:
            await close_consumer(self._consumer)
        await self._forget_commits()

    async def _forget_commits(self) -> None:
        """Once the client is closed, those without an answer fail."""
        if not self._commits:
            return
        await asyncio.wait(self._commits, timeout=CLOSE_SECONDS)
        for task in self._commits:
            task.cancel()
        await asyncio.wait(self._commits)
        for task in self._commits:
            if not task.cancelled():
                task.exception()  # seen

    # Reading

    async def _read(self) -> None:
        while True:
            await self._has_room()
            await self._take(LOOK_SECONDS, at_most=self._consuming.in_flight_limit - len(self._running))

    async def _take(self, seconds: float, *, at_most: int) -> None:
        """Begin to work on what is there, or comes in this time."""
        async with asyncio.timeout(REBALANCE_SECONDS):
            found = await self._consumer.getmany(timeout_ms=int(seconds * 1000), max_records=at_most)
        for partition, records in found.items():
            for record in records:
                self._begin(partition, record)

    async def _has_room(self) -> None:
        while len(self._running) >= self._consuming.in_flight_limit:
            self._room.clear()
            try:
                async with asyncio.timeout(ALIVE_SECONDS):
                    await self._room.wait()
            except TimeoutError:
                await self._say_alive()

    async def _say_alive(self) -> None:
        """Look for records without taking any: a client that never looks would be put out of its group."""
        paused = self._consumer.assignment()
        self._consumer.pause(*paused)
        await self._take(0, at_most=1)  # there can be one if the partitions have changed in between
        self._consumer.resume(*(paused & self._consumer.assignment()))

    def _begin(self, partition: TopicPartition, record: Any) -> None:
        """Work on a record, behind those of the same key that are under way."""
        self._heard_at = time.monotonic()
        progress = self._progress.setdefault(partition, PartitionProgress())
        progress.begin(record.offset)
        lane = (partition, record.key) if self._consuming.by_key and record.key is not None else None
        task = asyncio.create_task(
            self._behind(self._tails.get(lane) if lane else None, record), name=f"record {record.offset}"
        )
        self._running[task] = partition
        self._state.in_flight = len(self._running)
        if lane:
            self._tails[lane] = task
        task.add_done_callback(partial(self._ended, progress, record.offset, lane))

    async def _behind(self, before: asyncio.Task[None] | None, record: Any) -> None:
        if before is not None:
            await asyncio.wait([before])
            before.result()  # where it failed, this one must not overtake it
        await self._handle(record)

    def _ended(
        self,
        progress: PartitionProgress,
        offset: int,
        lane: tuple[TopicPartition, bytes] | None,
        task: asyncio.Task[None],
    ) -> None:
        del self._running[task]
        self._state.in_flight = len(self._running)
        self._heard_at = time.monotonic()
        if lane is not None and self._tails.get(lane) is task:
            del self._tails[lane]
        self._room.set()
        if task.cancelled():
            return
        if error := task.exception():
            if not self._failure.done():
                self._failure.set_exception(error)
            return
        progress.end(offset)
        self._state.handled += 1
        self._done.set()

    # Committing

    async def _commit_for_ever(self) -> None:
        while True:
            await self._done.wait()
            self._done.clear()
            await self._commit(set(self._progress))
            await asyncio.sleep(COMMIT_PAUSE)

    async def _commit(self, partitions: Collection[TopicPartition]) -> None:
        """Commit how far these have come. What was taken away is another consumer's to commit."""
        async with self._committing:
            progress = {one: self._progress[one] for one in partitions if one in self._progress}
            offsets = {one: offset for one, its in progress.items() if (offset := its.to_commit()) is not None}
            if not offsets:
                return
            try:
                await self._send_commit(offsets)
            except _TAKEN_AWAY as error:
                log.info("consumer.not_committed", error=told(error))
                return
            for one, offset in offsets.items():
                progress[one].committed(offset)

    async def _send_commit(self, offsets: dict[TopicPartition, int]) -> None:
        """In a task that is not broken off: the client's request would fail later, where nobody asks for it."""
        task = asyncio.create_task(self._consumer.commit(offsets), name="commit offsets")
        self._commits.add(task)
        done, _ = await asyncio.wait([task], timeout=self._connection.timeout)
        if not done:
            raise TimeoutError
        self._commits.discard(task)
        task.result()

    # Sharing with others

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """They may be another consumer's next: what is under way ends, or is broken off, and only then they go."""
        self._state.assigned = 0
        if self._consuming.leaving is not None:
            self._consuming.leaving(revoked)
        await self._hand_over({task for task, partition in self._running.items() if partition in revoked})
        try:
            await self._commit(revoked)
        except Exception as error:  # noqa: BLE001 - then the next consumer repeats a little more
            log.warning("consumer.not_committed", error=told(error))
        for partition in revoked:
            self._progress.pop(partition, None)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """From now on these are read."""
        self._heard_at = time.monotonic()
        self._state.assigned = len(assigned)
        self._state.problem = self._state.failing_since = None
        self.ready.set()
        log.info("consumer.assigned", group=self._consuming.group, partitions=len(assigned))

    async def _hand_over(self, tasks: set[asyncio.Task[None]]) -> None:
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=self._consuming.handover_seconds)
        for task in late:
            task.cancel()
        if late:
            log.warning("consumer.broken_off", group=self._consuming.group, records=len(late))
            await asyncio.wait(late)

    # Watching

    async def _watch(self) -> None:
        """A client can stop fetching for good without an error: it is caught by what it should have fetched."""
        while True:
            await asyncio.sleep(self._consuming.silence_seconds / 4)
            if self._is_silent() and (lag := await self._lag()) and self._is_silent():
                self._state.restarts += 1
                raise SilentConsumerError(lag, time.monotonic() - self._heard_at)

    def _is_silent(self) -> bool:
        """Has it heard nothing for long, and does it not work on what it has heard?"""
        silence = time.monotonic() - self._heard_at
        return bool(self._state.assigned) and not self._running and silence > self._consuming.silence_seconds

    async def _lag(self) -> int:
        """Records that wait for this consumer."""
        partitions = self._consumer.assignment()
        async with asyncio.timeout(self._connection.timeout):
            ends = await self._consumer.end_offsets(partitions)
            return sum([ends[one] - await self._consumer.position(one) for one in partitions])


ConsumerRebalanceListener.register(ConsumerSession)
