"""Submitting and reading executions over HTTP."""

from __future__ import annotations

import httpx

from execution.api.server import HttpServer
from execution.ids import new_id
from execution.presentation import execution_to_json
from execution.service import ExecutionService
from tests.support.service import PATIENCE


class TestCreate:
    async def test_it_is_accepted_and_can_be_read_where_the_answer_says(
        self, api: httpx.AsyncClient, service: ExecutionService
    ) -> None:
        created = await api.post("/v1/executions", json={"kind": "noop", "parameters": {"steps": 2}, "task_id": "t"})
        assert created.status_code == 202
        assert created.headers["etag"] == '"2"'
        read = await api.get(created.headers["location"])
        assert read.status_code == 200
        assert read.json() == created.json()
        execution = (await service.list_executions())[0][0]
        own = f"/v1/executions/{execution.id}"
        links = {"self": own, "history": f"{own}/history", "events": f"{own}/events"}
        assert read.json() == execution_to_json(await service.get_execution(execution.id)) | {"links": links}

    async def test_a_body_that_is_no_json(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/v1/executions", content=b"{", headers={"content-type": "application/json"})
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")

    async def test_an_unknown_field(self, api: httpx.AsyncClient) -> None:
        answer = await api.post("/v1/executions", json={"kind": "noop", "secret": "hunter2"})
        assert answer.status_code == 422
        assert answer.json()["errors"] == [
            {"in": "body", "pointer": "#/secret", "message": "Extra inputs are not permitted"}
        ]
        assert "hunter2" not in answer.text


class TestGet:
    async def test_an_execution_that_is_not_there(self, api: httpx.AsyncClient) -> None:
        answer = await api.get(f"/v1/executions/{new_id()}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["type"] == "/problems/execution_not_found"


async def test_it_is_served_on_a_socket(live: HttpServer) -> None:
    async with httpx.AsyncClient(base_url=live.url, timeout=PATIENCE) as client:
        created = await client.post("/v1/executions", json={"kind": "noop"})
        assert (await client.get(created.headers["location"])).json() == created.json()
