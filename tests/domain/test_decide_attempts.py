"""What ends an attempt, and what follows it: retries, rescues, releases, time limits."""

from __future__ import annotations

from datetime import timedelta

import pytest

from execution.domain.commands import (
    Cancel,
    Expire,
    Finish,
    Release,
    ReportProgress,
    Rescue,
    Resume,
    Retry,
)
from execution.domain.decide import decide
from execution.domain.execution import Progress
from execution.domain.outcome import Failed, GivenBack, Interrupted
from execution.domain.retry import RetryPolicy
from execution.domain.state import ExecutionState
from tests.support import given
from tests.support.given import BOOM, OTHER_WORKER, SITUATIONS, WORKER, at

S = ExecutionState
LATER = at(10_000)
LIMITS = {"schedule_to_start": 60.0, "start_to_close": 60.0}


class TestRetry:
    def test_by_hand_it_is_a_new_attempt_that_starts_from_nothing(self) -> None:
        log = given.running(schedule_to_start=30.0)
        log.do(ReportProgress(percentage=80, context={"page": 3}))
        log.do(Finish(outcome=Failed(error=BOOM)), at(5))
        log.do(Retry(reason="again"), at(9))
        execution = log.execution
        assert (execution.state, execution.attempt, execution.run_at) == (S.PENDING, 2, at(9))
        assert execution.progress == Progress()
        assert (execution.started_at, execution.completed_at, execution.result) == (None, None, None)
        assert execution.error == BOOM, "why there is another attempt"
        assert execution.deadline == at(39)

    def test_the_error_goes_when_the_new_attempt_runs(self) -> None:
        log = given.failed()
        log.do(Retry())
        log.claim(at(1))
        assert log.execution.error is None

    def test_without_a_policy_a_failure_is_the_end(self) -> None:
        assert given.failed().execution.state is S.FAILED

    @pytest.mark.parametrize(("chance", "delay"), [(0.0, 8.0), (0.5, 10.0), (1.0, 12.0)])
    def test_the_policy_says_when(self, chance: float, delay: float) -> None:
        policy = RetryPolicy(max_attempts=2, initial_delay=10, jitter=0.2)
        log = given.running(retry_policy=policy, schedule_to_start=30.0)
        held = log.execution.lease_epoch
        (change,) = log.do(Finish(outcome=Failed(error=BOOM), chance=chance), at(1))
        assert change.data["reason"] == f"attempt 1 of 2 failed; next in {delay:.1f} s"
        execution = log.execution
        assert (execution.state, execution.attempt, execution.error) == (S.PENDING, 2, BOOM)
        assert (execution.run_at, execution.deadline) == (at(1 + delay), at(31 + delay))
        assert (execution.worker_id, execution.lease_epoch) == (None, held + 1)

    def test_the_delay_grows_with_each_attempt_until_none_is_left(self) -> None:
        log = given.running(retry_policy=RetryPolicy(max_attempts=3, initial_delay=10, jitter=0))
        waits = []
        for _ in range(2):
            log.do(Finish(outcome=Failed(error=BOOM)))
            waits.append(log.execution.run_at - log.execution.updated_at)
            log.claim(log.execution.run_at)
        log.do(Finish(outcome=Failed(error=BOOM)))
        assert waits == [timedelta(seconds=10), timedelta(seconds=20)]
        assert (log.execution.state, log.execution.attempt) == (S.FAILED, 3)

    @pytest.mark.parametrize(
        ("error_type", "retried"), [("Timeout", True), ("Boom", False), ("outcome_unknown", False)]
    )
    def test_only_after_the_errors_it_names(self, error_type: str, retried: bool) -> None:
        policy = RetryPolicy(error_types=("Timeout", "outcome_unknown"))
        log = given.running(retry_policy=policy)
        log.do(Finish(outcome=Failed(error={"type": error_type, "message": ""})))
        assert (log.execution.state is S.PENDING) == retried

    def test_the_service_never_repeats_what_nobody_knows_the_end_of(self) -> None:
        log = given.running(retry_policy=RetryPolicy())
        log.do(Finish(outcome=Interrupted(reason="cut")))
        assert log.execution.state is S.FAILED
        assert log.execution.error == {"type": "outcome_unknown", "message": "cut"}


