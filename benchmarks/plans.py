"""Durable plans: steps per second of many plans at once, beside two floors written by hand, in turn.

One floor writes the same rows and events, 200 plans in step. The other is that of the core's benchmark: so many no-op
executions, each with its five events. A plan of no-op steps should cost what its rows cost, and a step not more than an
execution.

`python -m benchmarks.plans` measures this alone; `python -m benchmarks` does with everything else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from benchmarks.plans_floor import PlansFloor
from execution import bench
from execution.bench.databases import on_fresh_database
from execution.bench.floor import FloorRun
from execution.bench.floor import per_second as executions_per_second
from execution.bench.service_runs import LONGEST_RUN_SECONDS, service_with_worker
from execution.domain.execution import JsonObject
from execution.embedded import EmbeddedPostgres
from execution.log import configure_logging
from execution.process import run
from execution.service import ExecutionService

STEPS = 20
_PLAN: JsonObject = {"steps": [{"step_type": "noop", "target": f"target {index}"} for index in range(STEPS)]}
SUBMITTERS = 400
"""Clients that submit a plan, and the next one when it has ended."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much is measured."""

    plans: int
    rounds: int


FULL = Extent(plans=1_000, rounds=3)
QUICK = Extent(plans=200, rounds=1)


def plan() -> JsonObject:
    """Twenty steps that do nothing."""
    return _PLAN


async def measure_plans(server: EmbeddedPostgres, extent: Extent, say: Callable[[str], None]) -> dict[str, float]:
    """The medians of rounds in which service and floor are measured in turn."""
    service: list[float] = []
    floor: list[float] = []
    core_floor: list[float] = []
    executions = FloorRun(executions=extent.plans * STEPS)
    health: JsonObject = {}
    for number in range(1, extent.rounds + 1):
        say(f"durable plans, round {number} of {extent.rounds}")
        per_second, health = await on_fresh_database(server.url, lambda url: _of_service(url, extent.plans))
        service.append(per_second)
        by_hand = PlansFloor(plan(), health)
        floor.append(await on_fresh_database(server.url, lambda url: by_hand.steps_per_second(url, extent.plans)))  # noqa: B023
        core_floor.append(await on_fresh_database(server.url, lambda url: executions_per_second(url, executions)))
    return {
        "plan_steps_per_second": round(median(service), 1),
        "plan_steps_floor_per_second": round(median(floor), 1),
        "plan_steps_ratio": round(median(service) / median(floor), 3),
        "plan_noop_floor_per_second": round(median(core_floor), 1),
        "plan_steps_to_noop_floor": round(median(service) / median(core_floor), 3),
    }


async def _of_service(url: str, plans: int) -> tuple[float, JsonObject]:
    """Steps per second, and what was observed before a plan."""
    async with service_with_worker(url) as service:
        await service.wait((await service.create_execution("steps", plan())).id, LONGEST_RUN_SECONDS)  # first of all
        left = iter(range(plans))
        began = time.perf_counter()
        async with asyncio.timeout(LONGEST_RUN_SECONDS), asyncio.TaskGroup() as group:
            for _ in range(SUBMITTERS):
                group.create_task(_submit(service, left))
        per_second = plans * STEPS / (time.perf_counter() - began)
        (newest,) = await service.list_older(limit=1)
        facts = [one.data["data"] for one in await service.history(newest.id) if one.data.get("name") == "step.started"]
        return per_second, facts[0]["health_before"]


async def _submit(service: ExecutionService, left: Iterator[int]) -> None:
    for _ in left:
        execution = await service.create_execution("steps", plan())
        await service.wait(execution.id, LONGEST_RUN_SECONDS)


async def _main() -> None:
    async with bench.own_server() as server:
        print(json.dumps(await measure_plans(server, FULL, print), indent=2))  # noqa: T201 - a program


if __name__ == "__main__":
    configure_logging("WARNING")
    run(_main())
