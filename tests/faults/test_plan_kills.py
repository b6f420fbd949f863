"""kill -9 of workers between and inside the steps of durable plans, at random instants."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from random import Random
from typing import Any

import pytest

from execution.domain.execution import Execution, JsonObject
from execution.domain.state import ExecutionState as S
from execution.service import ExecutionService
from execution.steps import verify_bundle
from execution.steps.plan_evidence import evidence_of
from tests.support.plan_worker_handlers import PLAN_HANDLERS, StepLedger
from tests.support.service import PATIENCE, ended
from tests.support.waiting import eventually
from tests.support.worker_nursery import WorkerNursery, worker_nursery

WORKERS = 3
PLANS_AT_ONCE = 12
STEPS = 12
LONGEST_STEP = 0.03
LONGEST_BETWEEN_KILLS = 0.3
ALL_ENDED_SECONDS = 40.0
FAST = {"handlers": PLAN_HANDLERS, "worker_timeout_seconds": 0.9, "heartbeat_interval_seconds": 0.2}


class Plans:
    """Keeps a number of plans under way until there is enough."""

    def __init__(self, client: ExecutionService, ledger: StepLedger, chance: Random) -> None:
        self.ended: list[Execution] = []
        self._client, self._ledger, self._chance = client, ledger, chance

    async def flow(self, enough: asyncio.Event) -> None:
        """One after the other, until there is enough; the last one is seen to its end."""
        while not enough.is_set():
            execution = await self._client.create_execution("steps", {"steps": [self._step() for _ in range(STEPS)]})
            self.ended.append(await ended(self._client, execution.id, within=ALL_ENDED_SECONDS))

    def _step(self) -> JsonObject:
        seconds = self._chance.choice([0.0, self._chance.uniform(0, LONGEST_STEP)])
        parameters = {"ledger": str(self._ledger.file), "seconds": seconds}
        return {"step_type": self._chance.choice(["once", "once.async", "again"]), "parameters": parameters}


async def kill_and_replace(nursery: WorkerNursery, ledger: StepLedger, chance: Random, kills: int) -> None:
    """Each time, one that was just at work."""
    workers = {await nursery.start() for _ in range(WORKERS)}
    for _ in range(kills):
        await eventually(partial(ledger.is_longer_than, ledger.size), within=PATIENCE, what="steps are carried out")
        await asyncio.sleep(chance.uniform(0, LONGEST_BETWEEN_KILLS))
        victim = ledger.last_process()
        if victim not in workers:
            victim = chance.choice(sorted(workers))
        await nursery.kill(victim)
        workers ^= {victim, await nursery.start()}


async def kill_while_plans_run(url: str, plans: Plans, ledger: StepLedger, chance: Random, kills: int) -> None:
    enough = asyncio.Event()
    async with worker_nursery(url, **FAST) as nursery, asyncio.TaskGroup() as group:
        for _ in range(PLANS_AT_ONCE):
            group.create_task(plans.flow(enough))
        try:
            await kill_and_replace(nursery, ledger, chance, kills)
        finally:
            enough.set()


async def check(service: ExecutionService, execution: Execution, ledger: StepLedger) -> JsonObject:
    """The evidence of a job is complete, verifies, and agrees with what was done outside of the database."""
    content = await evidence_of(service, execution.id)
    verified = verify_bundle(content)
    bundle: JsonObject = json.loads(content)
    began, did = ledger.counts("began"), ledger.counts("did")
    records: dict[int, list[JsonObject]] = {}
    for one in bundle["steps"]:
        records.setdefault(one["step_index"], []).append(one)
    for index, planned in enumerate(bundle["plan"]):
        times, tries = began[str(execution.id), index], records.get(index, [])
        assert times <= len(tries), f"step {index} was executed without a record of it"
        if planned["step_type"] != "again":
            assert times <= 1, f"step {index} may be executed once, and was {times} times"
            assert len(tries) <= 1
        if tries and tries[-1]["status"] == "COMPLETED":
            assert did[str(execution.id), index] >= 1, f"step {index} is said to be completed, and was not"
            assert [one["status"] for one in tries[:-1]] == ["OUTCOME_UNKNOWN"] * (len(tries) - 1)
    statuses = {one["status"] for one in bundle["steps"]}
    if execution.state is S.COMPLETED:
        assert verified.final_status == "COMPLETED"
        assert set(records) == set(range(STEPS))
    else:
        assert execution.state is S.FAILED, execution.state
        assert execution.error is not None
        assert execution.error["type"] == "outcome_unknown", execution.error
        assert "OUTCOME_UNKNOWN" in statuses
        assert bundle["steps"][-1]["status"] == "OUTCOME_UNKNOWN"
    return bundle


async def check_no_completed_step_began_again(bundles: list[JsonObject]) -> None:
    for bundle in bundles:
        completed: set[int] = set()
        for one in bundle["steps"]:
            assert one["step_index"] not in completed
            if one["status"] == "COMPLETED":
                completed.add(one["step_index"])


@pytest.mark.parametrize(
    "kills",
    [8, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(400)])],
)
async def test_no_step_is_lost_or_done_twice_by_kills(
    database_url: str, client: ExecutionService, step_ledger: StepLedger, chance: Random, kills: int
) -> None:
    plans = Plans(client, step_ledger, chance)
    await kill_while_plans_run(database_url, plans, step_ledger, chance, kills)
    bundles = [await check(client, one, step_ledger) for one in plans.ended]
    await check_no_completed_step_began_again(bundles)
    cut_off: list[Any] = [one for bundle in bundles for one in bundle["steps"] if one["status"] == "OUTCOME_UNKNOWN"]
    assert len(bundles) >= PLANS_AT_ONCE
    assert cut_off, "no kill has hit a step"