class TestRescue:
    def test_at_most_once_is_the_default(self) -> None:
        log = given.running()
        held = log.execution.lease_epoch
        log.do(Rescue(worker_id=WORKER), at(1))
        execution = log.execution
        assert execution.state is S.FAILED
        assert execution.error == {"type": "outcome_unknown", "message": f"worker {WORKER} died"}
        assert (execution.lease_epoch, execution.rescues) == (held + 1, 1)

    def test_the_idempotent_runs_again(self) -> None:
        log = given.running(idempotent=True)
        held = log.execution.lease_epoch
        log.do(Rescue(worker_id=WORKER), at(1))
        execution = log.execution
        assert (execution.state, execution.attempt, execution.rescues) == (S.PENDING, 2, 1)
        assert (execution.worker_id, execution.lease_epoch, execution.run_at) == (None, held + 1, at(1))

    def test_a_pause_outlives_the_worker(self) -> None:
        log = given.paused_held(idempotent=True)
        log.do(Rescue(worker_id=WORKER), at(1))
        assert (log.execution.state, log.execution.worker_id) == (S.PAUSED, None)

    def test_a_cancellation_ends_with_its_worker(self) -> None:
        log = given.cancelling(idempotent=True)
        log.do(Rescue(worker_id=WORKER), at(1))
        assert log.execution.state is S.CANCELLED
        assert log.execution.error == {"type": "abandoned", "message": f"worker {WORKER} died"}

    @pytest.mark.parametrize("situation", ["running", "held"])
    def test_what_kills_every_worker_is_given_up(self, situation: str) -> None:
        log = SITUATIONS[situation](idempotent=True)
        log.do(Rescue(worker_id=WORKER, max_rescues=1))
        if log.execution.state is S.PAUSED:
            log.do(Resume())
        log.claim(at(1), idempotent=True)
        log.do(Rescue(worker_id=WORKER, max_rescues=1))
        assert log.execution.state is S.FAILED
        assert log.execution.error == {"type": "outcome_unknown", "message": f"worker {WORKER} died, after 1 rescues"}
        assert log.execution.rescues == 2

    def test_a_worker_that_no_longer_holds_it_changes_nothing(self) -> None:
        log = given.running(idempotent=True)
        log.do(Rescue(worker_id=WORKER))
        log.claim(at(1), worker_id=OTHER_WORKER)
        assert log.do(Rescue(worker_id=WORKER)) == []


class TestRelease:
    def test_the_claim_is_given_back_as_it_was(self) -> None:
        log = given.pending(run_at=at(5))
        log.claim(at(6))
        held = log.execution.lease_epoch
        log.do(Release(), at(7))
        execution = log.execution
        assert (execution.state, execution.attempt, execution.run_at) == (S.PENDING, 1, at(5))
        assert (execution.worker_id, execution.lease_epoch) == (None, held + 1)

    def test_what_was_not_started_has_no_start(self) -> None:
        log = given.running()
        log.do(Release(), at(1))
        assert log.execution.started_at is None
        *_, end = log.do(Cancel(), at(9))
        assert end.data["duration_seconds"] is None


class TestGivingBack:
    def test_it_waits_anew_as_the_same_attempt_with_its_progress(self) -> None:
        log = given.running(idempotent=True, schedule_to_start=60.0)
        log.do(ReportProgress(percentage=40))
        held = log.execution.lease_epoch
        [event] = log.do(Finish(outcome=GivenBack(reason="2 of 5")), at(300))
        execution = log.execution
        assert (execution.state, execution.attempt, execution.worker_id) == (S.PENDING, 1, None)
        assert (execution.lease_epoch, execution.deadline) == (held + 1, at(360)), "not by when it was submitted"
        assert (execution.progress.percentage, event.data["reason"]) == (40, "2 of 5")


class TestExpire:
    @pytest.mark.parametrize(
        ("situation", "error_type", "state"),
        [
            ("pending", "schedule_to_start_timeout", S.FAILED),
            ("running", "start_to_close_timeout", S.FAILED),
            ("cancelling", "abandoned", S.CANCELLED),
        ],
    )
    def test_each_limit_has_its_error(self, situation: str, error_type: str, state: ExecutionState) -> None:
        log = SITUATIONS[situation](**LIMITS)
        held = log.execution.lease_epoch
        log.do(Expire(), LATER)
        assert log.execution.state is state
        assert log.execution.error is not None
        assert log.execution.error["type"] == error_type
        assert log.execution.lease_epoch == held + (situation != "pending"), "whoever held it is fenced off"

    @pytest.mark.parametrize("situation", ["pending", "running", "cancelling"])
    def test_not_before_the_deadline(self, situation: str) -> None:
        execution = SITUATIONS[situation](**LIMITS).execution
        assert execution.deadline is not None
        assert decide(execution, Expire(), execution.deadline - timedelta(microseconds=1)) == []
        assert decide(execution, Expire(), execution.deadline) != []
