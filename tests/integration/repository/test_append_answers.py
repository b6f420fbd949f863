"""An answer under an idempotency key that goes along with an append: both are committed, or neither is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from execution.access_errors import IdempotencyKeyInProgressError
from execution.domain.commands import Command, Pause
from execution.domain.decide import decide
from execution.domain.execution import Execution
from execution.errors import DatabaseError, DuplicateExecutionError, VersionConflict
from execution.idempotency import IdempotencyKeys
from execution.keyed_answer import Answer, KeyedAnswer, Reservation
from execution.repository.database import Database
from execution.repository.repository import ExecutionRepository
from tests.support.cutting_proxy import COMMIT, CuttingProxy, Fault, cutting_proxy
from tests.support.given import submission
from tests.support.service import PATIENCE
from tests.support.stored import AnyConnection, assert_row_is_fold, read, submit, waiting_sessions
from tests.support.waiting import eventually

T = "tenant"
THIS = sha256(b"this request").digest()
SENDERS = 100
UNBLOCKED_SECONDS = 4.0
"""Less than the time for which a statement waits for a lock."""


class Sender:
    """Who carries out a request under a key."""

    def __init__(self, database: Database) -> None:
        self.repository = ExecutionRepository(database)
        self.keys = IdempotencyKeys(database, keep_hours=24)

    async def reserved(self, key: str, *, seconds: float = 30) -> Reservation:
        reservation = await self.keys.reserve(T, key, THIS, seconds=seconds)
        assert isinstance(reservation, Reservation)
        return reservation

    def send(self, answer: KeyedAnswer | None, before: Execution | None, command: Command) -> Awaitable[Execution]:
        events = decide(before, command, self.repository.db.clock.now())
        return self.repository.append(before, events, answer=(lambda _: answer) if answer else None)

    async def is_answered(self, key: str) -> Answer | None:
        """What others are told; None: to come again."""
        try:
            answer = await self.keys.reserve(T, key, THIS)
        except IdempotencyKeyInProgressError:
            return None
        assert isinstance(answer, Answer)
        return answer


def answer_under(
    reservation: Reservation, headers: dict[str, str] | None = None, *, is_provisional: bool = False
) -> KeyedAnswer:
    body = f"of {reservation.key}".encode()
    answer = Answer(status=200, headers=headers or {"etag": '"2"'}, body=body)
    return KeyedAnswer(reservation, answer, is_provisional)


FINAL = Answer(status=200, headers={}, body=b"the end")


@pytest.fixture
def sender(database: Database) -> Sender:
    return Sender(database)


class TestBatch:
    async def test_of_changes(self, sender: Sender) -> None:
        """Some carry an answer, and some of these are refused."""
        executions = [await submit(sender.repository) for _ in range(9)]
        answers = [answer_under(await sender.reserved(f"key {number}")) for number in range(6)]
        stale = executions[3:6]
        for one in stale:
            await sender.send(None, one, Pause())
        sent = zip([*answers, None, None, None], executions, strict=True)
        outcomes = await asyncio.gather(*(sender.send(*one, Pause()) for one in sent), return_exceptions=True)
        assert [isinstance(one, VersionConflict) for one in outcomes] == [False] * 3 + [True] * 3 + [False] * 3
        assert [one.is_kept for one in answers] == [True] * 3 + [False] * 3
        told = [await sender.is_answered(f"key {number}") for number in range(6)]
        assert told == [one.answer for one in answers[:3]] + [None] * 3
        for one in executions:
            assert (await assert_row_is_fold(sender.repository, one.id)).version == one.version + 1

    async def test_of_creations(self, sender: Sender) -> None:
        there = await submit(sender.repository)
        answers = [answer_under(await sender.reserved(key)) for key in ("new", "there")]
        commands = [submission(), submission(id=there.id), submission()]
        outcomes = await asyncio.gather(
            *(sender.send(*one) for one in zip([*answers, None], [None] * 3, commands, strict=True)),
            return_exceptions=True,
        )
        assert [isinstance(one, DuplicateExecutionError) for one in outcomes] == [False, True, False]
        assert [one.is_kept for one in answers] == [True, False]
        assert await sender.is_answered("new") == answers[0].answer
        assert await sender.is_answered("there") is None

    async def test_one_that_cannot_be_kept_takes_its_own_effect_along(self, sender: Sender) -> None:
        bad, good, plain = [await submit(sender.repository) for _ in range(3)]
        unstorable = answer_under(await sender.reserved("bad"), {"location": "\0"})
        answer = answer_under(await sender.reserved("good"))
        outcomes = await asyncio.gather(
            sender.send(unstorable, bad, Pause()),
            sender.send(answer, good, Pause()),
            sender.send(None, plain, Pause()),
            return_exceptions=True,
        )
        assert [type(one) for one in outcomes] == [DatabaseError, Execution, Execution]
        assert await assert_row_is_fold(sender.repository, bad.id) == bad
        assert (unstorable.is_kept, answer.is_kept) == (False, True)
        assert await sender.is_answered("bad") is None

    async def test_whoever_has_lost_the_key_has_an_effect_and_keeps_nothing(self, sender: Sender) -> None:
        """The effect carries the command id, so that it is the successor's, too; and so is the answer."""
        execution = await submit(sender.repository)
        slow = answer_under(await sender.reserved("key", seconds=0))
        successor = await sender.reserved("key")
        await sender.send(slow, execution, Pause())
        assert not slow.is_kept
        assert await sender.is_answered("key") is None
        final = await sender.keys.remember(successor, Answer(status=200, headers={}, body=b"of the successor"))
        assert await sender.keys.remember(slow.reservation, slow.answer) == final


