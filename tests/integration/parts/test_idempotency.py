"""Idempotency keys: one holder at a time, the first answer for all, and a successor that goes on under the same id."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import pytest

from execution.access_errors import IdempotencyKeyInProgressError, IdempotencyKeyReusedError
from execution.domain.execution import Execution
from execution.idempotency import IdempotencyKeys
from execution.ids import new_id
from execution.keyed_answer import Answer, Reservation
from execution.repository.database import Database
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.client_commands import CLIENT_COMMANDS, ClientCommand
from tests.support.cutting_proxy import CuttingProxy, Fault, cutting_proxy
from tests.support.service import PATIENCE, short_settings
from tests.support.stored import AnyConnection, versions_by_command, waiting_sessions
from tests.support.waiting import eventually, no_leaked_tasks

T = "tenant"
K = "8e03978e-40d5-43e8-bc93-6894a57f9324"
THIS = sha256(b"this request").digest()
ANOTHER = sha256(b"another request").digest()
CREATED = Answer(status=202, headers={"etag": '"1"', "location": "/v1/executions/1"}, body=b'{"id":1}\0')
REFUSED = Answer(status=409, headers={"content-type": "application/problem+json"}, body=b"{}")
SENDERS = 100
UNBLOCKED_SECONDS = 4.0
"""Less than the time for which a statement waits for a lock."""


@pytest.fixture
def keys(database: Database) -> IdempotencyKeys:
    return IdempotencyKeys(database, keep_hours=24)


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[IdempotencyKeys]:
    """As another process: with connections of its own."""
    async with Database(database_url) as database:
        yield IdempotencyKeys(database, keep_hours=24)


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[ExecutionService]:
    async with open_service(short_settings(database_url)) as service:
        yield service


@asynccontextmanager
async def through_a_proxy(url: str, folder: Path) -> AsyncIterator[tuple[CuttingProxy, IdempotencyKeys]]:
    async with (
        cutting_proxy(url, folder) as (proxy, its_url),
        Database(its_url, notify=False, connect_timeout=2) as database,
    ):
        yield proxy, IdempotencyKeys(database, keep_hours=24)


async def reserved(keys: IdempotencyKeys, key: str = K, *, seconds: float = 30, tenant_id: str = T) -> Reservation:
    reservation = await keys.reserve(tenant_id, key, THIS, seconds=seconds)
    assert isinstance(reservation, Reservation)
    return reservation


async def abandoned(keys: IdempotencyKeys) -> Reservation:
    """A reservation whose holder has died, and whose time has passed."""
    return await reserved(keys, seconds=0)


async def has_expired(sql: AnyConnection, key: str = K) -> None:
    await sql.execute("UPDATE idempotency_keys SET created_at = created_at - interval '24 hours' WHERE key = $1", key)


class TestTheFirstAnswer:
    async def test_it_is_given_to_everybody_who_comes_later(
        self, keys: IdempotencyKeys, elsewhere: IdempotencyKeys
    ) -> None:
        assert await keys.remember(await reserved(keys), CREATED) == CREATED
        assert await keys.reserve(T, K, THIS) == CREATED
        assert await elsewhere.reserve(T, K, THIS) == CREATED

    async def test_while_it_is_not_there_others_come_too_early(
        self, keys: IdempotencyKeys, elsewhere: IdempotencyKeys
    ) -> None:
        await reserved(keys)
        with pytest.raises(IdempotencyKeyInProgressError) as caught:
            await elsewhere.reserve(T, K, THIS)
        assert 0 < caught.value.retry_after <= 1

    @pytest.mark.parametrize("answered", [False, True])
    @pytest.mark.parametrize("seconds", [0, 30], ids=["time-passed", "under-way"])
    async def test_it_is_of_one_request_only(self, keys: IdempotencyKeys, answered: bool, seconds: float) -> None:
        reservation = await reserved(keys, seconds=seconds)
        if answered:
            await keys.remember(reservation, CREATED)
        with pytest.raises(IdempotencyKeyReusedError, match=K):
            await keys.reserve(T, K, ANOTHER)

    async def test_tenants_have_keys_of_their_own(self, keys: IdempotencyKeys) -> None:
        await keys.remember(await reserved(keys), CREATED)
        other = await reserved(keys, tenant_id="other")
        assert await keys.remember(other, REFUSED) == REFUSED
        assert await keys.reserve(T, K, THIS) == CREATED

    async def test_of_many_senders_one_is_the_first(self, keys: IdempotencyKeys, elsewhere: IdempotencyKeys) -> None:
        senders = [keys, elsewhere] * SENDERS
        outcomes = await asyncio.gather(*(one.reserve(T, K, THIS) for one in senders), return_exceptions=True)
        (holder,) = [one for one in outcomes if isinstance(one, Reservation)]
        assert sum(isinstance(one, IdempotencyKeyInProgressError) for one in outcomes) == len(senders) - 1
        await keys.remember(holder, CREATED)
        assert await asyncio.gather(*(one.reserve(T, K, THIS) for one in senders)) == [CREATED] * len(senders)


class TestSuccessor:
    async def test_goes_on_under_the_same_command_id(self, keys: IdempotencyKeys, elsewhere: IdempotencyKeys) -> None:
        dead = await abandoned(keys)
        successor = await reserved(elsewhere)
        assert successor.command_id == dead.command_id
        assert (dead.is_first, successor.is_first) == (True, False)

    @pytest.mark.parametrize("command", CLIENT_COMMANDS, ids=lambda command: command.name)
    async def test_is_given_the_first_outcome_of_a_command_whose_answer_was_not_kept(
        self, service: ExecutionService, sql: AnyConnection, command: ClientCommand
    ) -> None:
        keys = service.idempotency_keys
        before = await command.prepare(service)
        first = await command.send(service, before.id, command_id=(await abandoned(keys)).command_id)
        await service.retry_execution(first.id) if first.is_terminal else await service.cancel_execution(first.id)
        command_id = (await reserved(keys)).command_id
        assert await command.send(service, before.id, command_id=command_id) == first
        assert (await versions_by_command(sql))[command_id] == list(range(before.version + 1, first.version + 1))

    async def test_creates_nothing_twice(self, service: ExecutionService) -> None:
        keys = service.idempotency_keys

        async def create(command_id: UUID) -> Execution:
            return await service.create_execution("noop", command_id=command_id)

        first = await create((await abandoned(keys)).command_id)
        assert await create((await reserved(keys)).command_id) == first
        _, total = await service.list_executions()
        assert total == 1

    async def test_answers_for_the_one_whose_time_has_passed(
        self, keys: IdempotencyKeys, elsewhere: IdempotencyKeys
    ) -> None:
        slow = await abandoned(keys)
        successor = await reserved(elsewhere)
        with pytest.raises(IdempotencyKeyInProgressError):
            await keys.remember(slow, REFUSED)
        await elsewhere.remember(successor, CREATED)
        assert await keys.remember(slow, REFUSED) == CREATED
        assert await keys.reserve(T, K, THIS) == CREATED

    async def test_is_not_disturbed_by_the_one_whose_time_has_passed(self, keys: IdempotencyKeys) -> None:
        slow = await abandoned(keys)
        successor = await reserved(keys)
        await keys.forget(slow)
        await keys.release(slow)
        with pytest.raises(IdempotencyKeyInProgressError):
            await keys.reserve(T, K, THIS)
        await keys.remember(successor, CREATED)
        await keys.forget(successor)
        await keys.release(successor)
        assert await keys.reserve(T, K, THIS) == CREATED

    async def test_does_not_wait_where_the_key_was_released(self, keys: IdempotencyKeys) -> None:
        first = await reserved(keys)
        await keys.release(first)
        with pytest.raises(IdempotencyKeyReusedError):
            await keys.reserve(T, K, ANOTHER)
        assert (await reserved(keys)).command_id == first.command_id

    async def test_cannot_forget_what_another_may_have_done(self, keys: IdempotencyKeys) -> None:
        dead = await abandoned(keys)
        await keys.forget(await reserved(keys))
        assert (await reserved(keys)).command_id == dead.command_id


class TestForgotten:
    async def test_a_key_may_be_used_for_another_request(self, keys: IdempotencyKeys) -> None:
        first = await reserved(keys)
        await keys.forget(first)
        second = await keys.reserve(T, K, ANOTHER)
        assert isinstance(second, Reservation)
        assert second.command_id != first.command_id

    async def test_so_may_one_that_has_expired(self, keys: IdempotencyKeys, sql: AnyConnection) -> None:
        first = await reserved(keys)
        await keys.remember(first, CREATED)
        await has_expired(sql)
        second = await keys.reserve(T, K, ANOTHER)
        assert isinstance(second, Reservation)
        assert (second.command_id != first.command_id, second.is_first) == (True, True)
        with pytest.raises(IdempotencyKeyInProgressError):
            await keys.reserve(T, K, ANOTHER)
        await keys.remember(second, REFUSED)
        assert await keys.reserve(T, K, ANOTHER) == REFUSED

    async def test_the_expired_are_removed_and_nothing_else(
        self, keys: IdempotencyKeys, elsewhere: IdempotencyKeys, sql: AnyConnection
    ) -> None:
        for key in ("expired", "expired too", "held", "young"):
            reservation = await reserved(keys, key)
            if key != "held":
                await keys.remember(reservation, CREATED)
            if key != "young":
                await has_expired(sql, key)
        assert sum(await asyncio.gather(keys.purge(), elsewhere.purge())) == 2
        left = await sql.fetch("SELECT key FROM idempotency_keys ORDER BY key")
        assert [row["key"] for row in left] == ["held", "young"]


class TestDatabase:
    async def test_the_commits_of_many_are_shared(self, keys: IdempotencyKeys, sql: AnyConnection) -> None:
        transactions = "SELECT count(DISTINCT xmin::text) FROM idempotency_keys"
        reservations = await asyncio.gather(*(reserved(keys, f"key {number}") for number in range(SENDERS)))
        assert await sql.fetchval(transactions) <= 3
        await asyncio.gather(*(keys.remember(one, CREATED) for one in reservations))
        assert await sql.fetchval(transactions) <= 4

    async def test_two_processes_do_not_block_each_other(self, database_url: str, sql: AnyConnection) -> None:
        """The same keys from both sides, in opposite orders, and both have to wait in the middle."""
        await sql.execute(
            f"ALTER DATABASE {await sql.fetchval('SELECT current_database()')} SET deadlock_timeout = 60000"
        )
        names = [f"key {number:03}" for number in range(SENDERS)]
        async with Database(database_url) as one_database, Database(database_url) as other_database:
            one, other = (IdempotencyKeys(each, keep_hours=24) for each in (one_database, other_database))
            await asyncio.gather(*(one.reserve(T, key, THIS, seconds=0) for key in names))
            async with sql.transaction():
                await sql.execute("SELECT FROM idempotency_keys WHERE key = 'key 050' FOR UPDATE")
                asked = [one.reserve(T, key, THIS, seconds=0) for key in names]
                asked += [other.reserve(T, key, THIS, seconds=0) for key in reversed(names)]
                outcomes = asyncio.gather(*asked, return_exceptions=True)

                async def both_wait() -> bool:
                    return await waiting_sessions(sql) == 2

                await eventually(both_wait, within=PATIENCE, what="both wait for a lock")
            async with asyncio.timeout(UNBLOCKED_SECONDS):
                assert Counter(type(outcome) for outcome in await outcomes)[Reservation] >= SENDERS

    @pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.LOSE_STATEMENT])
    async def test_a_lost_answer_or_statement_is_not_noticed(
        self, database_url: str, cluster_folder: Path, fault: Fault
    ) -> None:
        async with through_a_proxy(database_url, cluster_folder) as (proxy, keys):
            await reserved(keys, "to prepare the statement")
            proxy.arm(fault)
            reservation = await reserved(keys)
            assert proxy.struck.is_set()
            assert reservation.is_first
            proxy.struck.clear()
            proxy.arm(fault)
            assert await keys.remember(reservation, CREATED) == CREATED
            assert proxy.struck.is_set()
            assert await keys.reserve(T, K, THIS) == CREATED

    async def test_a_key_that_cannot_be_let_go_is_open_in_its_time(
        self, database_url: str, cluster_folder: Path
    ) -> None:
        async with through_a_proxy(database_url, cluster_folder) as (proxy, keys):
            first = await reserved(keys, seconds=0)
            proxy.close_door()
            await keys.forget(first)
            await keys.release(first)
            proxy.open_door()
            assert (await reserved(keys)).command_id == first.command_id

    async def test_only_the_reservation_does_not_wait_for_the_disk(
        self, keys: IdempotencyKeys, database: Database
    ) -> None:
        await reserved(keys)
        assert await database.pool.fetchval("SHOW synchronous_commit") == "on"

    async def test_one_answer_that_cannot_be_kept_fails_alone(self, keys: IdempotencyKeys) -> None:
        good, bad = await reserved(keys, "good"), await reserved(keys, "bad")
        spoilt = Answer(status=200, headers={"location": "\0"}, body=b"")
        outcomes = await asyncio.gather(
            keys.remember(good, CREATED), keys.remember(bad, spoilt), return_exceptions=True
        )
        assert outcomes[0] == CREATED
        assert isinstance(outcomes[1], Exception)

    async def test_a_cancelled_sender_leaves_no_task_behind(self, keys: IdempotencyKeys) -> None:
        async with no_leaked_tasks():
            asking = [asyncio.create_task(keys.reserve(T, f"{new_id()}", THIS)) for _ in range(10)]
            await asyncio.sleep(0)
            for one in asking[::2]:
                one.cancel()
            outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert sum(isinstance(one, Reservation) for one in outcomes) == 5
