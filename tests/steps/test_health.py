"""What a step's observer sees of the service, without waiting and without changing anything."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from execution.handlers import HandlerRegistry, TaskContext
from execution.readiness import Finding, Readiness, Verdict
from execution.relay_survey import RelaySurvey
from execution.repository.relay_cursors import BEGINNING, RelayCursorStore
from execution.service import ExecutionService
from execution.steps import JobExecutor, JobStep, NoOpHandler, ServiceHealthObserver
from execution.steps.plan_health import HealthOfPlans
from execution.wiring import open_service
from tests.support.cutting_proxy import cutting_proxy
from tests.support.service import Counted, ended, running_worker, short_settings
from tests.support.step_calls import CONTRACT, JOB
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[ExecutionService]:
    async with open_service(short_settings(database_url, worker_concurrency=4)) as service:
        yield service


async def test_a_sample_of_everything(service: ExecutionService) -> None:
    observer = ServiceHealthObserver(service)
    assert observer.observe_health() == {"status": "unknown", "age_seconds": None}
    await observer.sample()
    health = observer.observe_health()
    assert json.loads(json.dumps(health)) == health
    assert health["status"] == "ok"
    assert 0 <= health["age_seconds"] < 5
    assert health["checks"]["database"] == {"verdict": "ok", "reason": None}
    assert set(health["checks"]) == {"database", "schema", "admission"}
    assert health["queue"] == {"waiting": 0, "held": 0, "oldest_wait_seconds": 0.0}
    assert health["relay"] is None
    assert health["worker"] == {"slots": 4, "running": 0, "saturation": 0.0}
    assert health["loop_lag_seconds"] >= 0
    assert 0 < health["host"]["memory_percent"] <= 100
    assert health["host"]["memory_available_mib"] > 0
    assert health["host"]["load_per_processor"] >= 0


async def test_plans_keep_one_observation_of_each_sample(service: ExecutionService) -> None:
    observer = ServiceHealthObserver(service)
    health = HealthOfPlans(observer)
    before = health.observe_health()
    assert (before["status"], health.observe_health()) == ("unknown", before)
    await observer.sample()
    first = health.observe_health()
    assert first["status"] == "ok"
    assert health.observe_health() is first
    await observer.sample()
    assert health.observe_health() is not first


async def test_how_busy_the_worker_is_and_what_waits(database_url: str) -> None:
    counted, registry = Counted.new(), HandlerRegistry()

    @registry.handler("held")
    async def held(_context: TaskContext, _parameters: dict[str, Any]) -> None:
        await counted.stand()

    settings = short_settings(database_url, worker_concurrency=2)
    async with open_service(settings, registry=registry) as service, running_worker(service):
        observer = ServiceHealthObserver(service)
        executions = [await service.create_execution("held") for _ in range(3)]
        await eventually(lambda: counted.runs == 2, within=10, what="both slots are taken")
        await observer.sample()
        counted.let_go.set()
        health = observer.observe_health()
        assert health["worker"] == {"slots": 2, "running": 2, "saturation": 1.0}
        assert (health["queue"]["waiting"], health["queue"]["held"]) == (1, 2)
        for one in executions:
            await ended(service, one.id)


async def test_what_is_not_published_yet_and_which_check_is_the_worst(service: ExecutionService) -> None:
    cursors = RelayCursorStore(service.repository.db)
    assert await cursors.take("events", "somebody", 60.0, BEGINNING) is not None
    await service.create_execution("noop")
    for verdict in (Verdict.DEGRADED, Verdict.FAILED):
        found = Finding(verdict=verdict, reason="the moon is full")

        async def check(found: Finding = found) -> Finding:
            return found

        readiness = Readiness(service)
        readiness.add("moon", check)
        observer = ServiceHealthObserver(service, readiness=readiness, relay=RelaySurvey(cursors, "events"))
        await observer.sample()
        health = observer.observe_health()
        assert health["relay"]["events_waiting"] >= 1
        assert health["relay"]["lag_seconds"] >= 0
        assert health["status"] == str(verdict)
        assert health["checks"]["moon"] == {"verdict": str(verdict), "reason": "the moon is full"}


async def test_without_a_database_it_still_answers(database_url: str, cluster_folder: Path) -> None:
    async with cutting_proxy(database_url, cluster_folder) as (proxy, url):
        settings = short_settings(url, connect_timeout_seconds=0.5, notify=False)
        async with open_service(settings) as service:
            observer = ServiceHealthObserver(service)
            await observer.sample()
            assert observer.observe_health()["status"] == "ok"
            proxy.close_door()
            await asyncio.sleep(0.6)  # an answer of readiness serves whoever asks within half a second
            await observer.sample()
            health = observer.observe_health()
            assert health["status"] == "failed"
            assert health["checks"]["database"]["reason"] == "PostgreSQL does not answer"
            assert url not in json.dumps(health)
            proxy.open_door()


async def test_it_samples_again_and_again_and_an_old_sample_says_so(database_url: str) -> None:
    settings = short_settings(database_url, steps_health_interval_seconds=0.05)
    async with open_service(settings) as service:
        observer = ServiceHealthObserver(service)
        sampling = asyncio.create_task(observer.run())
        seen: dict[int, object] = {}  # what is kept leaves its identity to no other one

        def is_renewed() -> bool:
            seen[id(observer._sample)] = observer._sample
            return len(seen) > 2

        await eventually(is_renewed, within=10, what="it samples again")
        sampling.cancel()
        await asyncio.wait([sampling])
        age = observer.observe_health()["age_seconds"]
        await eventually(lambda: observer.observe_health()["age_seconds"] > age, within=5, what="the sample grows old")


async def test_whoever_looks_neither_waits_nor_changes_anything(service: ExecutionService, sql: AnyConnection) -> None:
    written = "SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables"
    before = await sql.fetchval(written)
    observer = ServiceHealthObserver(service, relay=RelaySurvey(RelayCursorStore(service.repository.db), "events"))
    await observer.sample()
    observer.observe_health().clear()
    answered = threading.Event()

    def observe() -> None:
        for _ in range(1_000):
            assert observer.observe_health()["status"] == "ok"
        answered.set()

    threading.Thread(target=observe).start()
    assert answered.wait(10), "it needed the loop, which waits here"
    assert await sql.fetchval(written) == before

    steps = [JobStep(step_index=0, step_type="noop")]
    result = JobExecutor({"noop": NoOpHandler()}).execute_job(JOB, CONTRACT, steps, observer)
    for health in (result.health_before, result.health_after):
        assert health is not None
        assert health["status"] == "ok"
        assert health["host"]["memory_available_mib"] > 0