class TestProvisional:
    """An answer that is given only if its holder does not come to give another one."""

    @staticmethod
    async def kept_by(sender: Sender) -> KeyedAnswer:
        answer = answer_under(await sender.reserved("key"), is_provisional=True)
        await sender.send(answer, await submit(sender.repository), Pause())
        assert answer.is_kept
        return answer

    async def test_nobody_is_given_it_while_the_holder_has_time(self, sender: Sender) -> None:
        provisional = await self.kept_by(sender)
        assert await sender.is_answered("key") is None
        assert await sender.keys.remember(provisional.reservation, FINAL) is FINAL
        assert await sender.is_answered("key") == FINAL

    async def test_what_somebody_was_given_the_holder_gives_as_well(self, sender: Sender, sql: AnyConnection) -> None:
        provisional = await self.kept_by(sender)
        await sql.execute("UPDATE idempotency_keys SET locked_until = clock_timestamp()")
        assert await sender.is_answered("key") == provisional.answer
        assert await sender.keys.remember(provisional.reservation, FINAL) == provisional.answer
        assert await sender.is_answered("key") == provisional.answer

    async def test_the_holder_may_be_late_as_long_as_nobody_asked(self, sender: Sender, sql: AnyConnection) -> None:
        provisional = await self.kept_by(sender)
        await sql.execute("UPDATE idempotency_keys SET locked_until = clock_timestamp()")
        assert await sender.keys.remember(provisional.reservation, FINAL) is FINAL
        assert await sender.is_answered("key") == FINAL

    @pytest.mark.parametrize("holder_first", [True, False])
    async def test_both_at_once_agree(
        self, sender: Sender, database_url: str, sql: AnyConnection, holder_first: bool
    ) -> None:
        provisional = await self.kept_by(sender)
        async with Database(database_url) as database:
            works = [sender.keys.remember(provisional.reservation, FINAL), Sender(database).is_answered("key")]
            running: list[asyncio.Task[Answer | None]] = []
            async with sql.transaction():
                await sql.execute("UPDATE idempotency_keys SET locked_until = clock_timestamp()")
                for work in works if holder_first else reversed(works):
                    running.append(asyncio.create_task(work))
                    await eventually(
                        partial(has_waiting, sql, len(running)), within=PATIENCE, what="it waits for the key's row"
                    )
            given = await asyncio.gather(*running)
        assert given[0] == given[1] == await sender.is_answered("key")

    async def test_a_holder_that_gives_up_leaves_it_to_others_at_once(self, sender: Sender) -> None:
        provisional = await self.kept_by(sender)
        await sender.keys.release(provisional.reservation)
        assert await sender.is_answered("key") == provisional.answer

    async def test_of_a_successor_is_not_given_by_who_lost_the_key(self, sender: Sender) -> None:
        lost = await sender.reserved("key", seconds=0)
        await self.kept_by(sender)
        with pytest.raises(IdempotencyKeyInProgressError):
            await sender.keys.remember(lost, FINAL)
        assert await sender.is_answered("key") is None


async def has_waiting(sql: AnyConnection, sessions: int) -> bool:
    return await waiting_sessions(sql) >= sessions


