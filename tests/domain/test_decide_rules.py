"""What a command does beyond the state it leads to: times, deadlines, leases, results, progress."""

from __future__ import annotations

import math

import pytest

from execution.domain.commands import (
    Cancel,
    ChangeState,
    Claim,
    Expire,
    Finish,
    Pause,
    ReachPausePoint,
    ReportProgress,
    Resume,
    Start,
)
from execution.domain.events import EventType
from execution.domain.execution import Progress
from execution.domain.machine import begin, carry_out
from execution.domain.outcome import Cancelled, Failed, PartiallySucceeded, Succeeded
from execution.domain.progress import checked_report
from execution.domain.retry import RetryPolicy
from execution.domain.state import ExecutionState
from execution.errors import InvalidExecutionStateError, InvalidProgressError
from tests.support import given
from tests.support.given import BOOM, SITUATIONS, T0, WORKER, Log, at, submission

S = ExecutionState


class TestCreate:
    def test_everything_submitted_is_recorded(self) -> None:
        policy = RetryPolicy(max_attempts=5, error_types=("Boom",))
        command = submission(
            parameters={"path": "README.md"},
            agent_id="writer",
            task_id="task-1",
            priority=7,
            run_at=at(60),
            retry_policy=policy,
            schedule_to_start=30.0,
            start_to_close=10.0,
            parent_id=WORKER,
            trace_context="00-trace",
        )
        log = Log()
        first, second = log.do(command, actor="somebody")
        execution = log.execution
        for name in set(command.__struct_fields__) - {"start"}:
            assert getattr(execution, name) == getattr(command, name), name
        assert (first.version, second.version) == (1, 2)
        assert (first.data["previous_state"], first.data["new_state"]) == (None, "CREATED")
        assert {first.actor, second.actor} == {"somebody"}
        assert execution.deadline == at(90), "the wait is counted from when it is due"

    def test_a_limit_of_no_time_is_a_limit(self) -> None:
        execution = given.pending(schedule_to_start=0.0, start_to_close=0.0).execution
        assert (execution.schedule_to_start, execution.start_to_close) == (0.0, 0.0)
        assert execution.deadline == T0

    def test_without_a_start_it_has_no_deadline_until_it_is_started(self) -> None:
        log = given.created(schedule_to_start=30.0)
        assert log.execution.deadline is None
        log.do(Start(), at(100))
        assert log.execution.deadline == at(130)

    def test_a_time_in_the_past_means_now(self) -> None:
        assert given.pending(run_at=at(-60)).execution.run_at == T0

    def test_a_start_does_not_hurry_a_scheduled_execution(self) -> None:
        log = given.created(run_at=at(600))
        log.do(Start(), at(1))
        assert log.execution.run_at == at(600)


class TestClaimedAtOnce:
    @pytest.mark.parametrize("idempotent", [False, True])
    @pytest.mark.parametrize("limits", [{}, {"schedule_to_start": 60.0}, {"start_to_close": 5.0, "priority": 3}])
    def test_it_is_what_a_claim_of_the_waiting_one_comes_to(self, limits: dict[str, float], idempotent: bool) -> None:
        command, claim = submission(**limits), Claim(worker_id=WORKER, idempotent=idempotent)
        waiting, first = begin(command, T0, "somebody")
        after, later = carry_out(waiting, [claim], T0)
        assert begin(command, T0, "somebody", claim=claim) == (after, first + later)
        assert (after.state, after.version, after.lease_epoch, after.worker_id) == (S.RUNNING, 3, 1, WORKER)

    @pytest.mark.parametrize("changes", [{"start": False}, {"run_at": at(1)}])
    def test_what_does_not_wait_or_is_not_due_is_not_claimed(self, changes: dict[str, object]) -> None:
        with pytest.raises(ValueError, match="waits and is due"):
            begin(submission(**changes), T0, claim=Claim(worker_id=WORKER, idempotent=False))


class TestTime:
    def test_a_clock_behind_the_log_does_not_turn_it_back(self) -> None:
        log = given.created()
        log.do(Start(), at(100))
        (event, *_) = log.do(Cancel(), at(-100))
        assert event.occurred_at == at(100)

    def test_the_actor_of_every_event_is_who_gave_the_command(self) -> None:
        events = given.pending().do(Cancel(), at(1), actor="api:maria")
        assert [event.actor for event in events] == ["api:maria"] * 2


