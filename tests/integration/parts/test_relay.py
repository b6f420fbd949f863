"""`LogRelay`: from the log to the bus, in order, as long as somebody listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from events.bus import InProcessEventBus, Subscription
from execution.domain.commands import Cancel
from execution.domain.execution import Execution
from execution.event_emitter import ExecutionEventEmitter
from execution.lifecycle import kept_running
from execution.relay import LogRelay
from execution.repository.database import Database
from execution.repository.event_log import EventLog, LogBatch
from execution.repository.log_position import LogPosition
from execution.repository.repository import ExecutionRepository
from execution.state_manager import ExecutionStateManager
from tests.support.given import submission
from tests.support.waiting import no_leaked_tasks

SOON = 10.0
NEVER = 3600.0


class HeldLog(EventLog):
    """Answers a read only when the test lets it: with what was there when it was asked."""

    def __init__(self, db: Database) -> None:
        super().__init__(db)
        self.has_read = asyncio.Event()
        self.let_go = asyncio.Event()
        self.let_go.set()

    async def read(self, after: LogPosition, upto: LogPosition | None = None, **options: Any) -> LogBatch:
        answer = await super().read(after, upto, **options)
        if answer.events:
            self.has_read.set()
            await self.let_go.wait()
        return answer


@asynccontextmanager
async def relaying(database: Database, log: EventLog) -> AsyncIterator[tuple[InProcessEventBus, ExecutionStateManager]]:
    bus = InProcessEventBus()
    emitter = ExecutionEventEmitter(bus)
    relay = LogRelay(log, emitter, database.wakeups, is_heard=lambda: bus.has_subscribers, poll_interval=NEVER)
    bus.feed_from(relay.attach)
    async with kept_running("relay", relay.run):
        yield bus, ExecutionStateManager(ExecutionRepository(database), emitter)


async def heard(subscription: Subscription, count: int) -> list[tuple[str, int]]:
    async with asyncio.timeout(SOON):
        events = [await subscription.get() for _ in range(count)]
    return [(event.payload["execution_id"], event.payload["version"]) for event in events]


def of(execution: Execution, *versions: int) -> list[tuple[str, int]]:
    return [(str(execution.id), version) for version in versions]


async def test_what_is_written_is_said_without_a_poll(database: Database) -> None:
    async with no_leaked_tasks(), relaying(database, EventLog(database)) as (bus, manager), bus.subscribe() as ears:
        execution = await manager.create(submission())
        await manager.apply(execution.id, Cancel())
        assert await heard(ears, 4) == of(execution, 1, 2, 3, 4)


async def test_what_was_written_before_anybody_listened_is_not(database: Database) -> None:
    async with relaying(database, EventLog(database)) as (bus, manager):
        await manager.create(submission())
        async with bus.subscribe() as ears:
            later = await manager.create(submission())
            assert await heard(ears, 2) == of(later, 1, 2)


async def test_a_read_for_those_who_have_gone_is_not_said_to_those_who_come(database: Database) -> None:
    log = HeldLog(database)
    async with relaying(database, log) as (bus, manager):
        async with bus.subscribe():
            log.let_go.clear()
            await manager.create(submission())
            await log.has_read.wait()
        async with bus.subscribe() as ears:
            log.let_go.set()
            later = await manager.create(submission())
            assert await heard(ears, 2) == of(later, 1, 2)


async def test_it_goes_on_when_the_connections_were_lost(database: Database) -> None:
    async with relaying(database, EventLog(database)) as (bus, manager), bus.subscribe() as ears:
        first = await manager.create(submission())
        assert await heard(ears, 2) == of(first, 1, 2)
        await database.pool.expire_connections()
        second = await manager.create(submission())
        assert await heard(ears, 2) == of(second, 1, 2)
