"""Commands over HTTP: what each does, what it is answered with, and what is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from execution.domain.state import ExecutionState
from execution.ids import new_id
from execution.presentation import location
from execution.repository.event_log import EventLog
from execution.repository.relay_cursors import RelayCursorStore
from execution.service import ExecutionService
from tests.support.over_http import check_problem, submitted

S = ExecutionState
COMMANDS: dict[str, dict[str, Any] | None] = {
    "start": None,
    "cancel": None,
    "pause": None,
    "resume": None,
    "retry": None,
    "progress": {"percentage": 40},
    "result": {"result": {"pages": 3}},
}


async def running(api: httpx.AsyncClient, service: ExecutionService) -> str:
    """Where one is that runs, driven from outside."""
    document = await submitted(api)
    execution = await service.get_execution(document["id"])
    await service.state_manager.change_state(execution.id, S.RUNNING)
    return location(execution.id)


class TestTheWholeLife:
    async def test_each_command_is_answered_with_the_execution_after_it(self, api: httpx.AsyncClient) -> None:
        own = location((await submitted(api, start=False))["id"])
        for command, state, version in [
            ("start", S.PENDING, 2),
            ("pause", S.PAUSED, 3),
            ("resume", S.PENDING, 4),
            ("cancel", S.CANCELLED, 6),
            ("retry", S.PENDING, 7),
        ]:
            answer = await api.post(f"{own}/{command}", json={"reason": f"to {command}"})
            assert (answer.status_code, answer.json()["state"]) == (200, state), command
            assert (answer.headers["etag"], answer.json()["version"]) == (f'"{version}"', version), command
            assert answer.json() == (await api.get(own)).json()
        items = (await api.get(f"{own}/history")).json()["items"]
        said = [one["data"]["reason"] for one in items if one["data"].get("reason")]
        assert said == ["to start", "to pause", "to resume", "to cancel", "to retry"]

    async def test_a_remote_worker_reports_and_ends_it(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        own = await running(api, service)
        report = {"percentage": 40, "message": "page 4", "context": {"page": 4}}
        assert (await api.post(f"{own}/progress", json=report)).json()["progress"] == report
        ended = await api.post(f"{own}/result", json={"result": {"pages": 10}})
        assert (ended.json()["state"], ended.json()["result"]) == (S.COMPLETED, {"pages": 10})

    async def test_it_fails_with_what_the_remote_worker_says(
        self, api: httpx.AsyncClient, service: ExecutionService
    ) -> None:
        error = {"type": "PageMissing", "message": "page 7", "page": 7}
        own = await running(api, service)
        assert (await api.post(f"{own}/result", json={"error": error})).json()["error"] == error

    async def test_part_of_a_result(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        body = {"result": {"pages": 9}, "error": {"type": "PageMissing", "message": "page 7"}, "partial": True}
        ended = (await api.post(f"{await running(api, service)}/result", json=body)).json()
        assert (ended["state"], ended["result"], ended["error"]) == (S.PARTIAL_SUCCESS, body["result"], body["error"])

    async def test_deleting_an_ended_one(self, api: httpx.AsyncClient) -> None:
        own = location((await submitted(api))["id"])
        refused = check_problem(await api.delete(own), 409, "invalid_execution_state")
        assert refused["state"] == "PENDING"
        await api.post(f"{own}/cancel")
        deleted = await api.delete(own)
        assert (deleted.status_code, deleted.content) == (204, b"")
        check_problem(await api.get(own), 404, "execution_not_found")

    async def test_deleting_one_that_is_not_published_yet(
        self, api: httpx.AsyncClient, service: ExecutionService
    ) -> None:
        own = location((await submitted(api))["id"])
        await api.post(f"{own}/cancel")
        cursors = RelayCursorStore(service.repository.db)
        hold = await cursors.take("execution.events.v1", "a relay", 60.0)
        assert hold is not None
        answer = await api.delete(own)
        refused = check_problem(answer, 409, "events_not_published")
        assert (refused["retriable"], refused["cursors"]) == (True, ["execution.events.v1"])
        assert answer.headers["retry-after"] == "1"
        assert await cursors.advance(hold, await EventLog(service.repository.db).head(), 60.0)
        assert (await api.delete(own)).status_code == 204


class TestRefusals:
    async def test_the_machines_refusal_says_where_it_is_and_what_is_allowed(self, api: httpx.AsyncClient) -> None:
        own = location((await submitted(api))["id"])
        document = check_problem(await api.post(f"{own}/start"), 409, "invalid_execution_state")
        assert (document["state"], document["version"]) == ("PENDING", 2)
        assert {"cancel", "pause"} <= set(document["allowed"])
        assert document["instance"] == f"{own}/start"

    @pytest.mark.parametrize("command", COMMANDS)
    async def test_one_that_is_not_there(self, api: httpx.AsyncClient, command: str) -> None:
        answer = await api.post(f"{location(new_id())}/{command}", json=COMMANDS[command])
        check_problem(answer, 404, "execution_not_found")

    @pytest.mark.parametrize(
        ("command", "body", "pointer"),
        [
            ("cancel", {"reasons": "x"}, "#/reasons"),
            ("cancel", {"reason": 3}, "#/reason"),
            ("cancel", [], "#"),
            ("progress", {}, "#/percentage"),
            ("progress", {"percentage": 101}, "#/percentage"),
            ("progress", {"percentage": "40"}, "#/percentage"),
            ("progress", {"percentage": True}, "#/percentage"),
            ("result", {"error": {"type": ""}}, "#/error/type"),
            ("result", {"result": {}, "error": {"type": "x"}}, "#"),
            ("result", {"partial": 1}, "#/partial"),
        ],
    )
    async def test_bodies_are_what_they_should_be(
        self, api: httpx.AsyncClient, command: str, body: object, pointer: str
    ) -> None:
        own = location((await submitted(api))["id"])
        document = check_problem(await api.post(f"{own}/{command}", json=body), 422, "invalid_fields")
        assert [(one["in"], one["pointer"]) for one in document["errors"]] == [("body", pointer)]
        assert (await api.get(own)).json()["version"] == 2

    async def test_a_parameter_that_there_is_not(self, api: httpx.AsyncClient) -> None:
        own = location((await submitted(api))["id"])
        document = check_problem(await api.post(f"{own}/cancel?force=true"), 422, "invalid_fields")
        assert document["errors"] == [
            {"in": "query", "pointer": "#/force", "message": "Not a parameter here; there is none"}
        ]
