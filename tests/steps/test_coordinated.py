"""The coordinated form: one execution per job, its audit in the order it happened, whatever is delivered again."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest

from events.bus import InProcessEventBus
from events.commands import InProcessCommandBus
from execution.errors import (
    DocumentTooLargeError,
    DuplicateExecutionError,
    ExecutionNotFoundError,
    InvalidDocumentError,
    InvalidProgressError,
)
from execution.ids import new_id
from execution.repository.database import Database
from execution.service import ExecutionService
from execution.steps import (
    CoordinatedJobExecutor,
    ExecutionContext,
    ExecutionResult,
    FailingHandler,
    InvalidPlanError,
    JobExecutor,
    JobIdReusedError,
    JobInProgressError,
    JobNotRecordedError,
    JobStatus,
    JobStep,
    NoOpHandler,
    StepOutput,
    StepStatus,
    create_coordinated_executor,
    verify_bundle,
)
from execution.steps.job import Job
from execution.steps.recorded_evidence import EVIDENCE_LIMIT, evidence_facts, joined, result_from_bundle
from execution.wiring import open_service
from tests.support.cutting_proxy import cutting_proxy
from tests.support.service import PATIENCE, ended, running_worker, short_settings
from tests.support.stored import AnyConnection, assert_row_is_fold
from tests.support.waiting import eventually, no_leaked_tasks

TENANT = "mine"
STEPS = [JobStep(0, "noop"), JobStep(1, "noop", "b", {"n": 1}), JobStep(2, "noop", weight=2.0)]
CONTRACT = UUID(int=7)


@dataclass
class Gate:
    """A handler that says that it has begun, and waits until it may go on."""

    begun: threading.Event = field(default_factory=threading.Event)
    let_go: threading.Event = field(default_factory=threading.Event)
    calls: list[UUID] = field(default_factory=list)
    version = "7"

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        self.calls.append(context.job_id)
        self.begun.set()
        assert self.let_go.wait(PATIENCE)
        return StepOutput(success=True, output={"step": step.step_index})

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, PATIENCE)


@dataclass
class Saying:
    """A handler whose output is a text of that length."""

    length: int

    def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
        return StepOutput(success=True, output={"said": 'ü"' * (self.length // 2)})


@pytest.fixture
def executor(service: ExecutionService) -> CoordinatedJobExecutor:
    return create_coordinated_executor(service)


@pytest.fixture
def gate(executor: CoordinatedJobExecutor) -> Iterator[Gate]:
    gate = Gate()
    executor.register_handler("gate", gate)
    yield gate
    gate.let_go.set()


async def run(executor: CoordinatedJobExecutor, job_id: UUID | None = None, **changes: Any) -> ExecutionResult:
    what: dict[str, Any] = {"tenant_id": TENANT, "contract_id": CONTRACT, "steps": STEPS, "handler": "recovery_worker"}
    return await executor.execute_job_with_audit(job_id or new_id(), **what | changes)


async def told(service: ExecutionService, job_id: UUID) -> list[str]:
    """What the log tells, in order: states, names of facts, percentages."""
    history = await service.for_tenant(TENANT).history(job_id, limit=1000)
    return [str(_word(item.data)) for item in history if "duration_seconds" not in item.data or "name" in item.data]


def _word(data: dict[str, Any]) -> Any:
    return data.get("new_state") or data.get("name") or data.get("percentage")


@asynccontextmanager
async def impatient_service(url: str) -> AsyncIterator[ExecutionService]:
    """A service whose appends give up after a moment."""
    async with (
        Database(url, append_patience=0.3, notify=False, connect_timeout=2) as database,
        ExecutionService(
            database, InProcessEventBus(), InProcessCommandBus(), short_settings(url, notify=False)
        ) as service,
    ):
        yield service


async def data_of(service: ExecutionService, job_id: UUID, name: str) -> list[dict[str, Any]]:
    history = await service.for_tenant(TENANT).history(job_id, limit=1000)
    return [item.data["data"] for item in history if item.data.get("name") == name]


class TestAudit:
    async def test_it_is_the_log_in_the_order_it_happened(
        self, executor: CoordinatedJobExecutor, service: ExecutionService
    ) -> None:
        job_id = new_id()
        result = await run(executor, job_id, executed_by="ann")
        assert (result.final_status, result.executed_by, result.steps_succeeded) == (JobStatus.COMPLETED, "ann", 3)
        words = await told(service, job_id)
        assert [word for word in words if not word[0].isdigit()] == [
            *("CREATED", "PENDING", "audit.job_created", "RUNNING"),
            *("evidence.part", "audit.job_completed", "COMPLETED"),
        ]
        assert await data_of(service, job_id, "audit.job_created") == [
            {
                "contract_id": str(CONTRACT),
                "handler": "recovery_worker",
                "executed_by": "ann",
                "steps": 3,
                "action": None,
                "incident_id": None,
            }
        ]
        after = await assert_row_is_fold(service.repository, job_id)
        (said,) = await data_of(service, job_id, "audit.job_completed")
        assert (after.tenant_id, after.kind, after.result) == (TENANT, "steps.coordinated", said)
        assert said["execution_summary"] == {"steps_executed": 3, "steps_succeeded": 3, "steps_failed": 0}
        assert {item.actor for item in await service.for_tenant(TENANT).history(job_id)} == {"coordinator"}

    async def test_a_failed_step_is_a_result_and_the_end_of_the_execution(
        self, executor: CoordinatedJobExecutor, service: ExecutionService
    ) -> None:
        executor.register_handler("breaks", FailingHandler("no disk"))
        job_id = new_id()
        result = await run(executor, job_id, steps=[JobStep(0, "noop"), JobStep(1, "breaks"), JobStep(2, "noop")])
        assert (result.final_status, result.steps_executed) == (JobStatus.FAILED, 2)
        assert (await told(service, job_id))[-3:] == ["evidence.part", "audit.job_failed", "FAILED"]
        after = await assert_row_is_fold(service.repository, job_id)
        assert after.error is not None
        assert (after.error["type"], after.error["message"]) == ("step_failed", "Step 1 failed: no disk")

    async def test_its_evidence_verifies(self, executor: CoordinatedJobExecutor, service: ExecutionService) -> None:
        job_id = new_id()
        await run(executor, job_id)
        bundle = "".join(part["text"] for part in await data_of(service, job_id, "evidence.part"))
        verified = verify_bundle(bundle.encode())
        assert (verified.job_id, verified.steps_executed, verified.unchecked) == (str(job_id), 3, ())

    async def test_a_handler_is_itself_in_the_evidence(self, executor: CoordinatedJobExecutor, gate: Gate) -> None:
        gate.let_go.set()
        (record,) = (await run(executor, steps=[JobStep(0, "gate")])).step_results
        assert record.handler is not None
        assert (record.handler.name, record.handler.version) == (f"{__name__}.Gate", "7")

    async def test_the_bus_tells_it_too(self, executor: CoordinatedJobExecutor, service: ExecutionService) -> None:
        bus: Any = service.event_bus
        names: list[str] = []
        async with bus.subscribe() as subscription, asyncio.timeout(PATIENCE):
            await run(executor)
            async for event in subscription:
                names += [event.payload["name"]] if "name" in event.payload else []
                if event.type.endswith(".completed"):
                    break
        assert names == ["audit.job_created", "evidence.part", "audit.job_completed"]

    @pytest.mark.parametrize("raised", [SystemExit("bye"), KeyboardInterrupt()], ids=repr)
    async def test_a_handler_that_wants_the_process_to_end_ends_its_job(
        self, executor: CoordinatedJobExecutor, service: ExecutionService, raised: BaseException
    ) -> None:
        class Leaving:
            def execute(self, step: JobStep, context: ExecutionContext) -> StepOutput:
                raise raised

        executor.register_handler("leaves", Leaving())
        job_id = new_id()
        result = await run(executor, job_id, steps=[JobStep(0, "leaves"), JobStep(1, "noop")])
        assert [one.status for one in result.step_results] == [StepStatus.OUTCOME_UNKNOWN]
        assert (await told(service, job_id))[-1] == "FAILED"


class TestSecondDelivery:
    async def test_it_is_given_the_first_ones_result(
        self, executor: CoordinatedJobExecutor, service: ExecutionService, gate: Gate
    ) -> None:
        class Observer:
            def observe_health(self) -> dict[str, Any]:
                return {"load": 0.25, "ok": True}

        gate.let_go.set()
        job_id, steps = new_id(), [JobStep(0, "gate"), JobStep(1, "nobody")]
        first = await run(executor, job_id, steps=steps, health_observer=Observer())
        log = await told(service, job_id)
        elsewhere = create_coordinated_executor(service)  # which has no handler for it, and needs none
        assert await run(elsewhere, job_id, steps=steps, handler="another_worker") == first
        assert gate.calls == [job_id]
        assert await told(service, job_id) == log

    async def test_of_many_at_once_one_executes_it(
        self, executor: CoordinatedJobExecutor, service: ExecutionService, gate: Gate
    ) -> None:
        job_id, steps = new_id(), [JobStep(0, "gate")]
        deliveries = [asyncio.create_task(run(executor, job_id, steps=steps)) for _ in range(16)]
        await gate.has_begun()
        while sum(one.done() for one in deliveries) < 15:
            await asyncio.wait(deliveries, return_when=asyncio.FIRST_COMPLETED, timeout=0.1)
        gate.let_go.set()
        answers = await asyncio.gather(*deliveries, return_exceptions=True)
        assert Counter(type(one) for one in answers) == {ExecutionResult: 1, JobInProgressError: 15}
        assert gate.calls == [job_id]
        assert (await told(service, job_id)).count("audit.job_created") == 1

    async def test_one_that_was_never_begun_is_executed_now(
        self, executor: CoordinatedJobExecutor, service: ExecutionService
    ) -> None:
        """Its process died between creating it and beginning it."""
        job_id = new_id()
        job = Job.checked(job_id, TENANT, CONTRACT, STEPS, handler="recovery_worker")
        await executor.coordinator._new_or_existing(job)
        assert await told(service, job_id) == ["CREATED", "PENDING"]
        assert (await run(executor, job_id)).final_status is JobStatus.COMPLETED

    async def test_one_whose_process_died_is_not_executed_again(
        self, executor: CoordinatedJobExecutor, service: ExecutionService
    ) -> None:
        job = Job.checked(new_id(), TENANT, CONTRACT, STEPS, handler="recovery_worker")
        assert await executor.coordinator.emit_audit_created(job)
        with pytest.raises(JobInProgressError, match="RUNNING"):
            await run(executor, job.job_id)
        execution = await service.for_tenant(TENANT).get_execution(job.job_id)
        assert execution.deadline is not None, "or it would be under way for ever"
        await service.for_tenant(TENANT).submit_result(job.job_id, error={"type": "start_to_close_timeout"})
        result = await run(executor, job.job_id)
        assert (result.final_status, result.steps_executed, result.steps) == (JobStatus.FAILED, 0, tuple(STEPS))
        assert result.final_reason.startswith("start_to_close_timeout")

    @pytest.mark.parametrize(
        "changes", [{"contract_id": UUID(int=8)}, {"steps": STEPS[:2]}, {"steps": [*STEPS[:2], JobStep(2, "noop")]}]
    )
    async def test_another_job_under_its_id(self, executor: CoordinatedJobExecutor, changes: dict[str, Any]) -> None:
        job_id = new_id()
        await run(executor, job_id)
        with pytest.raises(JobIdReusedError, match="another job"):
            await run(executor, job_id, **changes)

    async def test_an_id_that_is_something_else(
        self, executor: CoordinatedJobExecutor, service: ExecutionService
    ) -> None:
        execution = await service.for_tenant(TENANT).create_execution("noop")
        with pytest.raises(JobIdReusedError):
            await run(executor, execution.id)
        job_id = new_id()
        await run(executor, job_id)
        with pytest.raises(DuplicateExecutionError):
            await run(executor, job_id, tenant_id="theirs")


class TestEvidence:
    async def test_it_may_be_longer_than_a_fact(
        self, executor: CoordinatedJobExecutor, service: ExecutionService
    ) -> None:
        executor.register_handler("says", Saying(3_000))
        job_id, steps = new_id(), [JobStep(number, "says") for number in range(120)]
        first = await run(executor, job_id, steps=steps)
        parts = await data_of(service, job_id, "evidence.part")
        assert [(part["number"], part["of"]) for part in parts] == [(n + 1, len(parts)) for n in range(len(parts))]
        assert len(parts) > 5
        assert await run(executor, job_id, steps=steps) == first

    async def test_an_output_that_is_too_large_is_measured(self, executor: CoordinatedJobExecutor) -> None:
        executor.register_handler("says", Saying(100_000))
        job_id, steps = new_id(), [JobStep(0, "says")]
        first = await run(executor, job_id, steps=steps)
        assert first.step_results[0].output, "who executed it has it all"
        (again,) = (await run(executor, job_id, steps=steps)).step_results
        assert again.output is None
        assert again.stored_output is not None
        assert (again.stored_output.size > 100_000, again.stored_output.place) == (True, None)

    def test_many_large_ones_leave_less_of_each(self) -> None:
        """150 outputs of 60 KiB: more than the log keeps of one job."""
        steps = [JobStep(number, "says") for number in range(150)]
        result = JobExecutor({"says": Saying(45_000)}).execute_job(new_id(), CONTRACT, steps)
        facts, said = evidence_facts(result, 262_144)
        assert said["parts"] == len(facts) > 0
        bundle = joined(fact.data for fact in facts)
        assert said["size"] == len(bundle) < EVIDENCE_LIMIT
        again = result_from_bundle(bundle, steps)
        assert all(one.stored_output for one in again.step_results)
        assert again.final_status is JobStatus.COMPLETED

    def test_what_is_beyond_all_bounds_is_measured_as_a_whole(self) -> None:
        class Chatty:
            def observe_health(self) -> dict[str, Any]:
                return {"text": "x" * 1_200_000}

        steps = [JobStep(number, "noop") for number in range(4)]
        result = JobExecutor({"noop": NoOpHandler()}).execute_job(new_id(), CONTRACT, steps, Chatty())
        facts, said = evidence_facts(result, 262_144)
        assert (facts, said["parts"]) == ([], 0)
        assert said["size"] > EVIDENCE_LIMIT


class TestRefusals:
    @pytest.mark.parametrize(
        ("changes", "error"),
        [
            ({"steps": [JobStep(1, "noop"), JobStep(0, "noop")]}, InvalidPlanError),
            ({"steps": ["noop"]}, InvalidPlanError),
            ({"contract_id": "7"}, InvalidDocumentError),
            ({"tenant_id": ""}, InvalidDocumentError),
            ({"handler": "a\x00b"}, InvalidDocumentError),
            ({"executed_by": "x" * 201}, InvalidDocumentError),
            ({"steps": [JobStep(0, "noop", "", {"x": "\x00"})]}, InvalidDocumentError),
            ({"steps": [JobStep(0, "noop", "", {"x": "y" * 300_000})]}, DocumentTooLargeError),
        ],
        ids=repr,
    )
    async def test_nothing_is_begun(
        self, executor: CoordinatedJobExecutor, sql: AnyConnection, changes: dict[str, Any], error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            await run(executor, **changes)
        assert await sql.fetchval("SELECT count(*) FROM executions") == 0


class TestInterference:
    async def test_whoever_is_cancelled_waits_for_the_end(
        self, executor: CoordinatedJobExecutor, service: ExecutionService, gate: Gate
    ) -> None:
        job_id = new_id()
        async with no_leaked_tasks():
            caller = asyncio.create_task(run(executor, job_id, steps=[JobStep(0, "gate")]))
            await gate.has_begun()
            caller.cancel()
            caller.cancel()
            await asyncio.wait([caller], timeout=0.05)
            assert not caller.done()
            gate.let_go.set()
            with pytest.raises(asyncio.CancelledError):
                await caller
        assert (await told(service, job_id))[-1] == "COMPLETED"

    async def test_what_ends_although_it_was_cancelled_is_what_it_ended_as(
        self, executor: CoordinatedJobExecutor, service: ExecutionService, gate: Gate
    ) -> None:
        job_id = new_id()
        caller = asyncio.create_task(run(executor, job_id, steps=[JobStep(0, "gate"), JobStep(1, "noop")]))
        await gate.has_begun()
        await service.for_tenant(TENANT).cancel_execution(job_id)
        gate.let_go.set()
        assert (await caller).final_status is JobStatus.COMPLETED
        assert [word for word in await told(service, job_id) if word.isupper()][-2:] == ["CANCELLING", "COMPLETED"]

    async def test_what_somebody_else_has_ended_is_not_lost(
        self, executor: CoordinatedJobExecutor, service: ExecutionService, gate: Gate
    ) -> None:
        job_id = new_id()
        caller = asyncio.create_task(run(executor, job_id, steps=[JobStep(0, "gate")]))
        await gate.has_begun()
        before = await service.for_tenant(TENANT).submit_result(job_id, error={"type": "overruled"})
        gate.let_go.set()
        with pytest.raises(JobNotRecordedError, match="FAILED") as caught:
            await caller
        assert caught.value.result is not None
        assert caught.value.result.steps_succeeded == 1
        assert await service.for_tenant(TENANT).get_execution(job_id) == before

    async def test_an_end_of_unknown_outcome_is_written_once(
        self, database_url: str, cluster_folder: Path, chance: Random
    ) -> None:
        """Its answer is lost, and PostgreSQL stays away for longer than an append waits."""
        gate, job_id = Gate(), new_id()
        async with cutting_proxy(database_url, cluster_folder) as (proxy, url), impatient_service(url) as service:
            executor = create_coordinated_executor(service)
            executor.register_handler("gate", gate)
            caller = asyncio.create_task(run(executor, job_id, steps=[JobStep(0, "gate", weight=1)]))
            await gate.has_begun()
            executor.coordinator.progress_interval = 0.0
            proxy.lose_answers(chance, {"append_events": 1.0}, shut_seconds=1.0)
            gate.let_go.set()
            await eventually(lambda: proxy.lost.total() > 1, within=PATIENCE, what="its end's answer is lost")
            proxy.lose_answers(chance, {})
            assert (await caller).final_status is JobStatus.COMPLETED
            words = await told(service, job_id)
            assert words[-3:] == ["evidence.part", "audit.job_completed", "COMPLETED"]
            await assert_row_is_fold(service.repository, job_id)

    async def test_lost_answers_are_nothing(self, database_url: str, cluster_folder: Path, chance: Random) -> None:
        async with cutting_proxy(database_url, cluster_folder) as (proxy, url):
            async with open_service(short_settings(url, notify=False)) as service:
                executor = create_coordinated_executor(service)
                proxy.lose_answers(chance, {"create_executions": 0.3, "append_events": 0.3})
                ids = [new_id() for _ in range(8)]
                # One after the other: together they would share a few statements, and chance might spare them all.
                results = [await run(executor, job_id) for job_id in ids]
                proxy.lose_answers(chance, {})
                assert {one.final_status for one in results} == {JobStatus.COMPLETED}
                for job_id in ids:
                    words = await told(service, job_id)
                    facts = ["audit.job_created", "evidence.part", "audit.job_completed"]
                    assert [word for word in words if "." in word and not word[0].isdigit()] == facts
            assert proxy.lost.total() > 0


class TestProgress:
    async def test_steps_count_by_their_weight(
        self, executor: CoordinatedJobExecutor, service: ExecutionService
    ) -> None:
        executor.coordinator.progress_interval = 0.0
        job_id = new_id()
        await run(executor, job_id)
        after = await service.for_tenant(TENANT).get_execution(job_id)
        assert (after.progress.percentage, after.progress.context) == (100.0, {"stage": "noop", "current_step": 2})
        reached = [float(word) for word in await told(service, job_id) if word[0].isdigit()]
        assert set(reached) <= {25.0, 50.0, 100.0}
        assert reached == sorted(reached)

    async def test_a_caller_tracks_more(
        self, executor: CoordinatedJobExecutor, service: ExecutionService, gate: Gate
    ) -> None:
        job_id = new_id()
        caller = asyncio.create_task(run(executor, job_id, steps=[JobStep(0, "gate")]))
        await gate.has_begun()
        await executor.track_job_progress(job_id, 40.0, "copying", "page 4", 0, tenant_id=TENANT)
        progress = (await service.for_tenant(TENANT).get_execution(job_id)).progress
        assert (progress.percentage, progress.message) == (40.0, "page 4")
        assert progress.context == {"stage": "copying", "current_step": 0}
        with pytest.raises(ExecutionNotFoundError):
            await executor.track_job_progress(job_id, 50.0)
        with pytest.raises(InvalidProgressError):
            await executor.track_job_progress(job_id, 101.0, tenant_id=TENANT)
        gate.let_go.set()
        await caller

    async def test_advice_writes_nothing(self, executor: CoordinatedJobExecutor, service: ExecutionService) -> None:
        job_id = new_id()
        await run(executor, job_id)
        before = await service.for_tenant(TENANT).get_execution(job_id)
        assert executor.get_retry_advice(job_id, ConnectionError(), 1)["should_retry"] is True
        assert executor.get_retry_advice(uuid4(), ValueError(), 1)["should_retry"] is False
        assert await service.for_tenant(TENANT).get_execution(job_id) == before


async def test_a_worker_leaves_jobs_alone(
    service: ExecutionService, executor: CoordinatedJobExecutor, gate: Gate
) -> None:
    """Nobody offers their kind: not those that wait to be begun, and not those that are under way."""
    waiting = Job.checked(new_id(), TENANT, CONTRACT, STEPS, handler="recovery_worker")
    await executor.coordinator._new_or_existing(waiting)
    async with running_worker(service):
        caller = asyncio.create_task(run(executor, steps=[JobStep(0, "gate")]))
        await gate.has_begun()
        await ended(service, (await service.create_execution("noop")).id)  # the worker has looked for work since
        gate.let_go.set()
        job_id = (await caller).job_id
    assert await told(service, waiting.job_id) == ["CREATED", "PENDING"]
    assert {item.actor for item in await service.for_tenant(TENANT).history(job_id)} == {"coordinator"}
