"""`OrderedConsumer`: records of some topics, worked off in the order of their keys and otherwise at the same time.

    read ─► one task per record, behind the one of the same key ─► done ─► the offset is committed, with all before it

A record is delivered until it was worked off, so at least once. Whatever goes wrong, with the brokers or in a handler,
the consumer is thrown away and a new one goes on from what is committed. When partitions go to another consumer of the
group, what is under way in them ends first.
"""

from __future__ import annotations

import asyncio
import random
import time

import structlog

from events.consumer_session import ConsumerSession, ConsumerState, Consuming, Handle, SilentConsumerError
from events.kafka_closing import told
from events.kafka_connection import KafkaConnection

log = structlog.get_logger(__name__)

FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.1, 5.0
"""Seconds until a new consumer is tried; they double."""
LASTED_SECONDS = 30.0
"""A consumer that has lived so long was not wrong from the beginning: the back-off begins anew."""


class OrderedConsumer:
    """Consumes as a member of a group. `run` it; any number of processes may.

    Args:
        handle: works off one record, and returns when its effect is durable. It has to bear that a record comes again,
            and to mind time: what it raises costs the consumer, and what it keeps holds back those of the same key.
    """

    def __init__(self, connection: KafkaConnection, consuming: Consuming, handle: Handle) -> None:
        self._connection = connection
        self._consuming = consuming
        self._handle = handle
        self._stopping = asyncio.Event()
        self._stopped = asyncio.Event()
        self.ready = asyncio.Event()
        """It has its share of the partitions, or the brokers do not answer."""
        self.state = ConsumerState()
        self.session: ConsumerSession | None = None
        """The life it is in."""

    def stop(self) -> None:
        """Let `run` end once what is under way has ended, or after some seconds."""
        self._stopping.set()

    async def finish(self) -> None:
        """Stop, and return once that is done."""
        self.stop()
        await self._stopped.wait()

    async def run_until_cancelled(self) -> None:
        """As `run`, but a consumer that was stopped does not end: for whoever takes an end for a fault."""
        await self.run()
        await asyncio.Event().wait()

    async def run(self) -> None:
        """Consume until stopped or cancelled."""
        back_off = FIRST_BACK_OFF
        try:
            while not self._stopping.is_set():
                began = time.monotonic()
                try:
                    await self._live()
                except Exception as error:  # noqa: BLE001 - whatever it was: the consumer cannot be trusted any more
                    if time.monotonic() - began > LASTED_SECONDS:
                        back_off = FIRST_BACK_OFF
                    self._fails(error)
                    await _set_within(self._stopping, random.uniform(back_off / 2, back_off))
                    back_off = min(2 * back_off, LONGEST_BACK_OFF)
        finally:
            self._stopped.set()

    async def _live(self) -> None:
        session = self.session = ConsumerSession(self._connection, self._consuming, self._handle, self.state)
        announcing = asyncio.create_task(self._announce(session), name="consumer ready")
        try:
            await session.run(self._stopping)
        finally:
            announcing.cancel()

    async def _announce(self, session: ConsumerSession) -> None:
        await session.ready.wait()
        self.ready.set()

    def _fails(self, error: Exception) -> None:
        action = "consumer.silent" if isinstance(error, SilentConsumerError) else "consumer.thrown_away"
        log.warning(action, group=self._consuming.group, error=told(error))
        self.state.rebuilds += 1
        self.state.problem = told(error)
        self.state.failing_since = self.state.failing_since or time.monotonic()
        self.ready.set()


async def _set_within(event: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
