"""`GET /v1/executions/{id}/events`: the log of one execution, live, from wherever the client is."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from execution.api.server import STOP_SECONDS, HttpServer
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.keys import KeyRing
from execution.principal import Scope
from execution.service import ExecutionService
from tests.support.http_server import served
from tests.support.service import PATIENCE
from tests.support.sse import event_stream
from tests.support.waiting import eventually


def path_of(execution: Execution, after: int | None = None) -> str:
    return f"/v1/executions/{execution.id}/events" + ("" if after is None else f"?after={after}")


async def running(service: ExecutionService) -> Execution:
    """Three entries in its log."""
    execution = await service.create_execution("noop")
    return await service.state_manager.change_state(execution.id, ExecutionState.RUNNING)


class TestStream:
    async def test_the_past_then_the_present_then_the_end(self, service: ExecutionService, live: HttpServer) -> None:
        execution = await running(service)
        async with event_stream(live.url, path_of(execution)) as stream:
            assert (stream.status, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
            assert stream.headers["cache-control"] == "no-cache"
            assert stream.headers["x-accel-buffering"] == "no"
            past = await stream.some(3)
            await service.report_progress(execution.id, 50, "half")
            (present,) = await stream.some(1)
            await service.submit_result(execution.id, {"answer": 42})
            async with asyncio.timeout(PATIENCE):
                end = await stream.all()
        events = [*past, present, *end]
        history = [item.to_json() for item in await service.history(execution.id)]
        assert [event.data for event in events] == history, "exactly what the history shows"
        assert [event.id for event in events] == [str(number) for number in range(1, len(history) + 1)]
        assert [event.type for event in events] == [item["type"] for item in history]
        assert events[-1].type == "agent.execution.completed"
        assert stream.retry is not None

    async def test_of_what_has_ended_it_is_the_whole_log(
        self, service: ExecutionService, api: httpx.AsyncClient
    ) -> None:
        execution = await service.create_execution("noop")
        ended = await service.cancel_execution(execution.id)
        answer = await api.get(path_of(execution))
        assert answer.text.count("\nid: ") == ended.version


class TestComingBack:
    @pytest.mark.parametrize("after", range(4))
    async def test_after_the_last_event_it_has(self, service: ExecutionService, live: HttpServer, after: int) -> None:
        execution = await running(service)
        for path, last in ((path_of(execution, after), None), (path_of(execution, 3), str(after))):
            async with event_stream(live.url, path, last_event_id=last) as stream:
                events = await stream.some(3 - after)
                assert [event.id for event in events] == [str(number) for number in range(after + 1, 4)]

    async def test_to_another_server(self, service: ExecutionService, live: HttpServer, app: FastAPI) -> None:
        execution = await running(service)
        async with event_stream(live.url, path_of(execution)) as stream:
            await stream.some(2)
        last = stream.last_event_id
        async with served(app) as other, event_stream(other.url, path_of(execution), last_event_id=last) as again:
            assert [event.id for event in await again.some(1)] == ["3"]

    async def test_past_the_end_there_is_nothing_to_come_back_for(
        self, service: ExecutionService, api: httpx.AsyncClient
    ) -> None:
        execution = await service.create_execution("noop")
        ended = await service.cancel_execution(execution.id)
        for after in (ended.version, ended.version + 1):
            answer = await api.get(path_of(execution), headers={"Last-Event-ID": str(after)})
            assert (answer.status_code, answer.content) == (204, b"")

    async def test_after_a_retry_it_goes_on(self, service: ExecutionService, live: HttpServer) -> None:
        execution = await service.create_execution("noop")
        ended = await service.cancel_execution(execution.id)
        retried = await service.retry_execution(execution.id)
        async with event_stream(live.url, path_of(execution), last_event_id=str(ended.version)) as stream:
            events = await stream.some(retried.version - ended.version)
            assert events[-1].data["data"]["new_state"] == "PENDING"
        async with event_stream(live.url, path_of(execution)) as stream:
            assert len(await stream.some(retried.version)) == retried.version, "not only up to the first end"

    @pytest.mark.parametrize("last", ["x", "-1", "1.5", "9999999999", "²", "0x1", "1e3", "1 2", "5"])
    async def test_from_where_it_cannot_be(self, service: ExecutionService, api: httpx.AsyncClient, last: str) -> None:
        execution = await running(service)
        answer = await api.get(path_of(execution), headers=[(b"Last-Event-ID", last.encode())])
        assert answer.status_code == 400
        assert answer.json()["code"] == "invalid_position"

    @pytest.mark.parametrize("after", ["x", "-1", "9999999999"])
    async def test_after_what_is_no_version(
        self, service: ExecutionService, api: httpx.AsyncClient, after: str
    ) -> None:
        execution = await running(service)
        assert (await api.get(f"{path_of(execution)}?after={after}")).status_code == 422


class TestSilence:
    @pytest.fixture
    def changes(self) -> dict[str, float]:
        return {"stream_ping_seconds": 0.05}

    async def test_a_comment_breaks_it(self, service: ExecutionService, live: HttpServer) -> None:
        execution = await running(service)
        async with event_stream(live.url, path_of(execution)) as stream:
            reading = asyncio.create_task(stream.all())
            await eventually(lambda: stream.comments.count("ping") > 2, within=PATIENCE, what="pings")
            reading.cancel()


class TestTheEndFromOutside:
    async def test_a_stop_ends_streams_and_says_when_to_come_back(
        self, service: ExecutionService, app: FastAPI
    ) -> None:
        execution = await running(service)
        loop = asyncio.get_running_loop()
        async with (
            served(app) as server,
            event_stream(server.url, path_of(execution)) as stream,
            event_stream(server.url, "/v1/events") as log,
        ):
            await stream.some(3)
            began = loop.time()
            server.stop()
            async with asyncio.timeout(PATIENCE):
                assert await stream.all() == []
                assert await log.all() == []
            assert stream.retry is not None
            assert "to be continued: connect again" in stream.comments
            assert "to be continued: connect again" in log.comments
        assert loop.time() - began < STOP_SECONDS, "it had to be broken off"

    async def test_who_leaves_is_forgotten_at_once(
        self, service: ExecutionService, live: HttpServer, app: FastAPI
    ) -> None:
        execution = await running(service)
        streams = app.state.door.streams
        async with event_stream(live.url, path_of(execution)), event_stream(live.url, "/v1/events"):
            await eventually(lambda: len(streams) == 2, within=PATIENCE, what="two streams")
        before_a_ping = service.settings.stream_ping_seconds / 2
        await eventually(lambda: len(streams) == 0, within=before_a_ping, what="none")


class TestALifetime:
    @pytest.fixture
    def changes(self) -> dict[str, float]:
        return {"stream_lifetime_seconds": 0.2}

    async def test_when_it_is_over_the_client_comes_back(self, service: ExecutionService, live: HttpServer) -> None:
        execution = await running(service)
        async with event_stream(live.url, path_of(execution)) as stream, asyncio.timeout(PATIENCE):
            assert len(await stream.all()) == 3
            assert stream.comments[-1] == "to be continued: connect again"


class TestALimit:
    @pytest.fixture
    def changes(self) -> dict[str, int]:
        return {"stream_limit": 1}

    async def test_one_too_many_is_refused(self, service: ExecutionService, live: HttpServer) -> None:
        execution = await running(service)
        async with event_stream(live.url, path_of(execution)) as first:
            await first.some(3)
            for path in (path_of(execution), "/v1/events"):
                async with event_stream(live.url, path) as second:
                    assert second.status == 503
                    assert "retry-after" in second.headers


async def test_what_there_is_not_and_what_is_not_yours(
    service: ExecutionService, api: httpx.AsyncClient, keys: KeyRing
) -> None:
    assert (await api.get(f"/v1/executions/{uuid4()}/events")).status_code == 404
    execution = await running(service)
    theirs = await keys.create("theirs", tenant_id="theirs", scopes=[Scope.READ])
    answer = await api.get(path_of(execution), headers={"Authorization": f"Bearer {theirs.token}"})
    assert answer.status_code == 404
    assert (await api.get(path_of(execution))).status_code == 401
