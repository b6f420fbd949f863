"""The floor is a fair one: what it writes for an execution is what the service writes, but for ids and times."""

from __future__ import annotations

import copy
import re
from typing import Any

import asyncpg
import orjson
import pytest

from benchmarks import plans
from benchmarks.plans_floor import PlansFloor
from execution.bench import floor, service_runs
from tests.support.checker import check_all_ended

EXECUTIONS = 3
WITHIN = 30.0
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00")
_DURATION = re.compile(r'("duration_seconds":\s*)[0-9.e-]+')


@pytest.mark.parametrize("reports", [0, 3])
async def test_rows_and_events_are_those_of_the_service(database_url: str, reports: int) -> None:
    async with service_runs.service_with_worker(database_url) as service:
        await service_runs.per_second(service, EXECUTIONS, reports)
    of_service = await take_all(database_url)

    await floor.per_second(database_url, floor.FloorRun(executions=EXECUTIONS, progress_reports=reports))
    await check_all_ended(database_url)
    of_floor = await take_all(database_url)

    assert len(of_service) == EXECUTIONS * (1 + 5 + reports)
    assert of_floor == of_service


async def test_rows_and_events_of_plans_are_those_of_the_service(database_url: str) -> None:
    async with service_runs.service_with_worker(database_url) as service:
        for _ in range(EXECUTIONS):
            await service.wait((await service.create_execution("steps", plans.plan())).id, WITHIN)
    of_service = await take_all(database_url)

    await PlansFloor(plans.plan(), health={}).steps_per_second(database_url, EXECUTIONS)
    await check_all_ended(database_url)
    of_floor = await take_all(database_url)

    assert len(of_service) == EXECUTIONS * (1 + 5 + 3 * plans.STEPS)
    assert [_unseen(one) for one in of_floor] == [_unseen(one) for one in of_service]


def _unseen(document: dict[str, Any]) -> dict[str, Any]:
    """Without what was observed of the health, and without who claimed it: one that starts at once is not claimed."""
    document.pop("command_id", None)
    fact = document.get("data", {}).get("data", {})
    for name in ("health_before", "health_after"):
        fact.pop(name, None)
    return document


async def take_all(url: str) -> list[dict[str, Any]]:
    """Every row and event, without what differs from one execution to the next, and out of the tables."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("DELETE FROM executions RETURNING to_jsonb(executions)::text AS document")
        events = await connection.fetch(
            "WITH gone AS (DELETE FROM execution_events RETURNING *)"
            " SELECT (to_jsonb(gone) - 'xid')::text AS document FROM gone"
        )
    finally:
        await connection.close()
    anonymous = [_anonymous(record["document"]) for record in [*rows, *events]]
    return sorted(anonymous, key=lambda one: (one.get("version", 0), "state" in one, repr(_unseen(copy.deepcopy(one)))))


def _anonymous(document: str) -> dict[str, Any]:
    without = _DURATION.sub(r"\g<1>0", _TIME.sub("TIME", _ID.sub("ID", document)))
    parsed: dict[str, Any] = orjson.loads(without)
    return parsed
