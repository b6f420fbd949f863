"""What those see who run the service."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from execution.api.app import create_app
from execution.api.door import Door
from execution.domain.state import ExecutionState
from execution.readiness import FRESH_SECONDS, Finding, Verdict
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.http_server import served
from tests.support.service import PATIENCE, ended, reached, running_worker, short_settings
from tests.support.waiting import eventually

HTTP_GUIDE = Path(__file__).parents[2] / "docs" / "http.md"
UNITS = ("_seconds", "_bytes", "_total", "_ratio")
COUNTED_THINGS = re.compile(
    r"_(in_flight|open|fds|slots|running|waiting|scheduled|held|queued|size|limit|connections)$"
)


@pytest.fixture
def door(app: FastAPI) -> Door:
    door: Door = app.state.door
    return door


async def samples(api: httpx.AsyncClient) -> dict[str, float]:
    """What a scrape brings, by name and labels."""
    answer = await api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def samples_of_an_end(api: httpx.AsyncClient) -> dict[str, float] | None:
    """A scrape in which an execution has ended: whoever waits for the end can be told by the database first."""
    now = await samples(api)
    return now if any(name.startswith("execution_ends_total") for name in now) else None


async def is_refused(api: httpx.AsyncClient) -> bool:
    return (await api.post("/v1/executions", json={"kind": "noop"})).status_code == 503


async def is_closed(url: str) -> bool:
    try:
        async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as client:
            await client.get("/health/live")
    except httpx.TransportError:
        return True
    return False


class TestReadiness:
    async def test_it_is_ready(self, api: httpx.AsyncClient) -> None:
        answer = await api.get("/health/ready")
        assert answer.status_code == 200
        document = answer.json()
        assert document["status"] == "ready"
        assert set(document["checks"]) == {"database", "schema", "admission"}
        for check in document["checks"].values():
            assert (check["status"], check["reason"]) == ("ok", None)
            assert check["seconds"] < 2.0

    async def test_another_program_has_changed_the_schema(self, api: httpx.AsyncClient, database_url: str) -> None:
        sql = await asyncpg.connect(database_url)
        await sql.execute("UPDATE alembic_version SET version_num = '9999'")
        answer = await api.get("/health/ready")
        await sql.execute("DROP TABLE alembic_version")
        await sql.close()
        assert (answer.status_code, answer.json()["status"]) == (503, "not_ready")
        assert "9999" in answer.json()["checks"]["schema"]["reason"]
        assert answer.json()["checks"]["database"]["status"] == "ok"

    async def test_whoever_asks_in_the_same_moment_gets_the_same_answer(
        self, api: httpx.AsyncClient, door: Door
    ) -> None:
        asked = 0

        async def count() -> Finding:
            nonlocal asked
            asked += 1
            return Finding(verdict=Verdict.OK)

        door.readiness.add("counted", count)
        await asyncio.gather(*(api.get("/health/ready") for _ in range(20)))
        assert asked == 1
        await asyncio.sleep(FRESH_SECONDS)
        await api.get("/health/ready")
        assert asked == 2

    async def test_a_check_that_does_not_come_back_or_breaks(
        self, api: httpx.AsyncClient, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("execution.readiness.CHECK_SECONDS", 1.0)  # the check of the database needs a part of it

        async def hang() -> Finding:
            await asyncio.Event().wait()
            raise AssertionError

        async def fall() -> Finding:
            raise ZeroDivisionError

        door.readiness.add("hangs", hang)
        door.readiness.add("falls", fall)
        answer = await api.get("/health/ready")
        assert answer.status_code == 503
        reasons = {name: one["reason"] for name, one in answer.json()["checks"].items()}
        assert reasons["hangs"] == "no answer within 1 s"
        assert reasons["falls"] == "the check itself failed; the log says how"
        assert reasons["database"] is None

    async def test_what_degrades_it_does_not_keep_requests_away(self, database_url: str) -> None:
        settings = short_settings(database_url, longest_wait_seconds=0.05)
        async with open_service(settings) as service:
            app = create_app(service)
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://service", timeout=PATIENCE) as api:
                await eventually(lambda: is_refused(api), within=PATIENCE, what="a submission is refused")
                answer = await api.get("/health/ready")
        assert (answer.status_code, answer.json()["status"]) == (200, "ready")
        assert answer.json()["checks"]["admission"]["status"] == "degraded"
        assert "'noop' have waited" in answer.json()["checks"]["admission"]["reason"]

    async def test_a_process_that_stops_is_not_ready_but_alive(self, api: httpx.AsyncClient, door: Door) -> None:
        door.readiness.drain()
        answer = await api.get("/health/ready")
        assert answer.status_code == 503
        assert answer.json()["checks"]["process"]["reason"] == "this process is stopping"
        assert (await api.get("/health/live")).status_code == 200

    async def test_a_stop_leaves_balancers_the_time_to_notice(self, database_url: str) -> None:
        settings = short_settings(database_url, shutdown_delay_seconds=1.0)
        async with open_service(settings) as service, served(create_app(service)) as server:
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
                assert (await client.get("/health/ready")).status_code == 200
                server.stop()
            # Over new connections, as a balancer's: they are still taken.
            async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
                assert (await client.get("/health/ready")).status_code == 503
                assert (await client.post("/v1/executions", json={"kind": "noop"})).status_code == 202
            await eventually(lambda: is_closed(server.url), within=PATIENCE, what="nothing is accepted any more")

    async def test_a_worker_that_falls_silent(
        self, api: httpx.AsyncClient, door: Door, service: ExecutionService
    ) -> None:
        worker = service.create_worker()
        door.readiness.watch_worker(worker)
        assert (await api.get("/health/ready")).json()["checks"]["worker"]["reason"] == (
            "the worker has not registered itself yet"
        )
        await asyncio.sleep(FRESH_SECONDS)
        async with running_worker(service, worker):
            assert (await api.get("/health/ready")).json()["checks"]["worker"]["status"] == "ok"
        await asyncio.sleep(service.settings.worker_timeout_seconds + 0.1)
        assert (await api.get("/health/ready")).status_code == 503


class TestMetrics:
    async def test_what_is_counted(self, api: httpx.AsyncClient, door: Door, service: ExecutionService) -> None:
        created = (await api.post("/v1/executions", json={"kind": "noop"})).json()
        await service.create_execution("noop", start=False)
        pool = service.repository.db.pool
        async with running_worker(service) as worker, pool.acquire():
            door.metrics.worker = worker
            await ended(service, UUID(created["id"]))
            now = await eventually(lambda: samples_of_an_end(api), within=PATIENCE, what="the end is counted")
        assert now["execution_submissions_total['noop']"] == 2
        assert now["execution_ends_total['COMPLETED', 'noop']"] == 1
        assert now["execution_run_duration_seconds_count['noop']"] == 1
        assert now["execution_http_request_duration_seconds_count['/v1/executions', '202', 'POST']"] == 1
        assert now["execution_queue_waiting[]"] == 0
        assert now["execution_worker_slots[]"] == service.settings.worker_concurrency
        assert now["execution_worker_claimed_executions_total[]"] == 1
        assert now["execution_append_batch_size_sum['create']"] == 2
        assert now["execution_append_batch_seconds_count['create']"] >= 1
        assert now["execution_pool_connections['used']"] >= 1
        assert now["execution_process_resident_memory_bytes[]"] > 1_000_000

    async def test_the_queue(self, api: httpx.AsyncClient, service: ExecutionService) -> None:
        for _ in range(3):
            await service.create_execution("noop")
        await service.create_execution("noop", run_at="2100-01-01T00:00:00Z")
        now = await samples(api)
        assert now["execution_queue_waiting[]"] == 3
        assert now["execution_queue_scheduled[]"] == 1
        assert 0 < now["execution_queue_oldest_wait_seconds[]"] < PATIENCE

    async def test_no_path_and_no_method_of_a_client_becomes_a_label(self, api: httpx.AsyncClient) -> None:
        for number in range(30):
            await api.get(f"/v1/executions/{number}")
            await api.get(f"/{number}")
            await api.request(f"M{number}", "/v1/executions")
        routes = [name for name in await samples(api) if name.startswith("execution_http_request_duration_seconds_sum")]
        assert len(routes) <= 4

    async def test_names_and_units(self, api: httpx.AsyncClient) -> None:
        await api.get("/health/live")
        for family in text_string_to_metric_families((await api.get("/metrics")).text):
            assert family.name.startswith("execution_")
            assert family.documentation.endswith(".")
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert name.endswith(UNITS) or COUNTED_THINGS.search(name) or family.name == "execution_build_info", name
            assert not name.endswith(("_ms", "_milliseconds", "_kib", "_percent"))


async def test_the_documentation_lists_every_metric(
    api: httpx.AsyncClient, door: Door, service: ExecutionService
) -> None:
    created = (await api.post("/v1/executions", json={"kind": "noop"})).json()
    async with running_worker(service) as worker:
        door.look_after(worker)
        await ended(service, UUID(created["id"]))
        held = await service.create_execution("noop", {"seconds": 60})
        await reached(service, held.id, ExecutionState.RUNNING)
        await api.get("/metrics")
        families = list(door.metrics.families())
        await service.cancel_execution(held.id)
    table = [line for line in HTTP_GUIDE.read_text(encoding="utf-8").splitlines() if line.startswith("| `execution_")]
    assert table == [row_of(family) for family in families]


def row_of(family: Metric) -> str:
    """The row of the guide's table: paste it there."""
    labels = {name: None for sample in family.samples for name in sample.labels if name != "le"}
    name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
    return f"| `{name}` | {family.type} | {', '.join(f'`{one}`' for one in labels)} | {family.documentation} |"


async def test_the_contract_over_kafka_is_served_to_everybody(api: httpx.AsyncClient) -> None:
    answer = await api.get("/asyncapi.json")
    assert answer.status_code == 200
    assert answer.json()["asyncapi"].startswith("3.")
    assert "/asyncapi.json" in (await api.get("/openapi.json")).json()["paths"]