class TestEnd:
    @pytest.mark.parametrize(
        ("outcome", "state", "result", "error"),
        [
            (Succeeded(result={"a": 1}), S.COMPLETED, {"a": 1}, None),
            (PartiallySucceeded(result={"a": 1}, error=BOOM), S.PARTIAL_SUCCESS, {"a": 1}, BOOM),
            (PartiallySucceeded(result={"a": 1}), S.PARTIAL_SUCCESS, {"a": 1}, None),
            (Failed(error=BOOM), S.FAILED, None, BOOM),
        ],
    )
    def test_two_events_tell_of_an_end(
        self, outcome: Succeeded | PartiallySucceeded | Failed, state: ExecutionState, result: object, error: object
    ) -> None:
        log = given.pending()
        log.claim(at(5))
        change, end = log.do(Finish(outcome=outcome), at(7.5))
        assert (change.type, change.data["new_state"]) == (EventType.STATE_CHANGED, state)
        assert end.type is EventType.COMPLETED
        assert end.data == {
            "state": state,
            "result": result,
            "error": error,
            "started_at": at(5),
            "completed_at": at(7.5),
            "duration_seconds": 2.5,
        }
        execution = log.execution
        assert (execution.state, execution.result, execution.error) == (state, result, error)
        assert (execution.completed_at, execution.duration_seconds) == (at(7.5), 2.5)
        assert execution.worker_id is None

    def test_what_never_ran_has_no_duration(self) -> None:
        *_, end = given.pending().do(Cancel(), at(5))
        assert (end.data["started_at"], end.data["duration_seconds"]) == (None, None)

    def test_a_handler_that_stops_unasked_has_failed(self) -> None:
        log = given.running()
        log.do(Finish(outcome=Cancelled()))
        assert log.execution.state is S.FAILED
        assert log.execution.error == {"type": "cancelled", "message": "the handler stopped without being asked to"}

    def test_a_result_from_outside_revokes_the_lease(self) -> None:
        log = given.running()
        held = log.execution.lease_epoch
        log.do(Finish(outcome=Succeeded(result={}), by_holder=False))
        assert log.execution.lease_epoch == held + 1

    def test_the_holders_own_result_leaves_the_epoch(self) -> None:
        log = given.running()
        held = log.execution.lease_epoch
        log.do(Finish(outcome=Succeeded(result={})))
        assert log.execution.lease_epoch == held


class TestCancel:
    def test_waiting_it_is_cancelled_at_once(self) -> None:
        log = given.pending()
        change, _ = log.do(Cancel(reason="not needed"), at(1))
        assert change.data["reason"] == "not needed"
        assert (log.execution.state, log.execution.error) == (S.CANCELLED, None)

    @pytest.mark.parametrize("situation", ["running", "asked", "held"])
    def test_held_it_has_until_the_deadline(self, situation: str) -> None:
        log = SITUATIONS[situation](start_to_close=5.0)
        log.do(Cancel(grace=45), at(2))
        assert (log.execution.state, log.execution.deadline) == (S.CANCELLING, at(47))
        assert log.execution.worker_id == WORKER

    def test_a_second_cancel_does_not_move_the_deadline(self) -> None:
        log = given.cancelling()
        deadline = log.execution.deadline
        assert log.do(Cancel(grace=500), at(20)) == []
        assert log.execution.deadline == deadline

    def test_it_ends_as_what_it_really_finished_as(self) -> None:
        log = given.cancelling()
        log.do(Finish(outcome=Succeeded(result={"done": True})), at(1))
        assert (log.execution.state, log.execution.result) == (S.COMPLETED, {"done": True})

    def test_past_the_deadline_it_is_abandoned_and_fenced(self) -> None:
        log = given.cancelling()
        held = log.execution.lease_epoch
        assert log.do(Expire(), at(29.9)) == []
        log.do(Expire(), at(30))
        assert log.execution.state is S.CANCELLED
        assert log.execution.error is not None
        assert log.execution.error["type"] == "abandoned"
        assert log.execution.lease_epoch == held + 1

    def test_a_failure_while_cancelling_is_not_retried(self) -> None:
        log = given.cancelling(retry_policy=RetryPolicy())
        log.do(Finish(outcome=Failed(error=BOOM)))
        assert log.execution.state is S.FAILED


