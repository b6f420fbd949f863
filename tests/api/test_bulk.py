"""Many executions in one request: answered in their order, each for itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from execution.api.app import create_app
from execution.errors import DatabaseUnavailableError
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.checker import check_database
from tests.support.service import PATIENCE, short_settings

BATCH = "/v1/executions/batch"
CANCEL = "/v1/executions/cancel"
NOOP = {"kind": "noop"}


async def submit(api: httpx.AsyncClient, executions: list[Any]) -> dict[str, Any]:
    answer = await api.post(BATCH, json={"executions": executions})
    assert answer.status_code == 207, answer.text
    document: dict[str, Any] = answer.json()
    return document


class TestBatch:
    async def test_each_is_answered_in_its_place(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        taken = (await service.create_execution("noop")).id
        document = await submit(
            api,
            [
                NOOP | {"agent_id": "a", "parameters": {"steps": 2}},
                NOOP | {"colour": "red", "priority": 5000},
                {"kind": "nobody.runs.this"},
                NOOP | {"id": str(taken)},
                "noop",
                NOOP | {"start": False},
            ],
        )
        items = document["items"]
        assert (document["accepted"], document["refused"]) == (2, 4)
        assert [one["status"] for one in items] == [202, 422, 422, 409, 422, 202]
        codes = [one["problem"]["code"] for one in items[1:5]]
        assert codes == ["invalid_fields", "unknown_kind", "duplicate_execution", "invalid_fields"]
        assert [one["id"] for one in items[1:5]] == [None, None, str(taken), None]
        pointers = sorted(one["pointer"] for one in items[1]["problem"]["errors"])
        assert pointers == ["#/executions/1/colour", "#/executions/1/priority"]
        for one in (items[0], items[5]):
            read = (await api.get(one["execution"]["links"]["self"])).json()
            left_out = {"parameters", "result", "progress"}
            assert one["id"] == read["id"]
            assert one["execution"].keys() == read.keys() - {"parameters", "result"}
            assert all(one["execution"][name] == read[name] for name in read.keys() - left_out)

    @pytest.mark.parametrize("executions", [[], [NOOP] * 1001, None, {"kind": "noop"}])
    async def test_what_is_no_batch(self, api: httpx.AsyncClient, service: ExecutionService, executions: Any) -> None:
        answer = await api.post(BATCH, json={"executions": executions})
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_fields")
        assert (await service.list_executions())[1] == 0

    async def test_a_thousand(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        document = await submit(api, [NOOP | {"priority": number} for number in range(1000)])
        assert [one["execution"]["priority"] for one in document["items"]] == list(range(1000))
        assert (await service.list_executions())[1] == 1000

    async def test_where_none_can_be_taken_the_service_says_so(
        self, api: httpx.AsyncClient, service: ExecutionService, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def away(*_: object, **__: object) -> None:
            raise DatabaseUnavailableError("Appending", "PostgreSQL is not reachable")

        monkeypatch.setattr(service.state_manager, "begin_creation", away)
        answer = await api.post(BATCH, json={"executions": [NOOP] * 3})
        assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
        assert answer.headers["retry-after"]


class TestSentAgain:
    async def test_under_a_key_the_first_answer_is_given_again(self, api: httpx.AsyncClient) -> None:
        body, key = {"executions": [NOOP] * 3}, {"Idempotency-Key": "nightly"}
        first = await api.post(BATCH, json=body, headers=key)
        again = await api.post(BATCH, json=body, headers=key)
        assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")

    async def test_what_the_service_had_no_room_for_is_taken_under_the_same_key(self, database_url: str) -> None:
        settings = short_settings(database_url, submission_queue_limit=60)
        body, key, ids = {"executions": [NOOP] * 400}, {"Idempotency-Key": "nightly"}, []
        async with open_service(settings) as service, connected(create_app(service)) as api:
            async with asyncio.timeout(PATIENCE):
                while True:
                    answer = await api.post(BATCH, json=body, headers=key)
                    ids.append([one["id"] for one in answer.json().get("items", ())])
                    if answer.status_code == 207 and answer.json()["refused"] == 0:
                        break
            assert len(ids) > 1, "there was room at once"
            for some in filter(None, ids):
                assert all(one in {None, last} for one, last in zip(some, ids[-1], strict=True))
            assert (await service.list_executions())[1] == 400
            assert (await api.post(BATCH, json=body, headers=key)).headers["idempotent-replayed"] == "true"
        await check_database(database_url)


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as api:
        yield api


class TestCancel:
    async def test_what_matches_is_cancelled(self, api: httpx.AsyncClient) -> None:
        await submit(api, [NOOP | {"task_id": "t"}] * 3 + [NOOP])
        body = {"filters": {"task_id": "t", "state": "PENDING"}, "reason": "superseded", "limit": 2}
        first = await api.post(CANCEL, json=body)
        assert first.status_code == 207
        assert (first.json()["cancelled"], first.json()["refused"], first.json()["more"]) == (2, 0, True)
        assert [one["status"] for one in first.json()["items"]] == [200, 200]
        second = (await api.post(CANCEL, json=body)).json()
        assert (second["cancelled"], second["more"]) == (1, False)
        listed = (await api.get("/v1/executions", params={"state": "CANCELLED"})).json()["items"]
        answered = [one["execution"] for one in first.json()["items"] + second["items"]]
        assert answered == listed

    @pytest.mark.parametrize(
        "body",
        [
            {},
            {"filters": {}},
            {"filters": {"kind": None}},
            {"filters": {"kind": "noop", "task_id": None}},
            {"filters": {"colour": "red"}},
            {"filters": {"state": "DONE"}},
            {"filters": {"created_after": "yesterday"}},
            {"filters": {"created_after": "2025-01-01T00:00:00"}},
            {"filters": {"created_after": 5}},
            {"filters": {"parent_id": "mine"}},
            {"filters": {"kind": "\x00"}},
            {"filters": {"kind": "noop"}, "limit": 0},
            {"filters": {"kind": "noop"}, "limit": 1001},
            {"filters": {"kind": "noop"}, "limit": True},
            {"filters": {"kind": "noop"}, "reason": "x" * 2001},
            {"filters": {"kind": "noop"}, "why": "?"},
        ],
    )
    async def test_refused(self, api: httpx.AsyncClient, service: ExecutionService, body: Any) -> None:
        execution = await service.create_execution("noop")
        answer = await api.post(CANCEL, json=body)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"
        assert await service.get_execution(execution.id) == execution

    async def test_another_tenants_are_left_alone(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        theirs = await service.for_tenant("other").create_execution("noop")
        answer = await api.post(CANCEL, json={"filters": {"kind": "noop"}})
        assert answer.json()["items"] == []
        assert await service.for_tenant("other").get_execution(theirs.id) == theirs
