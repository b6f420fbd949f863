"""`GET /v1/events`: everything that happens to the executions of a tenant, from wherever the client is."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from typing import Any

import httpx
import pytest

from execution.api.app import create_app
from execution.api.server import HttpServer
from execution.domain.execution import Execution
from execution.keys import KeyRing
from execution.principal import Scope
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.http_server import served
from tests.support.service import PATIENCE, short_settings
from tests.support.sse import StreamEvent, event_stream
from tests.support.waiting import eventually

EVENTS = "/v1/events"


def keys_of(events: list[StreamEvent]) -> list[tuple[str, int]]:
    return [(event.data["execution_id"], event.data["version"]) for event in events]


def of(*executions: Execution) -> list[tuple[str, int]]:
    """All that is in the logs of executions that were just submitted."""
    return [(str(one.id), version) for one in executions for version in (1, 2)]


class TestStream:
    async def test_it_begins_now_and_shows_what_histories_show(
        self, service: ExecutionService, live: HttpServer
    ) -> None:
        await service.create_execution("noop")
        async with event_stream(live.url, EVENTS) as stream:
            assert stream.status == 200
            execution = await service.create_execution("noop")
            events = await stream.some(2)
        assert [event.data for event in events] == [item.to_json() for item in await service.history(execution.id)]
        assert [event.type for event in events] == ["agent.execution.state_changed"] * 2

    async def test_it_can_be_narrowed_down(self, service: ExecutionService, live: HttpServer) -> None:
        async with event_stream(live.url, EVENTS) as stream:
            await service.create_execution("noop", agent_id="a")
            cancelled = await service.create_execution("noop", agent_id="b", task_id="t")
            await service.cancel_execution(cancelled.id)
            start = (await stream.some(1))[0].id
        expected: dict[str, list[int]] = {
            "agent_id=b&state=PENDING": [2],
            "task_id=t&state=CANCELLED": [3, 4],
            "agent_id=b&type=agent.execution.completed": [4],
            "kind=noop&task_id=t": [1, 2, 3, 4],
        }
        for query, versions in expected.items():
            async with event_stream(live.url, f"{EVENTS}?{query}&after={start}") as narrow:
                assert keys_of(await narrow.some(len(versions))) == [(str(cancelled.id), one) for one in versions]

    @pytest.mark.parametrize("query", ["unknown=1", "state=NONE", "type=none", f"after={'a' * 9000}"])
    async def test_by_what_is_understood_only(self, api: httpx.AsyncClient, query: str) -> None:
        assert (await api.get(f"{EVENTS}?{query}")).status_code == 422

    async def test_a_tenant_sees_its_own(self, service: ExecutionService, live: HttpServer, keys: KeyRing) -> None:
        mine = await keys.create("mine", tenant_id=service.settings.tenant_id, scopes=[Scope.READ])
        theirs = await keys.create("theirs", tenant_id="theirs", scopes=[Scope.READ])
        async with (
            event_stream(live.url, EVENTS, Authorization=f"Bearer {mine.token}") as my_stream,
            event_stream(live.url, EVENTS, Authorization=f"Bearer {theirs.token}") as their_stream,
            event_stream(live.url, EVENTS) as nobodys,
        ):
            assert nobodys.status == 401
            my_execution = await service.create_execution("noop")
            their_execution = await service.for_tenant("theirs").create_execution("noop")
            assert keys_of(await my_stream.some(2)) == of(my_execution)
            assert keys_of(await their_stream.some(2)) == of(their_execution)
            start = my_stream.last_event_id
            await service.create_execution("noop")
            after = await service.for_tenant("theirs").create_execution("noop")
        async with event_stream(
            live.url, EVENTS, last_event_id=start, Authorization=f"Bearer {theirs.token}"
        ) as with_my_position:
            seen = keys_of(await with_my_position.some(4))
            assert seen == of(their_execution, after), "a position gives no view of another tenant"


class TestComingBack:
    async def test_to_another_process_from_any_event(
        self, service: ExecutionService, live: HttpServer, database_url: str
    ) -> None:
        async with event_stream(live.url, EVENTS) as stream:
            executions = await asyncio.gather(*(service.create_execution("noop") for _ in range(4)))
            events = await stream.some(8)
        assert sorted(keys_of(events)) == sorted(of(*executions))
        async with open_service(short_settings(database_url)) as elsewhere, served(create_app(elsewhere)) as other:
            for number, event in enumerate(events[:-1], start=1):
                for path, last in ((EVENTS, event.id), (f"{EVENTS}?after={event.id}", None)):
                    async with event_stream(other.url, path, last_event_id=last) as again:
                        assert keys_of(await again.some(8 - number)) == keys_of(events[number:])

    async def test_from_where_it_began_though_it_has_seen_nothing(
        self, service: ExecutionService, live: HttpServer
    ) -> None:
        async with event_stream(live.url, EVENTS) as stream:
            reading = asyncio.create_task(stream.all())
            await eventually(lambda: stream.last_event_id, within=PATIENCE, what="a position")
            reading.cancel()
        execution = await service.create_execution("noop")
        async with event_stream(live.url, EVENTS, last_event_id=stream.last_event_id) as again:
            assert keys_of(await again.some(2)) == of(execution)

    async def test_with_garbage(self, api: httpx.AsyncClient) -> None:
        ahead = urlsafe_b64encode(b"999999999:999999999:").decode().rstrip("=")
        for garbage in ("1", "x" * 100, "!", "MTox", ahead, urlsafe_b64encode(b"1:1:|'; DROP TABLE x|a|1").decode()):
            answer = await api.get(EVENTS, headers={"Last-Event-ID": garbage})
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_position"), garbage
            answer = await api.get(EVENTS, params={"after": garbage})
            assert (answer.status_code, answer.json()["code"]) == (400, "invalid_position"), garbage


class TestExpired:
    @pytest.fixture
    def changes(self) -> dict[str, Any]:
        return {"stream_replay_limit": 5, "stream_ping_seconds": 0.05}

    async def test_who_has_missed_too_much_is_told_and_goes_on_from_now(
        self, service: ExecutionService, live: HttpServer
    ) -> None:
        async with event_stream(live.url, EVENTS) as stream:
            await service.create_execution("noop")
            await stream.some(2)
        for _ in range(4):
            await service.create_execution("noop")
        async with event_stream(live.url, EVENTS, last_event_id=stream.last_event_id) as again:
            (told,) = await again.some(1)
            assert (told.type, told.data["code"]) == ("execution.stream.expired", "stream_expired")
            later = await service.create_execution("noop")
            assert keys_of(await again.some(2)) == of(later)

    async def test_a_ping_says_how_far_it_is(self, service: ExecutionService, live: HttpServer) -> None:
        """Otherwise a client with a narrow filter would come back from where its last event was, long ago."""
        async with event_stream(live.url, f"{EVENTS}?agent_id=nobody") as stream:
            reading = asyncio.create_task(stream.all())
            first = await eventually(lambda: stream.last_event_id, within=PATIENCE, what="a position")
            for _ in range(4):
                await service.create_execution("noop")
            await eventually(lambda: stream.last_event_id != first, within=PATIENCE, what="another position")
            pings = stream.comments.count("ping")
            await eventually(lambda: stream.comments.count("ping") > pings + 1, within=PATIENCE, what="pings")
            reading.cancel()
        async with event_stream(live.url, EVENTS, last_event_id=stream.last_event_id) as again:
            later = await service.create_execution("noop")
            assert keys_of(await again.some(2)) == of(later)
