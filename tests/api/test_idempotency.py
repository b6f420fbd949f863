"""`Idempotency-Key`: sent again, a POST does nothing twice and is given its first answer."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from execution.api.app import create_app
from execution.api.server import HttpServer, serving
from execution.domain.execution import Execution
from execution.ids import new_id
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.service import PATIENCE, short_settings
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually

PATH = "/v1/executions"
NOOP = {"kind": "noop", "parameters": {"steps": 2}}
SENDERS = 200
KEPT = ("content-type", "etag", "location")


@pytest.fixture
async def elsewhere(database_url: str) -> AsyncIterator[HttpServer]:
    """A second server on the same database, with connections of its own."""
    async with open_service(short_settings(database_url)) as service, serving(create_app(service), "127.0.0.1", 0) as it:
        yield it


def new_key() -> dict[str, str]:
    return {"Idempotency-Key": str(new_id())}


def essence(answer: httpx.Response) -> tuple[int, dict[str, str | None], bytes]:
    return answer.status_code, {name: answer.headers.get(name) for name in KEPT}, answer.content


def is_replay(answer: httpx.Response) -> bool:
    return answer.headers.get("idempotent-replayed") == "true"


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


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
            (f"{PATH}?trace=1", NOOP, {}),
            (f"{PATH}/{new_id()}/cancel", NOOP, {}),
        ],
        ids=["body", "precondition", "query", "path"],
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
        """Two tenants over one service and one table."""
        raise NotImplementedError

    @pytest.mark.parametrize("key", ["", "x" * 256, "two words", "caf\u00e9", "tab\tbed"])
    async def test_a_key_that_cannot_be_kept(
        self, api: httpx.AsyncClient, service: ExecutionService, key: str
    ) -> None:
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
