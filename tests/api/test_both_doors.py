"""Every command through both doors, HTTP and Kafka: the same outcome, and the same log."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import pytest

from events.command_client import CommandClient
from events.command_envelope import COMMANDS, CommandReply
from execution.domain.execution import JsonObject
from execution.ids import new_id
from execution.incoming_command import COMMAND_MODELS
from execution.keys import OWN_NAME, KeyRing
from execution.presentation import location
from execution.service import ExecutionService
from tests.support.client_commands import CLIENT_COMMANDS
from tests.support.kafka import delete_topics
from tests.support.kafka_commands import CommandTopics, carrying_out
from tests.support.stored import AnyConnection, kept_with_its_effect

API_KEY = "k" * 40
TRACE = f"00-{'1' * 32}-{'2' * 16}-01"
BODIES: dict[str, JsonObject] = {
    "report_progress": {"percentage": 40, "message": "so far", "context": {"page": 4}},
    "submit_result": {"error": {"type": "PageMissing", "message": "page 7", "page": 7}},
}
PATHS = {"report_progress": "progress", "submit_result": "result"}
_OWN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_OWN_MEMBERS = {"request_id", "duration_seconds"}
_TIME = re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(?:\+00:00|Z)")


@dataclass(frozen=True)
class Outcome:
    """What came of a command, without what differs from one execution to its twin."""

    status: int
    document: Any
    log: Any


def unnamed(value: Any) -> Any:
    """With every id and time the same: a twin has others."""
    if isinstance(value, dict):
        return {name: unnamed(one) for name, one in value.items() if name not in _OWN_MEMBERS}
    if isinstance(value, list):
        return [unnamed(one) for one in value]
    return _TIME.sub("TIME", _OWN.sub("ID", value)) if isinstance(value, str) else value


class Doors:
    """One service, and the two ways into it."""

    def __init__(self, service: ExecutionService, api: httpx.AsyncClient, client: CommandClient) -> None:
        self.service, self._api, self._client = service, api, client

    async def over_http(
        self, name: str, execution_id: UUID | None, body: Any, *, version: int | None = None, key: str | None = None
    ) -> httpx.Response:
        """The request."""
        headers = {"authorization": f"Bearer {API_KEY}"}
        headers |= {} if version is None else {"if-match": f'"{version}"'}
        headers |= {} if key is None else {"idempotency-key": key}
        path = "/v1/executions" if name == "create" else f"{location(execution_id)}/{PATHS.get(name, name)}"
        return await self._api.post(path, json=body, headers=headers)

    async def over_kafka(
        self, name: str, execution_id: UUID | None, body: Any, *, version: int | None = None, key: str | None = None
    ) -> CommandReply:
        """The command."""
        if name == "create":
            return await self._client.create(body, command_id=key)
        assert execution_id is not None
        return await self._client.send(name, execution_id, body, expected_version=version, command_id=key)

    async def log_of(self, execution_id: UUID) -> Any:
        """Of the execution, if there is one."""
        if await self.service.repository.get_by_id(execution_id) is None:
            return None
        return unnamed([item.to_json() for item in await self.service.history(execution_id)])

    async def compare(self, name: str, one: UUID, twin: UUID, body: Any, *, version: int | None = None) -> Outcome:
        """What comes of the command on both of the twins, which must be the same."""
        answer = await self.over_http(name, one, body, version=version)
        reply = await self.over_kafka(name, twin, body, version=version)
        http = Outcome(answer.status_code, unnamed(answer.json()), await self.log_of(one))
        kafka = Outcome(reply.status, unnamed(reply.execution or reply.problem), await self.log_of(twin))
        assert http == kafka, name
        return kafka


@pytest.fixture
async def command_topics(kafka: str) -> AsyncIterator[CommandTopics]:
    topics = CommandTopics(kafka)
    yield topics
    await delete_topics(kafka, topics.all)


@pytest.fixture
def changes(command_topics: CommandTopics) -> dict[str, Any]:
    return command_topics.settings | {"api_key": API_KEY}


@pytest.fixture
async def doors(
    command_topics: CommandTopics, service: ExecutionService, api: httpx.AsyncClient, keys: KeyRing
) -> AsyncIterator[Doors]:
    async with carrying_out(service, keys), command_topics.client(OWN_NAME) as client:
        yield Doors(service, api, client)


def test_no_command_is_left_out() -> None:
    assert {"create", *(one.name for one in CLIENT_COMMANDS)} == set(COMMANDS) == set(COMMAND_MODELS)


async def test_what_is_accepted(doors: Doors) -> None:
    for command in CLIENT_COMMANDS:
        body = BODIES.get(command.name, {"reason": "asked for"})
        one, twin = [await command.prepare(doors.service) for _ in range(2)]
        outcome = await doors.compare(command.name, one.id, twin.id, body, version=one.version)
        assert outcome.status == 200
        assert outcome.log[-1]["actor"] == "key:settings"
        if command.name not in BODIES:
            one, twin = [await command.prepare(doors.service) for _ in range(2)]
            assert (await doors.compare(command.name, one.id, twin.id, None)).status == 200


async def test_what_is_refused(doors: Doors) -> None:
    missing = new_id()
    one = twin = await doors.service.create_execution("noop")
    for command in CLIENT_COMMANDS:
        body = BODIES.get(command.name)
        assert (await doors.compare(command.name, missing, missing, body)).document["code"] == "execution_not_found"
        one, twin = [await command.prepare(doors.service) for _ in range(2)]
        stale = await doors.compare(command.name, one.id, twin.id, body, version=one.version + 1)
        assert (stale.status, stale.document["code"]) == (412, "precondition_failed")
        wrong = await doors.compare(command.name, one.id, twin.id, {"reasom": "misspelt", "percentage": "hunter2"})
        assert (wrong.status, wrong.document["code"]) == (422, "invalid_fields")
        assert "hunter2" not in str(wrong.document)
        if command.name not in {"start", "cancel"}:
            one, twin = [await doors.service.create_execution("noop", start=False) for _ in range(2)]
            refused = await doors.compare(command.name, one.id, twin.id, body)
            assert (refused.status, refused.document["code"]) == (409, "invalid_execution_state")
    assert (await doors.compare("report_progress", one.id, twin.id, None)).document["code"] == "invalid_fields"
    large = {"result": {"pages": "x" * 270_000}}
    assert (await doors.compare("submit_result", one.id, twin.id, large)).document["code"] == "document_too_large"


SUBMISSIONS: list[tuple[JsonObject, int]] = [
    ({}, 202),
    ({"parameters": {"seconds": 0}, "priority": 7, "task_id": "T-17", "start": False}, 202),
    ({"run_at": "2030-01-01T00:00:00Z", "retry": {"max_attempts": 3}, "trace_context": TRACE}, 202),
    ({"kind": "unheard.of"}, 422),
    ({"priority": "high"}, 422),
    ({"run_at": 17}, 422),
    ({"parameters": {"text": "x" * 270_000}}, 413),
    ({"parameters": {"text": "\0"}}, 422),
]


async def test_what_is_submitted(doors: Doors) -> None:
    for fields, status in SUBMISSIONS:
        one, twin = new_id(), new_id()
        answer = await doors.over_http("create", one, {"kind": "noop", "id": str(one)} | fields)
        reply = await doors.over_kafka("create", twin, {"kind": "noop", "id": str(twin)} | fields)
        http = Outcome(answer.status_code, unnamed(answer.json()), await doors.log_of(one))
        kafka = Outcome(reply.status, unnamed(reply.execution or reply.problem), await doors.log_of(twin))
        assert http == kafka
        assert kafka.status == status
        assert (kafka.log is not None) == (status == 202)


class TestUnderOneId:
    """Sent again, through whichever door, a command is answered as it was the first time."""

    async def test_from_http_to_kafka(self, doors: Doors) -> None:
        for command in CLIENT_COMMANDS:
            execution = await command.prepare(doors.service)
            body, key = BODIES.get(command.name, {"reason": "once"}), f"once-{command.name}"
            first = await doors.over_http(command.name, execution.id, body, key=key, version=execution.version)
            again = await doors.over_kafka(command.name, execution.id, body, key=key, version=execution.version)
            assert (again.status, again.execution, again.replayed) == (200, first.json(), True)
            other = await doors.over_kafka(command.name, execution.id, BODIES["report_progress"], key=key)
            assert (other.problem or {}).get("code") in {"idempotency_key_reused", "invalid_fields"}

    async def test_from_kafka_to_http(self, doors: Doors, sql: AnyConnection) -> None:
        for command in CLIENT_COMMANDS:
            execution = await command.prepare(doors.service)
            body, key = BODIES.get(command.name), f"once-{command.name}"
            first = await doors.over_kafka(command.name, execution.id, body, key=key)
            again = await doors.over_http(command.name, execution.id, body, key=key)
            assert (first.status, first.replayed) == (200, False)
            assert again.headers["idempotent-replayed"] == "true"
            assert first.execution is not None
            assert await kept_with_its_effect(sql, execution.id, first.execution["version"]) == again.content
            assert again.headers["etag"] == f'"{first.execution["version"]}"'
            assert again.json() == first.execution
            reused = await doors.over_http(command.name, execution.id, body, key=key, version=99)
            assert reused.json()["code"] == "idempotency_key_reused"

    async def test_a_submission(self, doors: Doors, sql: AnyConnection) -> None:
        body = {"kind": "noop", "id": str(new_id())}
        first = await doors.over_kafka("create", None, body, key="submitted")
        again = await doors.over_http("create", None, body, key="submitted")
        assert (first.status, again.status_code) == (202, 202)
        assert await kept_with_its_effect(sql, UUID(body["id"]), again.json()["version"]) == again.content
        assert again.json() == first.execution
        assert again.headers["location"] == location(body["id"])
        assert (await doors.over_kafka("create", None, body, key="submitted")).replayed
