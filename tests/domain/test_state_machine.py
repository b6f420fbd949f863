"""Whatever is asked of an execution, by whom and by whichever clock: the log stays a log and its fold an execution."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from execution.domain.commands import (
    Cancel,
    ChangeState,
    Command,
    Expire,
    Finish,
    Pause,
    ReachPausePoint,
    Record,
    Release,
    Rescue,
    Resume,
    Retry,
    Start,
)
from execution.domain.decide import decide
from execution.domain.events import Event, EventType
from execution.domain.evolve import evolve
from execution.domain.execution import Execution
from execution.domain.outcome import Cancelled, Failed, GivenBack, Interrupted, PartiallySucceeded, Succeeded
from execution.domain.progress import checked_report
from execution.domain.retry import RetryPolicy
from execution.domain.state import (
    HELD_STATES,
    TERMINAL_STATES,
    ExecutionState,
    ExecutionStateTransitionValidator,
)
from execution.errors import InvalidExecutionStateError
from tests.support.given import OTHER_WORKER, T0, WORKER, Log, as_read, submission

S = ExecutionState
VALID_TRANSITIONS = ExecutionStateTransitionValidator.VALID_TRANSITIONS

seconds = st.floats(0, 5000)
limits = st.none() | st.floats(0, 500)
reasons = st.none() | st.text(max_size=5)
documents = st.dictionaries(
    st.sampled_from("abc"), st.integers(-(2**63), 2**64 - 1) | st.none() | st.text(max_size=3), max_size=2
)
workers = st.sampled_from([WORKER, OTHER_WORKER])
errors = st.sampled_from(["Boom", "Timeout", "outcome_unknown"]).map(lambda name: {"type": name, "message": "m"})
policies = st.none() | st.builds(
    RetryPolicy, max_attempts=st.integers(1, 4), error_types=st.just(("Boom",)) | st.just(())
)
outcomes = st.one_of(
    st.builds(Succeeded, result=documents),
    st.builds(PartiallySucceeded, result=documents, error=st.none() | errors),
    st.builds(Failed, error=errors),
    st.builds(Cancelled, reason=reasons),
    st.builds(Interrupted, reason=st.just("cut")),
    st.builds(GivenBack, reason=st.just("2 of 5")),
)
from_doors: st.SearchStrategy[Command] = st.one_of(
    st.builds(Start, reason=reasons),
    st.builds(Cancel, reason=reasons, grace=seconds),
    st.builds(Pause, reason=reasons),
    st.builds(Resume, reason=reasons),
    st.builds(Retry, reason=reasons),
    st.builds(checked_report, percentage=st.floats(0, 100), message=reasons, context=st.none() | documents),
    st.builds(Finish, outcome=outcomes, chance=st.floats(0, 1), by_holder=st.just(False)),
    st.builds(Record, fact=st.just("a.b"), data=documents),
    st.builds(ChangeState, target=st.sampled_from(S), reason=reasons, grace=seconds, result=st.none() | documents),
)
from_workers: st.SearchStrategy[Command] = st.one_of(
    st.builds(checked_report, percentage=st.floats(0, 100), message=reasons, context=st.none() | documents),
    st.builds(Finish, outcome=outcomes, chance=st.floats(0, 1)),
    st.builds(Record, fact=st.just("a.b"), data=documents),
    st.just(ReachPausePoint()),
    st.builds(Release, reason=reasons),
)
from_rescuers: st.SearchStrategy[Command] = st.one_of(
    st.builds(Rescue, worker_id=workers, max_rescues=st.integers(0, 3)), st.just(Expire())
)


class ExecutionLife(RuleBasedStateMachine):
    """One execution under every command; each event is checked as it is appended, the whole log at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.now = T0

    @initialize(start=st.booleans(), policy=policies, to_start=limits, to_close=limits, delay=st.floats(-100, 1000))
    def submit(
        self, start: bool, policy: RetryPolicy | None, to_start: float | None, to_close: float | None, delay: float
    ) -> None:
        self.log.do(
            submission(
                start=start,
                retry_policy=policy,
                schedule_to_start=to_start,
                start_to_close=to_close,
                run_at=T0 + timedelta(seconds=delay),
            )
        )

    @rule(step=st.floats(-1e6, 1e6))
    def another_clock(self, step: float) -> None:
        """The next command comes from a machine whose clock is ahead or behind."""
        self.now = T0 + timedelta(seconds=step)

    @rule(command=from_doors)
    def door(self, command: Command) -> None:
        self.give(command)

    @rule(command=from_workers)
    def worker(self, command: Command) -> None:
        self.give(command)

    @rule(command=from_rescuers)
    def rescuer(self, command: Command) -> None:
        self.give(command)

    @precondition(lambda self: self.log.execution.state is S.PENDING)
    @rule(worker_id=workers, idempotent=st.booleans())
    def claim(self, worker_id: UUID, idempotent: bool) -> None:
        before = self.log.execution
        self.log.claim(self.now, worker_id=worker_id, idempotent=idempotent)
        assert self.log.execution.lease_epoch > before.lease_epoch

    def give(self, command: Command) -> None:
        before = self.log.execution
        try:
            events = decide(before, command, self.now, "somebody")
        except InvalidExecutionStateError:
            return
        check_decision(before, command, events)
        self.log.extend(events)

    @invariant()
    def the_row_would_be_accepted(self) -> None:
        if self.log.events:
            check_row(self.log.execution)

    def teardown(self) -> None:
        check_log(self.log.events)
        decided: Execution | None = None
        read: Execution | None = None
        for event in self.log.events:
            decided, read = evolve(decided, event), evolve(read, as_read(event))
            assert read == decided, "an event that was read leads elsewhere than when it was decided"
        assert read == self.log.folded


