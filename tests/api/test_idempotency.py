"""`Idempotency-Key`: sent again, a POST does nothing twice and is given its first answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from execution.api.app import create_app
from execution.api.server import HttpServer
from execution.domain.execution import Execution
from execution.ids import new_id
from execution.keys import KeyRing
from execution.presentation import location
from execution.principal import Scope
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.cutting_proxy import COMMIT, Fault, cutting_proxy
from tests.support.http_server import ServerProcess, served, server_process
from tests.support.service import PATIENCE, running_worker, short_settings
from tests.support.stored import AnyConnection, kept_with_its_effect, waiting_sessions
from tests.support.waiting import eventually

PATH = "/v1/executions"
NOOP = {"kind": "noop", "parameters": {"steps": 2}}
BODIES: dict[str, Any] = {"": NOOP, "/cancel": {"reason": "superseded"}}
SENDERS = 200
KEPT = ("content-type", "etag", "location")


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[HttpServer]:
    """A second server on the same database, with connections of its own."""
    async with open_service(short_settings(database_url)) as service, served(create_app(service)) as server:
        yield server


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": str(new_id())}


def essence(answer: httpx.Response) -> tuple[int, dict[str, str | None], bytes]:
    return answer.status_code, {name: answer.headers.get(name) for name in KEPT}, answer.content


def is_replay(answer: httpx.Response) -> bool:
    return bool(answer.headers.get("idempotent-replayed") == "true")


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


class Hold:
    """Holds up whoever keeps an answer, in the middle of it."""

    LOCK = 4711

    def __init__(self, sql: AnyConnection) -> None:
        self.sql = sql

    async def begin(self) -> None:
        await self.sql.execute(f"""
            CREATE FUNCTION wait_for_the_test() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM pg_advisory_xact_lock_shared({self.LOCK});
                RETURN NEW;
            END $$;
            CREATE TRIGGER held BEFORE UPDATE ON idempotency_keys FOR EACH ROW
                WHEN (NEW.answered_at IS NOT NULL) EXECUTE FUNCTION wait_for_the_test();
            SELECT pg_advisory_lock({self.LOCK})
        """)

    async def is_reached(self) -> None:
        await eventually(lambda: waiting_sessions(self.sql), within=PATIENCE, what="an answer is about to be kept")

    async def end(self) -> None:
        await self.sql.execute(f"SELECT pg_advisory_unlock({self.LOCK})")

    async def end_with_its_sessions(self) -> None:
        """What waits there belongs to a process that is dead: PostgreSQL has not noticed yet."""
        await self.sql.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
        )
        await self.end()


@pytest.fixture
async def hold(sql: AnyConnection) -> Hold:
    hold = Hold(sql)
    await hold.begin()
    return hold


@asynccontextmanager
async def killable(database_url: str) -> AsyncIterator[tuple[ServerProcess, httpx.AsyncClient]]:
    async with server_process(database_url, "--no-worker") as doomed, httpx.AsyncClient(timeout=PATIENCE) as client:
        yield doomed, client


@asynccontextmanager
async def waiting_request(
    api: httpx.AsyncClient, service: ExecutionService, key: dict[str, str]
) -> AsyncIterator[tuple[asyncio.Task[httpx.Response], Execution]]:
    """A submission that waits for its end, and the execution that it has made."""
    sending = asyncio.create_task(api.post(PATH, json=NOOP, headers=key | {"prefer": "wait=30"}))
    try:
        (execution,) = await eventually(lambda: executions(service), within=PATIENCE, what="it is in the log")
        yield sending, execution
    finally:
        sending.cancel()


async def executions(service: ExecutionService) -> list[Execution]:
    found, _ = await service.list_executions()
    return found


async def time_has_passed(sql: AnyConnection) -> None:
    """As if whoever holds a key had held it for its whole time."""
    await sql.execute("UPDATE idempotency_keys SET locked_until = clock_timestamp()")


class TestSentAgain:
    async def test_it_is_answered_as_the_first_time(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        key = new_key()
        first = await api.post(PATH, json=NOOP, headers=key)
        second = await api.post(PATH, json=NOOP, headers=key)
        assert first.status_code == 202
        assert essence(second) == essence(first)
        assert (is_replay(first), is_replay(second)) == (False, True)
        assert [str(one.id) for one in await executions(service)] == [first.json()["id"]]

    async def test_also_where_a_worker_begins_it_at_once(
        self, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection
    ) -> None:
        async def begun() -> tuple[dict[str, str], httpx.Response] | None:
            key = new_key()
            answer = await api.post(PATH, json=NOOP, headers=key)
            return (key, answer) if answer.json()["state"] == "RUNNING" else None

        async with running_worker(service):
            key, first = await eventually(begun, within=PATIENCE, what="one is begun at once")
            document = first.json()
            assert await kept_with_its_effect(sql, UUID(document["id"]), document["version"]) == first.content
            await service.wait(UUID(document["id"]), PATIENCE)
            again = await api.post(PATH, json=NOOP, headers=key)
        assert first.status_code == 202
        assert essence(again) == essence(first)
        assert is_replay(again)

    async def test_however_its_json_is_spelled_and_however_long_one_would_wait(self, api: httpx.AsyncClient) -> None:
        headers = new_key() | {"content-type": "application/json"}
        first = await api.post(PATH, content=b'{"kind":"noop","parameters":{"a":1,"b":"\\u00e4"}}', headers=headers)
        again = b'{ "parameters": {"b": "\xc3\xa4", "a": 1},\n "kind": "noop" }'
        second = await api.post(PATH, content=again, headers=headers | {"prefer": "wait=1"})
        assert essence(second) == essence(first)
        assert is_replay(second)

    async def test_after_the_execution_was_deleted(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        key = new_key()
        first = await api.post(PATH, json=NOOP, headers=key)
        execution_id = UUID(first.json()["id"])
        await service.cancel_execution(execution_id)
        await service.delete_execution(execution_id)
        assert essence(await api.post(PATH, json=NOOP, headers=key)) == essence(first)
        assert await executions(service) == []

    async def test_when_the_key_has_expired_it_is_a_new_request(
        self, api: httpx.AsyncClient, sql: AnyConnection
    ) -> None:
        key = new_key()
        first = await api.post(PATH, json=NOOP, headers=key)
        await sql.execute("UPDATE idempotency_keys SET created_at = created_at - interval '24 hours'")
        second = await api.post(PATH, json=NOOP, headers=key)
        assert not is_replay(second)
        assert second.json()["id"] != first.json()["id"]

    async def test_without_a_key_it_is_a_new_request(self, api: httpx.AsyncClient) -> None:
        assert len({(await api.post(PATH, json=NOOP)).json()["id"] for _ in range(3)}) == 3

    async def test_two_hundred_at_once_on_two_servers(
        self, live: HttpServer, elsewhere: HttpServer, service: ExecutionService
    ) -> None:
        key = new_key()
        limits = httpx.Limits(max_connections=SENDERS)
        async with httpx.AsyncClient(timeout=PATIENCE, limits=limits) as client:

            async def send(number: int) -> httpx.Response:
                base = (live, elsewhere)[number % 2].url
                return await client.post(base + PATH, json=NOOP, headers=key)

            answers = await asyncio.gather(*(send(number) for number in range(SENDERS)))
            last = await send(0)
        seen = Counter((one.status_code, is_replay(one)) for one in answers)
        assert seen[202, False] == 1
        assert set(seen) <= {(202, False), (202, True), (409, False)}
        for one in answers:
            if one.status_code == 409:
                assert code(one) == (409, "idempotency_key_in_progress")
                assert int(one.headers["retry-after"]) >= 1
            else:
                assert essence(one) == essence(last)
        assert len(await executions(service)) == 1


class TestAnotherRequest:
    @pytest.mark.parametrize(
        ("path", "body", "headers"),
        [
            (PATH, NOOP | {"priority": 1}, {}),
            (PATH, NOOP, {"if-match": '"1"'}),
            (f"{PATH}/{new_id()}/cancel", NOOP, {}),
        ],
        ids=["body", "precondition", "path"],
    )
    async def test_is_refused_under_the_same_key(
        self, api: httpx.AsyncClient, service: ExecutionService, path: str, body: Any, headers: dict[str, str]
    ) -> None:
        key = new_key()
        await api.post(PATH, json=NOOP, headers=key)
        refused = await api.post(path, json=body, headers=key | headers)
        assert code(refused) == (422, "idempotency_key_reused")
        assert len(await executions(service)) == 1

    async def test_of_another_tenant_has_keys_of_its_own(self, service: ExecutionService) -> None:
        key_ring, key = KeyRing(service.repository.db, service.settings), new_key()
        tokens = {
            tenant: (await key_ring.create(tenant, tenant_id=tenant, scopes=Scope)).token for tenant in ("one", "other")
        }
        app = create_app(service, keys=key_ring)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service") as client:

            async def send(tenant: str, priority: int) -> httpx.Response:
                headers = key | {"authorization": f"Bearer {tokens[tenant]}"}
                return await client.post(PATH, json=NOOP | {"priority": priority}, headers=headers)

            one, other = await send("one", 1), await send("other", 2)
            assert (one.status_code, other.status_code) == (202, 202)
            assert essence(await send("one", 1)) == essence(one)
            assert essence(await send("other", 2)) == essence(other)
        assert len({one.json()["id"], other.json()["id"]}) == 2

    @pytest.mark.parametrize("key", ["", "x" * 256, "two words", "caf\u00e9", "tab\tbed"])
    async def test_a_key_that_cannot_be_kept(self, api: httpx.AsyncClient, service: ExecutionService, key: str) -> None:
        answer = await api.post(PATH, json=NOOP, headers=[(b"Idempotency-Key", key.encode("latin-1"))])
        assert code(answer) == (400, "invalid_idempotency_key")
        assert await executions(service) == []

    async def test_two_keys(self, api: httpx.AsyncClient) -> None:
        answer = await api.post(PATH, json=NOOP, headers=[("Idempotency-Key", "one"), ("Idempotency-Key", "two")])
        assert code(answer) == (400, "invalid_idempotency_key")

    async def test_the_longest_key(self, api: httpx.AsyncClient) -> None:
        assert (await api.post(PATH, json=NOOP, headers={"Idempotency-Key": "~" * 255})).status_code == 202


class TestRefused:
    @pytest.mark.parametrize(
        "body",
        ['{"kind": "noop", "colour": 1}', '{"kind": "noop"', '{"kind": "nobody.knows"}', '{"kind": "noop", "id": 7}'],
    )
    async def test_what_was_refused_as_it_stands_may_be_mended(self, api: httpx.AsyncClient, body: str) -> None:
        headers = new_key() | {"content-type": "application/json"}
        refused = await api.post(PATH, content=body, headers=headers)
        assert 400 <= refused.status_code < 500
        mended = await api.post(PATH, json=NOOP, headers=headers)
        assert (mended.status_code, is_replay(mended)) == (202, False)

    async def test_a_decision_is_an_answer(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        """The id exists: that is so for ever, even when the execution is deleted."""
        execution = await service.create_execution("noop")
        key, body = new_key(), NOOP | {"id": str(execution.id)}
        first = await api.post(PATH, json=body, headers=key)
        assert code(first) == (409, "duplicate_execution")
        await service.cancel_execution(execution.id)
        await service.delete_execution(execution.id)
        second = await api.post(PATH, json=body, headers=key)
        assert essence(second) == essence(first)
        assert is_replay(second)


class TestKilled:
    """The server, at every point from where a request has been taken on."""

    @pytest.mark.parametrize("name", ["", "/cancel"], ids=["create", "cancel"])
    async def test_right_after_the_commit(
        self, database_url: str, cluster_folder: Path, api: httpx.AsyncClient, service: ExecutionService, name: str
    ) -> None:
        """It never learns of the commit, but the answer is there."""
        key, path = new_key(), PATH
        if name:
            path = location((await service.create_execution("noop")).id) + name
        async with (
            cutting_proxy(database_url, cluster_folder) as (proxy, its_url),
            killable(its_url) as (doomed, client),
        ):
            proxy.arm(Fault.LOSE_ANSWER, at=COMMIT, then_close=True)
            sending = asyncio.create_task(client.post(doomed.url + path, json=BODIES[name], headers=key))
            async with asyncio.timeout(PATIENCE):
                await proxy.server_answered.wait()
            await doomed.kill()
            with pytest.raises(httpx.TransportError):
                await sending
        (execution,) = await executions(service)
        again = await api.post(path, json=BODIES[name], headers=key)
        assert (again.status_code, is_replay(again)) == (200 if name else 202, True)
        assert again.headers["etag"] == f'"{execution.version}"'
        assert again.json() == (await api.get(location(execution.id))).json()
        assert [one.version for one in await executions(service)] == [execution.version]

    async def test_before_the_commit(
        self, database_url: str, api: httpx.AsyncClient, service: ExecutionService, hold: Hold
    ) -> None:
        """There is neither an effect nor an answer, and whoever comes later carries it out."""
        key = new_key()
        async with killable(database_url) as (doomed, client):
            sending = asyncio.create_task(client.post(doomed.url + PATH, json=NOOP, headers=key))
            await hold.is_reached()
            await doomed.kill()
            with pytest.raises(httpx.TransportError):
                await sending
        await hold.end_with_its_sessions()
        assert await executions(service) == []
        assert code(await api.post(PATH, json=NOOP, headers=key)) == (409, "idempotency_key_in_progress")
        await time_has_passed(hold.sql)
        first = await api.post(PATH, json=NOOP, headers=key)
        assert (first.status_code, is_replay(first)) == (202, False)
        assert [str(one.id) for one in await executions(service)] == [first.json()["id"]]

    async def test_while_it_waits_for_the_end(
        self, database_url: str, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection
    ) -> None:
        """The effect is in the log, and what it was to be answered is not known yet: so it is what others are told."""
        key = new_key()
        async with killable(database_url) as (doomed, client):
            headers = key | {"prefer": "wait=30"}
            sending = asyncio.create_task(client.post(doomed.url + PATH, json=NOOP, headers=headers))
            (execution,) = await eventually(lambda: executions(service), within=PATIENCE, what="it is in the log")
            await doomed.kill()
            with pytest.raises(httpx.TransportError):
                await sending
        assert code(await api.post(PATH, json=NOOP, headers=key)) == (409, "idempotency_key_in_progress")
        kept = await kept_with_its_effect(sql, execution.id, execution.version)
        await time_has_passed(sql)
        await service.cancel_execution(execution.id)
        for _ in range(2):
            again = await api.post(PATH, json=NOOP, headers=key)
            assert (again.status_code, is_replay(again), again.content) == (202, True, kept)
            assert (again.json()["id"], again.json()["state"]) == (str(execution.id), "PENDING")
            assert (again.headers["location"], again.headers["etag"]) == (location(execution.id), '"2"')
        assert len(await executions(service)) == 1


class TestWhileItWaits:
    """The answer without the wait is there with the effect, and nobody is given it before it is known to be the one."""

    async def test_others_come_again_and_are_given_the_end(
        self, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection
    ) -> None:
        key = new_key()
        async with waiting_request(api, service, key) as (sending, execution):
            assert code(await api.post(PATH, json=NOOP, headers=key)) == (409, "idempotency_key_in_progress")
            assert await kept_with_its_effect(sql, execution.id, execution.version)
            await service.cancel_execution(execution.id)
            first = await sending
        assert (first.status_code, is_replay(first), first.json()["state"]) == (200, False, "CANCELLED")
        again = await api.post(PATH, json=NOOP, headers=key)
        assert essence(again) == essence(first)
        assert (again.headers["preference-applied"], is_replay(again)) == ("wait=30", True)

    async def test_who_waited_too_long_is_given_what_others_were(
        self, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection
    ) -> None:
        key = new_key()
        async with waiting_request(api, service, key) as (sending, execution):
            await time_has_passed(sql)
            given = await api.post(PATH, json=NOOP, headers=key)
            assert (given.status_code, is_replay(given), given.json()["state"]) == (202, True, "PENDING")
            await service.cancel_execution(execution.id)
            assert essence(await sending) == essence(given)
        assert essence(await api.post(PATH, json=NOOP, headers=key)) == essence(given)

    async def test_after_trouble_others_are_given_it_at_once(
        self, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection
    ) -> None:
        key = new_key()
        async with waiting_request(api, service, key) as (sending, execution):
            await sql.execute("ALTER TABLE idempotency_keys ADD CONSTRAINT closed CHECK (status <> 200) NOT VALID")
            await service.cancel_execution(execution.id)
            assert (await sending).status_code == 500
        again = await api.post(PATH, json=NOOP, headers=key)
        assert (again.status_code, is_replay(again), again.json()["id"]) == (202, True, str(execution.id))


class TestCutOff:
    """The effect is on its way, with its answer."""

    async def test_a_handler_that_is_cancelled_goes_on(
        self, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection
    ) -> None:
        key = new_key()
        async with sql.transaction():
            await sql.execute("LOCK TABLE execution_events")
            sending = asyncio.create_task(api.post(PATH, json=NOOP, headers=key))
            await eventually(lambda: waiting_sessions(sql), within=PATIENCE, what="the effect is on its way")
            for _ in range(2):
                sending.cancel()
                await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await sending
        again = await api.post(PATH, json=NOOP, headers=key)
        assert (again.status_code, is_replay(again)) == (202, True)
        assert [str(one.id) for one in await executions(service)] == [again.json()["id"]]

    async def test_a_client_that_hangs_up_there(
        self, live: HttpServer, api: httpx.AsyncClient, service: ExecutionService, hold: Hold
    ) -> None:
        key = new_key()
        async with httpx.AsyncClient(timeout=PATIENCE) as client:
            sending = asyncio.create_task(client.post(live.url + PATH, json=NOOP, headers=key))
            await hold.is_reached()
            sending.cancel()
        await hold.end()

        async def answered() -> httpx.Response | None:
            answer = await api.post(PATH, json=NOOP, headers=key)
            return None if answer.status_code == 409 else answer

        again = await eventually(answered, within=PATIENCE, what="the answer is kept")
        assert (again.status_code, is_replay(again)) == (202, True)
        assert len(await executions(service)) == 1


class TestTrouble:
    async def test_after_trouble_inside_a_repetition_goes_on_under_the_same_id(
        self, api: httpx.AsyncClient, sql: AnyConnection
    ) -> None:
        key = new_key()
        await sql.execute("ALTER TABLE execution_events ADD CONSTRAINT closed CHECK (false) NOT VALID")
        failed = await api.post(PATH, json=NOOP, headers=key)
        assert failed.status_code == 500
        command_id = await sql.fetchval("SELECT command_id FROM idempotency_keys WHERE answered_at IS NULL")
        await sql.execute("ALTER TABLE execution_events DROP CONSTRAINT closed")
        assert code(await api.post(PATH, json=NOOP | {"priority": 1}, headers=key)) == (422, "idempotency_key_reused")
        carried_out = await api.post(PATH, json=NOOP, headers=key)
        assert (carried_out.status_code, carried_out.json()["id"]) == (202, str(command_id))

    async def test_without_its_answer_kept_nothing_is_done(
        self, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection
    ) -> None:
        key = new_key()
        await sql.execute("ALTER TABLE idempotency_keys ADD CONSTRAINT closed CHECK (answered_at IS NULL) NOT VALID")
        assert (await api.post(PATH, json=NOOP, headers=key)).status_code == 500
        assert await executions(service) == [], "an effect nobody was told of"
        await sql.execute("ALTER TABLE idempotency_keys DROP CONSTRAINT closed")
        again = await api.post(PATH, json=NOOP, headers=key)
        assert [str(one.id) for one in await executions(service)] == [again.json()["id"]]

    async def test_who_carries_it_out_stops_when_its_time_has_passed(
        self, database_url: str, sql: AnyConnection
    ) -> None:
        settings = short_settings(database_url, request_timeout_seconds=1.5)
        async with open_service(settings) as service, KeyRing(service.repository.db, settings) as keys:
            transport = httpx.ASGITransport(app=create_app(service, keys=keys))
            async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=PATIENCE) as api:
                key = new_key()
                async with sql.transaction():
                    await sql.execute("LOCK TABLE executions")
                    assert code(await api.post(PATH, json=NOOP, headers=key)) == (409, "idempotency_key_in_progress")
                carried_out = await api.post(PATH, json=NOOP, headers=key)
                assert (carried_out.status_code, is_replay(carried_out)) == (202, False)
                assert len(await executions(service)) == 1
