"""Many executions in one request under a key: all that is done and its answer are one commit, or nothing is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID

import httpx
import pytest

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.ids import new_id
from execution.repository.wakeups import Topic
from execution.service import ExecutionService
from tests.support.checker import check_database
from tests.support.cutting_proxy import COMMIT, CuttingProxy, Fault, cutting_proxy
from tests.support.http_server import ServerProcess, server_process
from tests.support.service import PATIENCE
from tests.support.stored import AnyConnection, waiting_sessions
from tests.support.waiting import eventually

BATCH, CANCEL = "/v1/executions/batch", "/v1/executions/cancel"
MANY = 1000
NOOP = {"kind": "noop"}
ALL = {"filters": {"kind": "noop"}}
REQUESTS = pytest.mark.parametrize(
    ("path", "body"), [(BATCH, {"executions": [NOOP] * 20}), (CANCEL, ALL)], ids=["create", "cancel"]
)
Behind: TypeAlias = tuple[CuttingProxy, ServerProcess, httpx.AsyncClient]


@pytest.fixture
async def behind(database_url: str, cluster_folder: Path) -> AsyncIterator[Behind]:
    """A server of its own that may lose its connections, and may die."""
    async with (
        cutting_proxy(database_url, cluster_folder) as (proxy, its_url),
        server_process(its_url, "--no-worker") as server,
        httpx.AsyncClient(timeout=PATIENCE) as client,
    ):
        yield proxy, server, client


@pytest.fixture(autouse=True)
async def _rows_are_folds(database_url: str, service: ExecutionService) -> AsyncIterator[None]:
    yield
    await check_database(database_url)


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": str(new_id())}


async def sent(api: httpx.AsyncClient, path: str, body: Any, key: dict[str, str]) -> httpx.Response:
    answer = await api.post(path, json=body, headers=key)
    assert answer.status_code == 207, answer.text
    return answer


async def is_answered_again(
    api: httpx.AsyncClient, path: str, body: Any, key: dict[str, str], first: httpx.Response | None = None
) -> dict[str, Any]:
    again = await sent(api, path, body, key)
    assert again.headers["idempotent-replayed"] == "true"
    assert first is None or again.content == first.content
    document: dict[str, Any] = again.json()
    return document


async def executions(service: ExecutionService) -> dict[UUID, Execution]:
    found, _ = await service.list_executions(pagination={"page_size": MANY})
    return {one.id: one for one in found}


async def commits_of(sql: AnyConnection, key: dict[str, str], state: str) -> tuple[int, int]:
    """How many events brought an execution into the state, and how many of them were not written with the answer."""
    row = await sql.fetchrow(
        """SELECT count(*) AS events, count(*) FILTER (WHERE e.xmin::text <> k.xmin::text) AS others
        FROM execution_events AS e, idempotency_keys AS k
        WHERE e.data ->> 'new_state' = $2 AND k.key = $1 AND k.answered_at IS NOT NULL""",
        key["Idempotency-Key"],
        state,
    )
    assert row is not None
    return row["events"], row["others"]


async def submitted(service: ExecutionService, count: int) -> list[UUID]:
    answers = await service.create_executions([NOOP] * count)
    return [one.id for one in answers if isinstance(one, Execution)]


class TestOneCommit:
    async def test_of_a_thousand(self, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection) -> None:
        key, body = new_key(), {"executions": [NOOP | {"priority": number % 9} for number in range(MANY)]}
        heard: list[UUID] = []
        service.state_manager.listen(lambda one: heard.append(one.id))
        first = await sent(api, BATCH, body, key)
        assert [one["execution"]["priority"] for one in first.json()["items"]] == [n % 9 for n in range(MANY)]
        assert await commits_of(sql, key, "PENDING") == (MANY, 0)
        assert sorted(heard) == sorted(UUID(one["id"]) for one in first.json()["items"])
        await is_answered_again(api, BATCH, body, key, first)
        cancel, limit = new_key(), ALL | {"limit": MANY}
        cancelled = await sent(api, CANCEL, limit, cancel)
        assert (cancelled.json()["cancelled"], cancelled.json()["more"]) == (MANY, False)
        assert await commits_of(sql, cancel, "CANCELLED") == (MANY, 0)
        assert len(heard) == 2 * MANY
        await is_answered_again(api, CANCEL, limit, cancel, cancelled)
        assert {one.version for one in (await executions(service)).values()} == {4}

    async def test_workers_are_woken(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        woken = asyncio.Event()
        service.repository.db.wakeups.subscribe(Topic.WORK, woken.set)
        await sent(api, BATCH, {"executions": [NOOP]}, new_key())
        assert woken.is_set()

    async def test_refused_items_do_not_touch_the_others(
        self, api: httpx.AsyncClient, service: ExecutionService
    ) -> None:
        there, twice, key = (await submitted(service, 1))[0], str(new_id()), new_key()
        items = [NOOP, NOOP | {"id": str(there)}, {"kind": "nobody"}, NOOP | {"id": twice}, NOOP | {"id": twice}]
        first = await sent(api, BATCH, {"executions": items}, key)
        assert [one["status"] for one in first.json()["items"]] == [202, 409, 422, 202, 409]
        assert len(await executions(service)) == 3
        await is_answered_again(api, BATCH, {"executions": items}, key, first)

    async def test_what_changes_amid_a_cancellation_is_decided_as_it_is_then(
        self, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection
    ) -> None:
        """One is paused and one is deleted while the request waits for the row of another one."""
        ids, key = await submitted(service, 5), new_key()
        async with sql.transaction():
            await sql.execute("SELECT FROM executions WHERE id = $1 FOR UPDATE", ids[0])
            sending = asyncio.create_task(sent(api, CANCEL, ALL, key))
            await eventually(lambda: waiting_sessions(sql), within=PATIENCE, what="it waits for a row")
            await service.pause_execution(ids[2])
            await service.cancel_execution(ids[4])
            await service.delete_execution(ids[4])
        document = (await sending).json()
        assert [(one["id"], one["status"]) for one in document["items"]] == [
            (str(one), 404 if one == ids[4] else 200) for one in reversed(ids)
        ]
        assert {one.state for one in (await executions(service)).values()} == {ExecutionState.CANCELLED}
        items = {one["id"]: one.get("execution") for one in document["items"]}
        assert items[str(ids[2])]["version"] == 5, "decided on what the pause had led to"
        assert await commits_of(sql, key, "CANCELLED") == (4, 0)
        assert await is_answered_again(api, CANCEL, ALL, key) == document


class TestTrouble:
    @REQUESTS
    async def test_without_its_answer_kept_nothing_is_done(
        self, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection, path: str, body: Any
    ) -> None:
        await submitted(service, 3)
        key, before = new_key(), await executions(service)
        await sql.execute("ALTER TABLE idempotency_keys ADD CONSTRAINT closed CHECK (answered_at IS NULL) NOT VALID")
        assert (await api.post(path, json=body, headers=key)).status_code == 500
        assert await executions(service) == before, "an effect nobody was told of"
        await sql.execute("ALTER TABLE idempotency_keys DROP CONSTRAINT closed")
        await is_answered_again(api, path, body, key, await sent(api, path, body, key))

    @REQUESTS
    async def test_who_has_lost_the_key_does_nothing(
        self, api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection, path: str, body: Any
    ) -> None:
        await submitted(service, 3)
        key, before = new_key(), await executions(service)
        async with sql.transaction():
            await sql.execute("LOCK TABLE execution_events IN SHARE MODE")
            sending = asyncio.create_task(api.post(path, json=body, headers=key))
            await eventually(lambda: waiting_sessions(sql), within=PATIENCE, what="it is on its way")
            await sql.execute("UPDATE idempotency_keys SET lock_token = gen_random_uuid()")
        refused = await sending
        assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_key_in_progress")
        assert await executions(service) == before

    @REQUESTS
    async def test_killed_right_after_the_commit(
        self, behind: Behind, api: httpx.AsyncClient, service: ExecutionService, path: str, body: Any
    ) -> None:
        proxy, doomed, client = behind
        await submitted(service, 3)
        key = new_key()
        proxy.arm(Fault.LOSE_ANSWER, at=COMMIT, then_close=True)
        sending = asyncio.create_task(client.post(doomed.url + path, json=body, headers=key))
        async with asyncio.timeout(PATIENCE):
            await proxy.server_answered.wait()
        await doomed.kill()
        with pytest.raises(httpx.TransportError):
            await sending
        done = await executions(service)
        document = await is_answered_again(api, path, body, key)
        assert len(document["items"]) == (3 if path == CANCEL else 20)
        assert versions_in(document) == {one: done[one].version for one in versions_in(document)}
        assert await executions(service) == done

    @REQUESTS
    async def test_killed_right_before_the_commit(
        self, behind: Behind, api: httpx.AsyncClient, service: ExecutionService, path: str, body: Any
    ) -> None:
        """There is neither an effect nor an answer, and whoever comes later does all of it."""
        proxy, doomed, client = behind
        await submitted(service, 3)
        key, before = new_key(), await executions(service)
        proxy.arm(Fault.LOSE_STATEMENT, at=COMMIT, then_close=True)
        sending = asyncio.create_task(client.post(doomed.url + path, json=body, headers=key))
        async with asyncio.timeout(PATIENCE):
            await proxy.struck.wait()
        await doomed.kill()
        with pytest.raises(httpx.TransportError):
            await sending
        assert await executions(service) == before
        assert (await api.post(path, json=body, headers=key)).status_code == 409
        async with service.repository.db.pool.acquire() as connection:
            await connection.execute("UPDATE idempotency_keys SET locked_until = clock_timestamp()")
        first = await sent(api, path, body, key)
        assert len(first.json()["items"]) == (3 if path == CANCEL else 20)
        await is_answered_again(api, path, body, key, first)

    @REQUESTS
    @pytest.mark.parametrize("fault", [Fault.LOSE_ANSWER, Fault.LOSE_STATEMENT])
    async def test_a_commit_that_nobody_heard_of(
        self, behind: Behind, service: ExecutionService, path: str, body: Any, fault: Fault
    ) -> None:
        """It is looked up: what has been committed is not done again, and what has not is."""
        proxy, server, client = behind
        await submitted(service, 3)
        key = new_key()
        proxy.arm(fault, at=COMMIT)
        first = await sent(client, server.url + path, body, key)
        assert proxy.struck.is_set() or proxy.server_answered.is_set()
        assert "idempotent-replayed" not in first.headers
        done = await executions(service)
        told = versions_in(first.json())
        assert told == {one: done[one].version for one in told}
        assert len(done) == (3 if path == CANCEL else 23)
        await is_answered_again(client, server.url + path, body, key, first)


def versions_in(document: dict[str, Any]) -> dict[UUID, int]:
    """The version that each item of an answer tells."""
    return {UUID(one["id"]): one["execution"]["version"] for one in document["items"]}
