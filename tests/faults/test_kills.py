"""kill -9 of workers at random instants, under a steady stream of short executions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from uuid import UUID

import pytest

from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from tests.faults.conftest import Ledger
from tests.support.checker import Acknowledged, check_acknowledged, check_all_ended
from tests.support.service import ended
from tests.support.stored import AnyConnection
from tests.support.worker_nursery import WorkerNursery, worker_nursery

S = ExecutionState

WORKERS = 4
LONGEST_BETWEEN_KILLS = 0.8
PER_SECOND = 60
LONGEST_RUN = 0.4
ALL_ENDED_SECONDS = 30.0


class Stream:
    """Submits executions of both kinds at a steady rate, and keeps what was acknowledged."""

    def __init__(self, client: ExecutionService, ledger: Ledger, chance: Random) -> None:
        self.answers: dict[UUID, Execution] = {}
        self.ledger = ledger
        self._client = client
        self._chance = chance

    async def flow(self, enough: asyncio.Event) -> None:
        """Until there is enough. (Not until it is cancelled: what is then on its way would be done unacknowledged.)"""
        while not enough.is_set():
            await asyncio.gather(self._submit(), asyncio.sleep(1 / PER_SECOND))

    async def _submit(self) -> None:
        kind = self._chance.choice(["fault.once", "fault.again"])
        seconds = self._chance.uniform(0, LONGEST_RUN)
        answer = await self._client.create_execution(kind, self.ledger.at_once | {"seconds": seconds})
        self.answers[answer.id] = answer

    async def ends(self) -> list[Execution]:
        """Every acknowledged execution as it ended."""
        return [await ended(self._client, one, within=ALL_ENDED_SECONDS) for one in self.answers]


@pytest.fixture
def stream(client: ExecutionService, ledger: Ledger, chance: Random) -> Stream:
    return Stream(client, ledger, chance)


@asynccontextmanager
async def flowing(stream: Stream) -> AsyncIterator[None]:
    enough = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(stream.flow(enough), name="stream")
        try:
            yield
        finally:
            enough.set()


async def kill_and_replace(nursery: WorkerNursery, chance: Random, kills: int) -> None:
    workers = [await nursery.start() for _ in range(WORKERS)]
    for _ in range(kills):
        await asyncio.sleep(chance.uniform(0, LONGEST_BETWEEN_KILLS))
        victim = chance.choice(workers)
        await nursery.kill(victim)
        workers[workers.index(victim)] = await nursery.start()


async def kills_that_interrupted(sql: AnyConnection) -> int:
    """The dead workers that something was rescued from."""
    count: int = await sql.fetchval(
        "SELECT count(DISTINCT data ->> 'reason') FROM execution_events"
        " WHERE actor = 'rescuer' AND data ->> 'reason' LIKE 'worker % died'"
    )
    return count


def assert_at_most_once(after: Execution, runs: int) -> None:
    if after.state is S.COMPLETED:
        assert (after.attempt, runs) == (1, 1)
    else:
        assert after.error is not None
        assert (after.state, after.error["type"], after.rescues) == (S.FAILED, "outcome_unknown", 1)
        assert runs <= 1, "it was interrupted, and ran again"


def assert_at_least_once(after: Execution, runs: int) -> None:
    assert (after.state, after.result) == (S.COMPLETED, {"attempt": after.attempt})
    assert after.attempt == after.rescues + 1
    assert 1 <= runs <= after.attempt


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(50, marks=pytest.mark.timeout(180)),
        pytest.param(500, marks=[pytest.mark.slow, pytest.mark.timeout(1800)]),
    ],
)
async def test_every_execution_is_settled_by_what_its_handler_declared(
    database_url: str, sql: AnyConnection, stream: Stream, chance: Random, kills: int
) -> None:
    async with worker_nursery(database_url) as nursery:
        async with flowing(stream):
            await kill_and_replace(nursery, chance, kills)
        executions = await stream.ends()
    runs = stream.ledger.runs()
    assert await kills_that_interrupted(sql) > 0
    assert {after.kind for after in executions if after.rescues} == {"fault.once", "fault.again"}
    for after in executions:
        assert_kept = assert_at_most_once if after.kind == "fault.once" else assert_at_least_once
        assert_kept(after, runs[str(after.id)])
    assert runs.keys() <= {str(after.id) for after in executions}, "what ran was acknowledged"
    assert (await check_all_ended(database_url)).total() == len(executions)
    await check_acknowledged(database_url, {one.id: Acknowledged(answers=[one]) for one in stream.answers.values()})
