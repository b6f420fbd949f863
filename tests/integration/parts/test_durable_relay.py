"""`DurableRelay`: from the log to the bus, from where it was, whoever has published before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import pytest

from events.bus import EventBusError
from events.envelope import Outgoing
from execution.domain.commands import Cancel
from execution.durable_relay import DRAIN_SECONDS, DurableRelay
from execution.errors import EventsNotPublishedError
from execution.event_emitter import ExecutionEventEmitter
from execution.repository.database import Database
from execution.repository.event_log import EventLog
from execution.repository.log_position import LogPosition
from execution.repository.relay_cursors import RelayCursorStore
from execution.repository.repository import ExecutionRepository
from execution.state_manager import ExecutionStateManager
from tests.support.given import submission
from tests.support.stored import AnyConnection, submit
from tests.support.waiting import eventually, no_leaked_tasks

SOON = 10.0
NEVER = 3_600.0
LEASE = 5.0
"""Longer than a busy machine keeps a relay from extending it: one that loses it publishes something twice."""


class KeepingBus:
    """A bus that keeps what it is given, or takes nothing while it is told so."""

    def __init__(self) -> None:
        self.taken: list[Outgoing] = []
        self.takes = asyncio.Event()
        self.takes.set()
        self.refused = asyncio.Event()

    async def publish_event(self, event_type: str, payload: dict[str, Any]) -> None:
        raise AssertionError("the relay publishes whole batches")

    async def publish(self, envelopes: Sequence[Outgoing]) -> None:
        if not self.takes.is_set():
            self.refused.set()
            raise EventBusError("not now")
        self.taken += envelopes

    def versions(self, subject: object) -> list[int]:
        return [one.sequence for one in self.taken if one.subject == str(subject)]


def relay_of(database: Database, bus: KeepingBus, **changes: Any) -> DurableRelay:
    options: dict[str, Any] = {"name": "events", "poll_interval": 0.05, "lease_seconds": LEASE, "batch_limit": 100}
    emitter = ExecutionEventEmitter(bus)
    return DurableRelay(EventLog(database), emitter, RelayCursorStore(database), database.wakeups, **options | changes)


@asynccontextmanager
async def running(relay: DurableRelay) -> AsyncIterator[None]:
    """Until the end of the block; then as if its process had been killed, but for what a cancellation tidies up."""
    task = asyncio.create_task(relay.run(), name="relay under test")
    try:
        async with asyncio.timeout(SOON):
            await relay.ready.wait()
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def has_taken(bus: KeepingBus, count: int) -> None:
    await eventually(lambda: len(bus.taken) >= count, within=SOON, what=f"{count} events on the bus")


async def test_what_is_written_is_published_without_a_poll(database: Database, repository: ExecutionRepository) -> None:
    bus = KeepingBus()
    manager = ExecutionStateManager(repository, ExecutionEventEmitter(bus))
    async with no_leaked_tasks(), running(relay_of(database, bus, poll_interval=NEVER)):
        execution = await manager.create(submission())
        await manager.apply(execution.id, Cancel())
        await has_taken(bus, 4)
    assert bus.versions(execution.id) == [1, 2, 3, 4]


async def test_other_processes_hear_that_it_follows_the_log(database: Database, database_url: str) -> None:
    async with Database(database_url) as other, running(relay_of(database, KeepingBus())):
        await eventually(
            lambda: other.wakeups.is_followed, within=SOON, what="the other process has heard of the relay"
        )


async def test_what_was_there_before_is_published_and_nothing_twice(
    database: Database, repository: ExecutionRepository
) -> None:
    bus = KeepingBus()
    executions = [await submit(repository) for _ in range(20)]
    for _ in range(2):
        async with running(relay_of(database, bus, batch_limit=3)):
            await has_taken(bus, 40)
    assert [bus.versions(one.id) for one in executions] == [[1, 2]] * 20


async def test_what_a_dead_relay_had_not_kept_is_repeated(
    database: Database, repository: ExecutionRepository, sql: AnyConnection
) -> None:
    bus = KeepingBus()
    execution = await submit(repository)
    async with running(relay_of(database, bus)):
        await has_taken(bus, 2)
    await sql.execute("UPDATE relay_cursors SET position = '1:1:'")
    async with running(relay_of(database, bus)):
        await has_taken(bus, 4)
    assert bus.versions(execution.id) == [1, 2, 1, 2]


async def test_who_deletes_as_soon_as_it_may_takes_no_event_from_a_relay(
    database: Database, repository: ExecutionRepository
) -> None:
    bus = KeepingBus()
    manager = ExecutionStateManager(repository, ExecutionEventEmitter(bus))
    executions = [await manager.create(submission()) for _ in range(30)]
    refusals = 0

    async def end_and_delete(execution_id: UUID) -> None:
        nonlocal refusals
        await manager.apply(execution_id, Cancel())
        while True:
            with suppress(EventsNotPublishedError):
                return await manager.delete(execution_id)
            refusals += 1
            await asyncio.sleep(0.01)

    async with running(relay_of(database, bus, batch_limit=3)):
        await has_taken(bus, 60)
    bus.takes.clear()
    deleting = asyncio.gather(*(end_and_delete(one.id) for one in executions))
    async with asyncio.timeout(SOON):
        while not deleting.done():  # relays that die in the middle, each with a few batches behind it
            async with running(relay_of(database, bus, batch_limit=3)):
                bus.takes.set()
                taken = len(bus.taken)
                await eventually(lambda: deleting.done() or len(bus.taken) > taken, within=SOON, what="more events")  # noqa: B023
        await deleting
    assert refusals, "nothing was deleted before it was published"
    assert [sorted(set(bus.versions(one.id))) for one in executions] == [[1, 2, 3, 4]] * 30


async def test_what_a_death_can_repeat_is_bounded(
    database: Database, repository: ExecutionRepository, sql: AnyConnection
) -> None:
    bus = KeepingBus()
    bus.takes.clear()
    for _ in range(30):
        await submit(repository)
    async with running(relay_of(database, bus, batch_limit=10)):
        async with sql.transaction():
            await sql.execute("LOCK relay_cursors IN SHARE MODE")  # it holds the lease, and cannot move the cursor
            bus.takes.set()
            await has_taken(bus, 20)
            with pytest.raises(AssertionError, match="more than three batches"):
                await eventually(lambda: len(bus.taken) > 36, within=0.5, what="more than three batches")
        await has_taken(bus, 60)


async def test_it_publishes_no_faster_than_it_may(database: Database, repository: ExecutionRepository) -> None:
    bus = KeepingBus()
    for _ in range(20):
        await submit(repository)
    relay = relay_of(database, bus, batch_limit=10, most_per_second=50)
    began = time.monotonic()
    async with running(relay):
        await has_taken(bus, 40)
        assert time.monotonic() - began > 0.5, "40 events at 50 per second"
        async with asyncio.timeout(SOON):  # nor does it keep whoever stops it
            await relay.finish()


async def test_it_waits_for_the_bus_and_goes_on_where_it_was(
    database: Database, repository: ExecutionRepository
) -> None:
    bus = KeepingBus()
    relay = relay_of(database, bus)
    bus.takes.clear()
    execution = await submit(repository)
    async with running(relay):
        await asyncio.wait_for(bus.refused.wait(), SOON)
        assert relay.state.problem == "the event bus did not take what was published: not now"
        facts = await RelayCursorStore(database).read("events")
        assert facts is not None
        assert facts.position == LogPosition(1, 1)
        bus.takes.set()
        await has_taken(bus, 2)
        await eventually(lambda: relay.state.problem is None, within=SOON, what="no problem any more")
    assert bus.versions(execution.id) == [1, 2]
    assert relay.state.failures > 0


async def test_one_publishes_and_the_other_takes_over(database: Database, repository: ExecutionRepository) -> None:
    first, second = KeepingBus(), KeepingBus()
    standby = relay_of(database, second)
    async with running(relay_of(database, first)), running(standby):
        await submit(repository)
        await has_taken(first, 2)
        assert (standby.state.is_active, second.taken) == (False, [])
    async with running(standby):
        later = await submit(repository)
        await has_taken(second, 2)
    assert {one.subject for one in second.taken} == {str(later.id)}


async def test_a_relay_that_has_lost_its_lease_stands_by(
    database: Database, repository: ExecutionRepository, sql: AnyConnection
) -> None:
    relay = relay_of(database, KeepingBus(), lease_seconds=0.3)
    async with running(relay):
        await eventually(lambda: relay.state.is_active, within=SOON, what="the lease")
        await sql.execute("UPDATE relay_cursors SET epoch = epoch + 1, expires_at = now() + interval '1 hour'")
        await eventually(lambda: not relay.state.is_active, within=SOON, what="the loss")


async def test_a_stop_publishes_what_is_there_and_hands_over(
    database: Database, repository: ExecutionRepository
) -> None:
    bus = KeepingBus()
    relay = relay_of(database, bus, batch_limit=2)
    async with running(relay):
        for _ in range(10):
            await submit(repository)
        await relay.finish()
        assert len(bus.taken) == 20
    facts = await RelayCursorStore(database).read("events")
    assert facts is not None
    assert not facts.is_held


async def test_a_stop_does_not_wait_for_a_bus_that_takes_nothing(
    database: Database, repository: ExecutionRepository
) -> None:
    bus = KeepingBus()
    bus.takes.clear()
    relay = relay_of(database, bus)
    await submit(repository)
    async with running(relay):
        await asyncio.wait_for(bus.refused.wait(), SOON)
        async with asyncio.timeout(DRAIN_SECONDS / 2):
            await relay.finish()


async def test_a_cursor_of_another_database_is_not_gone_on_from(
    database: Database, repository: ExecutionRepository, sql: AnyConnection
) -> None:
    bus = KeepingBus()
    await submit(repository)
    async with running(relay_of(database, bus)):
        await has_taken(bus, 2)
    await sql.execute("UPDATE relay_cursors SET position = '9000000000:9000000000:'")
    relay = relay_of(database, bus)
    async with running(relay):
        assert relay.state.problem is not None
        assert "a position that this log has not come to" in relay.state.problem
