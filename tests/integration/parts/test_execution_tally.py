"""What a process counts of the executions it writes."""

from __future__ import annotations

from msgspec.structs import replace

from execution.domain.commands import Claim
from execution.domain.machine import begin, carry_out
from execution.execution_tally import MOST_KINDS, OTHER, ExecutionTally
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.given import T0, WORKER, at, pending, submission
from tests.support.service import ended, running_worker, short_settings


def tally_of(service: ExecutionService) -> ExecutionTally:
    tally = ExecutionTally(service.registry.__contains__)
    service.state_manager.listen(tally.noted)
    return tally


async def test_each_execution_is_created_once_and_ends_as_often_as_it_ends(database_url: str) -> None:
    async with open_service(short_settings(database_url)) as service:
        tally = tally_of(service)
        kept = await service.create_execution("noop", start=False)
        await service.start_execution(kept.id)
        cancelled = await service.create_execution("noop", start=False)
        await service.cancel_execution(cancelled.id)
        assert (tally.created, tally.ended) == ({"noop": 2}, {("noop", "CANCELLED"): 1})
        assert tally.runs == {}, "it never ran"
        async with running_worker(service):
            await ended(service, kept.id)
            retried = await service.retry_execution(cancelled.id)
            await ended(service, retried.id)
        assert tally.created == {"noop": 2}
        assert tally.ended == {("noop", "CANCELLED"): 1, ("noop", "COMPLETED"): 2}
        assert sum(tally.runs["noop"].counts) == 2


def test_one_that_is_created_claimed_is_created_and_one_that_is_claimed_later_is_not_created_again() -> None:
    tally, claim = ExecutionTally(lambda _: True), Claim(worker_id=WORKER, idempotent=False)
    at_once, _ = begin(submission(), T0, claim=claim)
    tally.noted(at_once)
    waiting, _ = begin(submission(), T0)
    later, _ = carry_out(waiting, [claim], at(1))
    tally.noted(later)
    assert tally.created == {"noop": 1}


def test_kinds_that_nobody_here_knows_share_one_name_once_they_are_many() -> None:
    tally = ExecutionTally(lambda kind: kind == "known")
    execution = pending().execution
    for number in range(MOST_KINDS + 5):
        tally.noted(replace(execution, kind=f"kind {number}"))
    tally.noted(replace(execution, kind="known"))
    assert len(tally.created) == MOST_KINDS + 2
    assert (tally.created[OTHER], tally.created["known"]) == (5, 1)
