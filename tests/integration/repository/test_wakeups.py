"""Wake-ups between processes: sent once for a burst, heard again after a lost connection."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from events.bus import InProcessEventBus
from execution.domain.commands import Start
from execution.event_emitter import ExecutionEventEmitter
from execution.ids import new_id
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from execution.repository.wakeups import CALM_SECONDS, CHANNEL, COALESCE_SECONDS, FEW_SIGNALS, Topic
from execution.state_manager import ExecutionStateManager
from tests.support.given import submission
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually, no_leaked_tasks

WITHIN = 5.0


class Ear:
    """Hears one topic; the first signal after a start says that the listening has begun."""

    def __init__(self, database: Database, topic: Topic) -> None:
        self.heard = 0
        self._woken = asyncio.Event()
        self.end = database.wakeups.subscribe(topic, self._wake)

    def _wake(self) -> None:
        self.heard += 1
        self._woken.set()

    async def woken(self) -> None:
        async with asyncio.timeout(WITHIN):
            await self._woken.wait()
        self._woken.clear()


@pytest.fixture
async def sender(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url) as database:
        yield database


@pytest.fixture
async def receiver(database_url: str, sender: Database) -> AsyncIterator[Database]:
    """One that listens, and of which the sender knows."""
    async with Database(database_url) as database:
        both = sender.wakeups, database.wakeups
        await eventually(lambda: all(one.has_peers for one in both), within=WITHIN, what="they know of each other")
        yield database


async def test_the_first_signal_of_a_round_and_its_end_wake_this_process(database_url: str) -> None:
    async with Database(database_url, notify=False) as deaf:  # or the beginning of its listening would be heard, too
        ear = Ear(deaf, Topic.WORK)
        for topic in (Topic.WORK, Topic.LOG, Topic.WORK):
            deaf.wakeups.signal(topic)
        assert ear.heard == 1
        await asyncio.sleep(0)
        assert ear.heard == 2
        await asyncio.sleep(0)
        assert ear.heard == 2


async def test_a_process_that_knows_of_no_other_says_hello_and_nothing_else(
    database_url: str, sql: AnyConnection
) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()
    await sql.add_listener(CHANNEL, lambda *arguments: heard.put_nowait(str(arguments[3]).split(" ", 1)[1]))
    async with Database(database_url) as alone:
        async with asyncio.timeout(WITHIN):
            assert await heard.get() == "hello"
            alone.wakeups.signal(Topic.WORK)
            await asyncio.sleep(0)
            await sql.execute("SELECT pg_notify($1, 'somebody hello')", CHANNEL)
            assert [await heard.get(), await heard.get()] == ["hello", "here"]
            alone.wakeups.signal(Topic.WORK)
            assert await heard.get() == "work"


async def test_and_other_processes_soon(sender: Database, receiver: Database) -> None:
    work, control = Ear(receiver, Topic.WORK), Ear(receiver, Topic.CONTROL)
    sender.wakeups.signal(Topic.WORK)
    await work.woken()
    assert control.heard == 0
    sender.wakeups.signal(Topic.CONTROL)
    sender.wakeups.signal(Topic.WORK)
    await control.woken()


class Told:
    """Hears of work, and of which execution."""

    def __init__(self, database: Database) -> None:
        self.of: asyncio.Queue[UUID | None] = asyncio.Queue()
        self.end = database.wakeups.subscribe_to_work(lambda: self.of.put_nowait(None), self.of.put_nowait)

    async def next(self) -> UUID | None:
        async with asyncio.timeout(WITHIN):
            return await self.of.get()


class TestWhichExecution:
    async def test_one_alone(self, sender: Database, receiver: Database) -> None:
        told, ear, own = Told(receiver), Ear(receiver, Topic.WORK), Told(sender)
        for one in (new_id(), new_id()):
            sender.wakeups.signal(Topic.LOG)
            sender.wakeups.signal(Topic.WORK, one)
            assert await told.next() == one
            await ear.woken()  # who wants to know of work only is woken as ever
            assert await own.next() is None, "this process sees to its own without a word"

    @pytest.mark.parametrize("about", [(new_id(), new_id()), (new_id(), None), (None, new_id()), (None,)])
    async def test_not_where_there_is_more(
        self, sender: Database, receiver: Database, about: tuple[UUID | None, ...]
    ) -> None:
        told = Told(receiver)
        for one in about:
            sender.wakeups.signal(Topic.WORK, one)
        assert await told.next() is None
        await asyncio.sleep(COALESCE_SECONDS)
        after = new_id()
        sender.wakeups.signal(Topic.WORK, after)
        assert await told.next() == after

    async def test_one_that_comes_before_the_other_was_said_is_not_forgotten(
        self, sender: Database, receiver: Database
    ) -> None:
        told = Told(receiver)
        sender.wakeups.signal(Topic.WORK, new_id())
        await asyncio.sleep(0)  # its round has ended, and the notification is on its way or about to be
        sender.wakeups.signal(Topic.WORK, second := new_id())
        while await told.next() not in {None, second}:
            pass

    async def test_whoever_has_ended_hears_nothing_and_is_held_by_nothing(
        self, sender: Database, receiver: Database
    ) -> None:
        ended, told = Told(receiver), Told(receiver)
        ended.end()
        sender.wakeups.signal(Topic.WORK, new_id())
        await told.next()
        assert ended.of.empty()
        held = weakref.ref(ended)
        del ended
        gc.collect()
        assert held() is None

    async def test_it_is_said_of_what_can_be_claimed(self, sender: Database, receiver: Database) -> None:
        """What is due later needs a worker that asks when, and not one that finds nothing."""
        told = Told(receiver)
        manager = ExecutionStateManager(ExecutionRepository(sender), ExecutionEventEmitter(InProcessEventBus()))
        due = await manager.create(submission())
        assert await told.next() == due.id
        await manager.create(submission(run_at=sender.clock.now() + timedelta(minutes=1)))
        assert await told.next() is None
        created = await manager.create(submission(start=False))
        await manager.apply(created.id, Start())
        assert await told.next() == created.id

    async def test_what_is_no_id_is_work_all_the_same(self, receiver: Database, sql: AnyConnection) -> None:
        told = Told(receiver)
        await sql.execute("SELECT pg_notify($1, 'somebody only:nonsense work')", CHANNEL)
        assert await told.next() is None


async def test_a_burst_is_one_notification(sender: Database, receiver: Database) -> None:
    log, deadline = Ear(receiver, Topic.LOG), Ear(receiver, Topic.DEADLINE)
    for _ in range(1000):
        sender.wakeups.signal(Topic.LOG)
    sender.wakeups.signal(Topic.DEADLINE)
    await deadline.woken()
    assert log.heard == 1


async def test_one_signal_after_another_is_not_held_back(sender: Database, receiver: Database) -> None:
    """The fastest of ten is faster than the pause of a burst, in which each of them would have to wait."""
    work = Ear(receiver, Topic.WORK)
    taken = []
    for _ in range(10):
        sender.wakeups.signal(Topic.WORK)
        signalled = time.perf_counter()
        await work.woken()
        taken.append(time.perf_counter() - signalled)
    assert min(taken[1:]) < COALESCE_SECONDS


async def test_what_is_said_calmly_waits_its_own_time_and_not_the_rest_of_an_earlier_one(
    sender: Database, receiver: Database
) -> None:
    """Else a claim was told of in the middle of its run, by what was left of the time of the claim before."""
    log, work = Ear(receiver, Topic.LOG), Ear(receiver, Topic.WORK)
    for _ in range(5):
        sender.wakeups.signal(Topic.LOG)
        await asyncio.sleep(CALM_SECONDS / 2)
        sender.wakeups.signal(Topic.WORK)
        await work.woken()
        await log.woken()  # it went along
        sender.wakeups.signal(Topic.LOG)
        signalled = time.perf_counter()
        await log.woken()
        assert time.perf_counter() - signalled >= 0.9 * CALM_SECONDS


async def test_the_connection_that_listens_is_the_one_that_notifies(
    sender: Database, receiver: Database, sql: AnyConnection
) -> None:
    """PostgreSQL wakes every connection that listens, for each NOTIFY, but the one that sent it."""
    work = Ear(receiver, Topic.WORK)
    sender.wakeups.signal(Topic.WORK)
    await work.woken()
    rows = await sql.fetch(
        "SELECT query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        " AND (query LIKE 'LISTEN%' OR query LIKE '%pg_notify%')"
    )
    assert len(rows) == 2, "one of the sender and one of the receiver"


async def test_who_follows_the_log_is_told_of_it_at_once(sender: Database, receiver: Database) -> None:
    """The fastest of many is faster than what waits for other news; before, none is."""
    log = Ear(receiver, Topic.LOG)

    async def taken() -> float:
        sender.wakeups.signal(Topic.LOG)
        signalled = time.perf_counter()
        await log.woken()
        return time.perf_counter() - signalled

    assert min([await taken() for _ in range(FEW_SIGNALS)]) > 0.8 * CALM_SECONDS
    receiver.wakeups.follow(lambda: None)()
    await eventually(lambda: sender.wakeups.is_followed, within=WITHIN, what="it has heard of the follower")
    assert not receiver.wakeups.is_followed, "its own following is none of another process"
    async with asyncio.timeout(WITHIN):
        while await taken() >= CALM_SECONDS:
            pass


async def test_who_comes_later_hears_of_those_who_follow_and_they_of_it(database_url: str, sender: Database) -> None:
    sender.wakeups.follow(lambda: None)
    async with Database(database_url) as later:
        await eventually(lambda: later.wakeups.is_followed, within=WITHIN, what="it has been answered")
        assert not sender.wakeups.is_followed
    later_too = Database(database_url)
    later_too.wakeups.follow(lambda: None)  # before it listens
    async with later_too:
        await eventually(lambda: sender.wakeups.is_followed, within=WITHIN, what="it has said so with its hello")


async def test_a_stream_of_signals_is_a_trickle_of_notifications(sender: Database, receiver: Database) -> None:
    log, deadline = Ear(receiver, Topic.LOG), Ear(receiver, Topic.DEADLINE)
    began = time.perf_counter()
    while time.perf_counter() < began + 0.5:
        sender.wakeups.signal(Topic.LOG)
        await asyncio.sleep(0)
    sender.wakeups.signal(Topic.DEADLINE)
    await deadline.woken()
    windows = (time.perf_counter() - began) / COALESCE_SECONDS
    assert log.heard <= windows + 2, "more than one notification in the time of a pause"


async def test_its_own_notification_wakes_nobody_twice(sender: Database, receiver: Database) -> None:
    own, others = Ear(sender, Topic.WORK), Ear(receiver, Topic.WORK)
    sender.wakeups.signal(Topic.WORK)
    await others.woken()
    heard = own.heard
    receiver_answers = Ear(sender, Topic.CONTROL)
    receiver.wakeups.signal(Topic.CONTROL)
    await receiver_answers.woken()
    assert own.heard == heard, "what the sender notified before has been delivered to it by now"


async def test_after_a_lost_connection_it_listens_and_notifies_again(
    sender: Database, receiver: Database, sql: AnyConnection
) -> None:
    ear = Ear(receiver, Topic.WORK)
    await sql.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await ear.woken()  # whatever was signalled while it did not listen
    heard = ear.heard

    async def until_heard() -> None:
        while ear.heard == heard:
            sender.wakeups.signal(Topic.WORK)
            await sql.execute("SELECT 1")

    async with asyncio.timeout(WITHIN):
        await until_heard()


async def test_a_notification_of_a_later_release_is_ignored(receiver: Database, sql: AnyConnection) -> None:
    ear = Ear(receiver, Topic.WORK)
    await sql.execute("SELECT pg_notify($1, 'somebody unheard_of work')", CHANNEL)
    await ear.woken()
    await sql.execute("SELECT pg_notify($1, '')", CHANNEL)
    await sql.execute("SELECT pg_notify($1, 'somebody work')", CHANNEL)
    await ear.woken()


async def test_an_ended_subscription_hears_nothing(sender: Database) -> None:
    ear = Ear(sender, Topic.WORK)
    ear.end()
    sender.wakeups.signal(Topic.WORK)
    await asyncio.sleep(0)
    assert ear.heard == 0


async def test_switched_off_it_wakes_only_its_own_process(database_url: str, sql: AnyConnection) -> None:
    async with no_leaked_tasks(), Database(database_url, notify=False) as database:
        ear = Ear(database, Topic.WORK)
        database.wakeups.signal(Topic.WORK)
        await ear.woken()
        assert not await sql.fetch(
            "SELECT FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )


async def test_a_stop_ends_its_tasks(database_url: str) -> None:
    async with no_leaked_tasks():
        database = Database(database_url)
        await database.start()
        await database.stop()
        await database.wakeups.stop()