def check_decision(before: Execution, command: Command, events: list[Event]) -> None:
    """A decision leaves an end only by a retry, and fences off whoever it takes the execution from."""
    after = before
    for event in events:
        after = evolve(after, event)
        check_row(after)
    if before.is_terminal and events:
        assert before.state in {S.FAILED, S.CANCELLED}
        assert isinstance(command, Retry) or (isinstance(command, ChangeState) and command.target is S.PENDING)
        assert after.attempt == before.attempt + 1
    by_its_holder = isinstance(command, Finish | Release) and getattr(command, "by_holder", True)
    if before.is_held and not after.is_held and not by_its_holder:
        assert after.lease_epoch > before.lease_epoch


def check_row(row: Execution) -> None:
    """The CHECK constraints of `executions`, and which states a deadline and a holder belong to."""
    assert (row.completed_at is not None) == (row.state in TERMINAL_STATES)
    assert row.worker_id is None or row.state in HELD_STATES | {S.PAUSED}
    assert not row.pause_requested or row.state in HELD_STATES
    assert min(row.version, row.attempt) >= 1
    assert min(row.rescues, row.lease_epoch) >= 0
    assert 0 <= row.progress.percentage <= 100
    limit_of = {S.PENDING: row.schedule_to_start, S.RUNNING: row.start_to_close, S.CANCELLING: 0.0}
    assert (row.deadline is not None) == (limit_of.get(row.state) is not None)
    assert row.started_at is not None or row.state is not S.RUNNING


def check_log(events: list[Event]) -> None:
    """What holds of every log: numbers, times, transitions, and what only ever grows."""
    assert [event.version for event in events] == list(range(1, len(events) + 1))
    before: Execution | None = None
    for event, following in zip(events, [*events[1:], None], strict=True):
        after = evolve(before, event)
        assert (after.version, after.updated_at) == (event.version, event.occurred_at)
        if event.type is EventType.STATE_CHANGED:
            check_transition(before, event)
            ends = after.state in TERMINAL_STATES
            assert ends == (following is not None and following.type is EventType.COMPLETED)
        else:
            assert before is not None
            assert after.state is before.state
        if before is not None:
            check_growth(before, after)
        before = after


def check_transition(before: Execution | None, event: Event) -> None:
    previous = before.state if before else None
    assert event.data["previous_state"] == previous
    if previous is None:
        assert event.data["new_state"] == S.CREATED
    else:
        assert event.data["new_state"] in VALID_TRANSITIONS[previous]


def check_growth(before: Execution, after: Execution) -> None:
    assert after.updated_at >= before.updated_at
    assert after.lease_epoch >= before.lease_epoch
    assert after.rescues >= before.rescues
    assert after.attempt - before.attempt in {0, 1}
    if after.attempt == before.attempt:
        assert after.progress.percentage >= before.progress.percentage


TestExecutionLife = ExecutionLife.TestCase
TestExecutionLife.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
