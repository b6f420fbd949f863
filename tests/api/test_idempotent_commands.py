"""`Idempotency-Key` on commands: once carried out, or once refused, is what everybody is told who sends it again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest

from execution.domain.state import ExecutionState
from execution.ids import new_id
from execution.presentation import location
from execution.service import ExecutionService
from tests.support.client_commands import CLIENT_COMMANDS, ClientCommand
from tests.support.over_http import check_problem, submitted
from tests.support.stored import AnyConnection, kept_with_its_effect

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "report_progress": ("progress", {"percentage": 40, "message": "so far", "context": {"page": 4}}),
    "submit_result": ("result", {"error": {"type": "PageMissing", "message": "page 7"}}),
}
EACH_COMMAND = pytest.mark.parametrize("command", CLIENT_COMMANDS, ids=lambda command: command.name)


class Keyed:
    """One command on one execution, sent again and again under one key."""

    def __init__(self, api: httpx.AsyncClient, path: str, body: Any = None, if_match: str | None = None) -> None:
        self._api, self._path, self._body = api, path, body
        self._headers = {"idempotency-key": str(new_id())} | ({"if-match": if_match} if if_match else {})

    async def send(self) -> httpx.Response:
        return await self._api.post(self._path, json=self._body, headers=self._headers)

    async def is_answered_as(self, first: httpx.Response) -> None:
        again = await self.send()
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        assert (again.headers["content-type"], again.headers.get("etag")) == (
            first.headers["content-type"],
            first.headers.get("etag"),
        )


async def keyed(
    api: httpx.AsyncClient, service: ExecutionService, command: ClientCommand, if_match: str = '"{version}"'
) -> Keyed:
    """A command that an execution accepts at its version."""
    execution = await command.prepare(service)
    name, body = BODIES.get(command.name, (command.name, {"reason": "asked for"}))
    path = f"{location(execution.id)}/{name}"
    return Keyed(api, path, body, if_match.format(version=execution.version))


async def nobody_answered(sql: AnyConnection) -> None:
    """As if who carried the commands out had died just before their answers were kept, a while ago."""
    await sql.execute("UPDATE idempotency_keys SET answered_at = NULL, status = NULL, headers = NULL, body = NULL")


@EACH_COMMAND
async def test_it_is_carried_out_once(
    api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection, command: ClientCommand
) -> None:
    request = await keyed(api, service, command)
    first = await request.send()
    assert first.status_code == 200, first.text
    document = first.json()
    assert await kept_with_its_effect(sql, UUID(document["id"]), document["version"]) == first.content
    await request.is_answered_as(first)
    (execution,), _ = await service.list_executions()
    assert execution.version == first.json()["version"]


@pytest.mark.parametrize(
    ("command", "if_match"),
    [(command, '"{version}"') for command in CLIENT_COMMANDS]
    + [(CLIENT_COMMANDS[0], '"{version}", "1000"'), (CLIENT_COMMANDS[0], "*")],
    ids=[*(command.name for command in CLIENT_COMMANDS), "several-versions", "any-version"],
)
async def test_a_successor_is_given_the_first_outcome(
    api: httpx.AsyncClient, service: ExecutionService, sql: AnyConnection, command: ClientCommand, if_match: str
) -> None:
    """Also where the version that it was decided on has long been another one."""
    request = await keyed(api, service, command, if_match)
    first = await request.send()
    await nobody_answered(sql)
    (execution,), _ = await service.list_executions()
    await (service.retry_execution if execution.is_terminal else service.cancel_execution)(execution.id)
    again = await request.send()
    assert "idempotent-replayed" not in again.headers
    assert (again.status_code, again.json(), again.headers["etag"]) == (200, first.json(), first.headers["etag"])
    await request.is_answered_as(again)


async def test_so_is_a_submission(api: httpx.AsyncClient, sql: AnyConnection) -> None:
    request = Keyed(api, "/v1/executions", {"kind": "noop"})
    first = await request.send()
    assert first.status_code == 202, first.text
    document = first.json()
    assert await kept_with_its_effect(sql, UUID(document["id"]), document["version"]) == first.content
    await request.is_answered_as(first)


class TestRefused:
    async def test_a_stale_version_stays_stale(self, api: httpx.AsyncClient) -> None:
        own = location((await submitted(api))["id"])
        request = Keyed(api, f"{own}/cancel", if_match='"3"')
        first = await request.send()
        check_problem(first, 412, "precondition_failed")
        assert (await api.post(f"{own}/pause")).headers["etag"] == '"3"'
        await request.is_answered_as(first)

    async def test_a_state_that_refused_may_have_changed(self, api: httpx.AsyncClient) -> None:
        own = location((await submitted(api))["id"])
        request = Keyed(api, f"{own}/retry")
        first = await request.send()
        assert check_problem(first, 409, "invalid_execution_state")["state"] == ExecutionState.PENDING
        await api.post(f"{own}/cancel")
        await request.is_answered_as(first)
        assert (await api.get(own)).json()["state"] == ExecutionState.CANCELLED

    async def test_what_was_not_there(self, api: httpx.AsyncClient) -> None:
        own = location(new_id())
        request = Keyed(api, f"{own}/cancel")
        first = await request.send()
        check_problem(first, 404, "execution_not_found")
        await request.is_answered_as(first)

    async def test_fields_that_were_wrong_are_mended(self, api: httpx.AsyncClient) -> None:
        own = location((await submitted(api))["id"])
        headers = {"idempotency-key": "one"}
        check_problem(await api.post(f"{own}/cancel", json={"why": 1}, headers=headers), 422, "invalid_fields")
        assert (await api.post(f"{own}/cancel", json={"reason": "1"}, headers=headers)).status_code == 200


async def test_every_post_takes_a_key(api: httpx.AsyncClient) -> None:
    """So says the contract; a route that did not would not carry the command's id either."""
    document = (await api.get("/openapi.json")).json()
    posts = {path: item["post"] for path, item in document["paths"].items() if "post" in item}
    assert len(posts) >= 8
    for path, operation in posts.items():
        named = [one["name"].lower() for one in operation["parameters"] if one["in"] == "header"]
        assert "idempotency-key" in named, path