@asynccontextmanager
async def through_a_proxy(url: str, folder: Path) -> AsyncIterator[tuple[CuttingProxy, Sender]]:
    async with (
        cutting_proxy(url, folder) as (proxy, its_url),
        Database(its_url, append_lanes=1, notify=False, connect_timeout=2) as database,
    ):
        yield proxy, Sender(database)


class TestCutOff:
    @pytest.mark.parametrize("at", ["append_events", "answer_idempotency_keys", COMMIT])
    async def test_before_the_commit_it_is_sent_again(self, database_url: str, cluster_folder: Path, at: str) -> None:
        async with through_a_proxy(database_url, cluster_folder) as (proxy, sender):
            execution = await submit(sender.repository)
            answer = answer_under(await sender.reserved("key"))
            proxy.arm(Fault.LOSE_STATEMENT, at=at)
            after = await sender.send(answer, execution, Pause())
            assert proxy.struck.is_set()
            assert await assert_row_is_fold(sender.repository, execution.id) == after
            assert answer.is_kept
            assert await sender.is_answered("key") == answer.answer

    async def test_after_the_commit_it_is_there(self, database_url: str, cluster_folder: Path) -> None:
        """The lane finds the append in the log. Whether the answer was kept it cannot know: it is kept again."""
        async with through_a_proxy(database_url, cluster_folder) as (proxy, sender):
            execution = await submit(sender.repository)
            answer = answer_under(await sender.reserved("key"))
            proxy.arm(Fault.LOSE_ANSWER, at=COMMIT)
            after = await sender.send(answer, execution, Pause())
            assert proxy.server_answered.is_set()
            assert await assert_row_is_fold(sender.repository, execution.id) == after
            assert await sender.is_answered("key") == answer.answer
            assert not answer.is_kept
            assert await sender.keys.remember(answer.reservation, answer.answer) == answer.answer

    async def test_a_provisional_one_is_there_as_well(self, database_url: str, cluster_folder: Path) -> None:
        async with through_a_proxy(database_url, cluster_folder) as (proxy, sender):
            execution = await submit(sender.repository)
            answer = answer_under(await sender.reserved("key"), is_provisional=True)
            proxy.arm(Fault.LOSE_ANSWER, at=COMMIT)
            await sender.send(answer, execution, Pause())
            assert proxy.server_answered.is_set()
            assert await sender.is_answered("key") is None
            await sender.keys.release(answer.reservation)
            assert await sender.is_answered("key") == answer.answer

    async def test_without_an_answer_there_is_no_transaction_to_end(
        self, database_url: str, cluster_folder: Path
    ) -> None:
        async with through_a_proxy(database_url, cluster_folder) as (proxy, sender):
            proxy.arm(Fault.LOSE_STATEMENT, at=COMMIT)
            executions = await asyncio.gather(*(submit(sender.repository) for _ in range(5)))
            await asyncio.gather(*(sender.send(None, one, Pause()) for one in executions))
            assert not proxy.struck.is_set()


async def test_lanes_and_reservations_do_not_block_each_other(database_url: str, sql: AnyConnection) -> None:
    """Two processes answer, and two others ask for the same keys, in an order that is not that of the executions."""
    await sql.execute(f"ALTER DATABASE {await sql.fetchval('SELECT current_database()')} SET deadlock_timeout = 60000")
    async with Database(database_url) as one_database, Database(database_url) as other_database:
        senders = Sender(one_database), Sender(other_database)
        executions = sorted([await submit(senders[0].repository) for _ in range(SENDERS)], key=lambda one: one.id)
        names = [f"key {number:03}" for number in reversed(range(SENDERS))]
        answers = [answer_under(await senders[0].reserved(name)) for name in names]
        async with sql.transaction():
            await sql.execute("SELECT FROM idempotency_keys WHERE key = 'key 050' FOR UPDATE")
            parts = [(senders[number % 2], number) for number in range(SENDERS)]
            sent = [sender.send(answers[number], executions[number], Pause()) for sender, number in parts]
            asked: list[Any] = [sender.is_answered(name) for sender in senders for name in names]
            outcomes = asyncio.gather(*sent, *asked)

            async def all_wait() -> bool:
                return await waiting_sessions(sql) >= 3

            await eventually(all_wait, within=PATIENCE, what="lanes and reservations wait for a lock")
        async with asyncio.timeout(UNBLOCKED_SECONDS):
            await outcomes
        assert all(one.is_kept for one in answers)
        assert {(await read(senders[0].repository, one.id)).version for one in executions} == {
            executions[0].version + 1
        }
