"""Request ids, and the line in the log."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import structlog
from fastapi import FastAPI
from structlog.testing import LogCapture

from execution.service import ExecutionService

SECRET = "hunter2"


@pytest.fixture
def lines() -> Iterator[list[Any]]:
    """What is logged, with what stands in the context."""
    before = structlog.get_config()
    capture = LogCapture()
    structlog.configure(processors=[structlog.contextvars.merge_contextvars, capture], cache_logger_on_first_use=False)
    yield capture.entries
    structlog.configure(**before)


def requests_in(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "http.request"]


class TestRequestId:
    async def test_a_sane_one_is_kept(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/v1/executions/x", headers={"x-request-id": "trace:42/a.b-c_d"})
        assert answer.headers["x-request-id"] == "trace:42/a.b-c_d"
        assert answer.json()["request_id"] == "trace:42/a.b-c_d"

    async def test_any_other_is_replaced(self, api: httpx.AsyncClient) -> None:
        wrong = ["", " ", "a b", "a" * 129, "x\ty", "-x", "é", '"', "x\x1b[31m"]
        answers = [await api.get("/health/live", headers={b"x-request-id": one.encode()}) for one in wrong]
        made = {answer.headers["x-request-id"] for answer in answers}
        assert len(made) == len(wrong)
        assert {len(one) for one in made} == {32}

    async def test_it_stands_in_what_is_logged_on_the_way(
        self, app: FastAPI, api: httpx.AsyncClient, lines: list[Any]
    ) -> None:
        @app.get("/says")
        async def says() -> str:
            structlog.get_logger().info("on the way")
            return ""

        await api.get("/says", headers={"x-request-id": "mine"})
        assert {line["event"]: line["request_id"] for line in lines} == {"on the way": "mine", "http.request": "mine"}
        assert structlog.contextvars.get_contextvars() == {}


class TestLine:
    async def test_what_it_tells(self, api: httpx.AsyncClient, service: ExecutionService, lines: list[Any]) -> None:
        execution = await service.create_execution("noop")
        answer = await api.get(f"/v1/executions/{execution.id}?password={SECRET}", headers={"x-api-key": SECRET})
        [line] = requests_in(lines)
        assert line["duration_ms"] > 0
        assert {name: line[name] for name in ("method", "route", "status", "bytes", "log_level")} == {
            "method": "GET",
            "route": "/v1/executions/{execution_id}",
            "status": answer.status_code,
            "bytes": len(answer.content),
            "log_level": "info",
        }
        assert SECRET not in repr(lines)
        assert str(execution.id) not in repr(line)

    async def test_nothing_of_a_body_is_in_it(self, api: httpx.AsyncClient, lines: list[Any]) -> None:
        await api.post("/v1/executions", json={"kind": "noop", "parameters": {"token": SECRET}, "unknown": SECRET})
        await api.post("/v1/executions", json={"kind": "noop", "parameters": {"token": SECRET}})
        assert [line["status"] for line in requests_in(lines)] == [422, 202]
        assert SECRET not in repr(lines)

    async def test_a_path_that_nobody_serves(self, api: httpx.AsyncClient, lines: list[Any]) -> None:
        await api.get(f"/v1/{SECRET}")
        await api.request("PROPFIND", "/v1/executions")
        unmatched, other = requests_in(lines)
        assert (unmatched["method"], unmatched["route"]) == ("GET", "unmatched")
        assert other["method"] == "OTHER"

    async def test_a_defect(self, app: FastAPI, lines: list[Any]) -> None:
        @app.get("/broken")
        async def broken() -> None:
            raise ZeroDivisionError

        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as api:
            answer = await api.get("/broken", headers={"x-request-id": "mine"})
        assert (answer.status_code, answer.json()["code"]) == (500, "internal")
        assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine"
        assert [line["event"] for line in lines] == ["http.defect", "http.request"]
        assert requests_in(lines)[0]["status"] == 500

    async def test_those_who_look_after_the_process_are_not_worth_a_line(
        self, api: httpx.AsyncClient, lines: list[Any]
    ) -> None:
        for path in ("/health/live", "/health/ready", "/metrics"):
            await api.get(path)
        assert {line["log_level"] for line in requests_in(lines)} == {"debug"}