class TestPause:
    def test_running_it_is_requested_then_reached(self) -> None:
        log = given.running(start_to_close=10.0)
        (request,) = log.do(Pause(reason="lunch"))
        assert (request.type, request.data) == (EventType.PAUSE_REQUESTED, {"requested": True, "reason": "lunch"})
        assert (log.execution.state, log.execution.pause_requested) == (S.RUNNING, True)
        log.do(ReachPausePoint(), at(1))
        assert (log.execution.state, log.execution.pause_requested) == (S.PAUSED, False)
        assert log.execution.deadline is None, "the attempt's clock stands while it is paused"

    def test_a_request_can_be_withdrawn(self) -> None:
        log = given.asked_to_pause()
        (withdrawn,) = log.do(Resume(reason="go on"))
        assert withdrawn.data == {"requested": False, "reason": "go on"}
        assert log.do(ReachPausePoint()) == []
        assert log.execution.state is S.RUNNING

    def test_resumed_in_its_workers_hands_it_runs_on(self) -> None:
        log = given.paused_held(start_to_close=10.0)
        before = log.execution
        log.do(Resume(), at(100))
        after = log.execution
        assert (after.state, after.deadline) == (S.RUNNING, at(110))
        assert (after.worker_id, after.lease_epoch, after.attempt) == (WORKER, before.lease_epoch, 1)
        assert after.started_at == before.started_at

    def test_resumed_without_a_holder_it_waits_for_one(self) -> None:
        log = given.paused(schedule_to_start=30.0)
        assert log.execution.deadline is None
        log.do(Resume(), at(100))
        execution = log.execution
        assert (execution.state, execution.run_at, execution.deadline) == (S.PENDING, at(100), at(130))
        assert execution.attempt == 1

    def test_resuming_does_not_hurry_a_scheduled_execution(self) -> None:
        log = given.paused(run_at=at(600))
        log.do(Resume(), at(1))
        assert log.execution.run_at == at(600)

    def test_an_end_forgets_the_request(self) -> None:
        log = given.asked_to_pause()
        log.do(Finish(outcome=Succeeded(result={})))
        assert not log.execution.pause_requested


class TestProgress:
    def test_it_never_falls_within_an_attempt(self) -> None:
        log = given.running()
        log.do(ReportProgress(percentage=60, message="late"))
        log.do(ReportProgress(percentage=40, message="later"))
        assert log.execution.progress == Progress(percentage=60.0, message="later")

    def test_contexts_are_merged_and_kept(self) -> None:
        log = given.running()
        log.do(ReportProgress(percentage=1, message="m", context={"a": 1, "b": 1}))
        (event,) = log.do(ReportProgress(percentage=2, context={"b": 2}))
        assert event.data == {"percentage": 2.0, "message": "m", "context": {"a": 1, "b": 2}}

    def test_saying_it_again_is_not_an_event(self) -> None:
        log = given.running()
        log.do(ReportProgress(percentage=10, message="m", context={"a": 1}))
        assert log.do(ReportProgress(percentage=10, message="m", context={"a": 1})) == []
        assert log.do(ReportProgress(percentage=5)) == []

    @pytest.mark.parametrize("percentage", [0, 100, 0.0, 99.999])
    def test_its_bounds_belong_to_it(self, percentage: float) -> None:
        log = given.running()
        log.do(checked_report(percentage, "m"))
        assert log.execution.progress.percentage == percentage

    @pytest.mark.parametrize("percentage", [-0.001, 100.001, math.nan, math.inf, -math.inf, 10**400, True, "50", None])
    def test_anything_else_is_refused(self, percentage: float) -> None:
        with pytest.raises(InvalidProgressError):
            checked_report(percentage)


class TestChangeState:
    def test_driven_from_outside_nobody_holds_it(self) -> None:
        log = given.pending(start_to_close=10.0)
        log.do(ChangeState(target=S.RUNNING), at(1))
        execution = log.execution
        assert (execution.worker_id, execution.lease_epoch) == (None, 1)
        assert (execution.started_at, execution.deadline) == (at(1), at(11))

    def test_an_end_from_outside_fences_the_holder(self) -> None:
        log = given.running()
        held = log.execution.lease_epoch
        log.do(ChangeState(target=S.COMPLETED, result={"a": 1}))
        assert (log.execution.result, log.execution.lease_epoch) == ({"a": 1}, held + 1)

    def test_a_failure_has_an_error(self) -> None:
        log = given.running()
        log.do(ChangeState(target=S.FAILED, reason="wrong input"))
        assert log.execution.error == {"type": "failed", "message": "wrong input"}

    def test_cancelling_has_a_deadline(self) -> None:
        log = given.running()
        log.do(ChangeState(target=S.CANCELLING, grace=5), at(1))
        assert log.execution.deadline == at(6)

    def test_nothing_that_nobody_runs_is_cancelling(self) -> None:
        log = given.pending()
        log.do(ChangeState(target=S.PAUSED))
        with pytest.raises(InvalidExecutionStateError, match="cancel it"):
            log.do(ChangeState(target=S.CANCELLING))
