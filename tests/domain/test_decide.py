"""What each command does in each situation: a table written by hand, and the rules a table cannot show."""

from __future__ import annotations

import pytest

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
    ReportProgress,
    Rescue,
    Resume,
    Retry,
    Start,
)
from execution.domain.decide import allowed_commands, decide
from execution.domain.outcome import Cancelled, Failed, GivenBack, Interrupted, PartiallySucceeded, Succeeded
from execution.domain.state import ExecutionState
from execution.errors import InvalidExecutionStateError
from tests.support.given import BOOM, OTHER_WORKER, SITUATIONS, STATE_OF, T0, WORKER, Log, at, submission

S = ExecutionState
LATER = at(10_000)
LIMITS = {"schedule_to_start": 60.0, "start_to_close": 60.0}

COMMANDS: dict[str, Command] = {
    "start": Start(),
    "cancel": Cancel(),
    "pause": Pause(),
    "resume": Resume(),
    "retry": Retry(),
    "progress": ReportProgress(percentage=50),
    "record": Record(fact="step.started", data={}),
    "succeed": Finish(outcome=Succeeded(result={"a": 1})),
    "partly": Finish(outcome=PartiallySucceeded(result={"a": 1}, error=BOOM)),
    "fail": Finish(outcome=Failed(error=BOOM)),
    "stop": Finish(outcome=Cancelled()),
    "cut": Finish(outcome=Interrupted(reason="cut")),
    "cut*": Finish(outcome=Interrupted(reason="cut")),
    "give": Finish(outcome=GivenBack(reason="the worker stops")),
    "point": ReachPausePoint(),
    "release": Release(),
    "rescue": Rescue(worker_id=WORKER),
    "rescue*": Rescue(worker_id=WORKER),
    "stranger": Rescue(worker_id=OTHER_WORKER),
    "expire": Expire(),
    **{f"to_{state}": ChangeState(target=state) for state in S},
}

# A state: it is in that state afterwards. ~: an event, and the same state. =: accepted, no event. x: refused.
# The starred rows are of executions whose handler is idempotent; a situation it cannot have then is left empty (.).
TABLE = """
                   created    pending    running         asked           paused     held       cancelling      completed partial failed  cancelled
start              PENDING    x          x               x               x          x          x               x         x       x       x
cancel             CANCELLED  CANCELLED  CANCELLING      CANCELLING      CANCELLED  CANCELLING =               x         x       x       x
pause              x          PAUSED     ~               =               =          =          x               x         x       x       x
resume             x          x          x               ~               PENDING    RUNNING    x               x         x       x       x
retry              x          x          x               x               x          x          x               x         x       PENDING PENDING
progress           x          x          ~               ~               x          x          x               x         x       x       x
record             ~          ~          ~               ~               ~          ~          ~               x         x       x       x
succeed            x          x          COMPLETED       COMPLETED       x          x          COMPLETED       x         x       x       x
partly             x          x          PARTIAL_SUCCESS PARTIAL_SUCCESS x          x          PARTIAL_SUCCESS x         x       x       x
fail               x          x          FAILED          FAILED          x          x          FAILED          x         x       x       x
stop               x          x          FAILED          FAILED          x          x          CANCELLED       x         x       x       x
cut                x          x          FAILED          FAILED          x          FAILED     CANCELLED       x         x       x       x
cut*               .          .          PENDING         PENDING         .          PAUSED     CANCELLED       .         .       x       .
point              =          =          =               PAUSED          =          =          =               =         =       =       =
give               x          x          PENDING         PAUSED          x          PAUSED     CANCELLED       x         x       x       x
release            x          x          PENDING         PAUSED          x          x          CANCELLED       x         x       x       x
rescue             =          =          FAILED          FAILED          =          FAILED     CANCELLED       =         =       =       =
rescue*            .          .          PENDING         PENDING         .          PAUSED     CANCELLED       .         .       =       .
stranger           =          =          =               =               =          =          =               =         =       =       =
expire             =          FAILED     FAILED          FAILED          =          =          CANCELLED       =         =       =       =
to_CREATED         x          x          x               x               x          x          x               x         x       x       x
to_PENDING         PENDING    x          x               x               PENDING    RUNNING    x               x         x       PENDING PENDING
to_RUNNING         x          RUNNING    x               ~               PENDING    RUNNING    x               x         x       x       x
to_PAUSED          x          PAUSED     ~               =               =          =          x               x         x       x       x
to_CANCELLING      x          x          CANCELLING      CANCELLING      x          CANCELLING x               x         x       x       x
to_COMPLETED       x          x          COMPLETED       COMPLETED       x          x          COMPLETED       x         x       x       x
to_PARTIAL_SUCCESS x          x          PARTIAL_SUCCESS PARTIAL_SUCCESS x          x          PARTIAL_SUCCESS x         x       x       x
to_FAILED          x          FAILED     FAILED          FAILED          FAILED     FAILED     FAILED          x         x       x       x
to_CANCELLED       CANCELLED  CANCELLED  x               x               CANCELLED  CANCELLED  CANCELLED       x         x       x       x
"""  # noqa: E501 - a table is read across

ALLOWED = {
    "created": ["cancel", "start"],
    "pending": ["cancel", "pause"],
    "running": ["cancel", "pause", "report_progress", "submit_result"],
    "asked": ["cancel", "pause", "report_progress", "resume", "submit_result"],
    "paused": ["cancel", "pause", "resume"],
    "held": ["cancel", "pause", "resume"],
    "cancelling": ["cancel", "submit_result"],
    "completed": [],
    "partial": [],
    "failed": ["retry"],
    "cancelled": ["retry"],
}


def cells() -> list[tuple[str, str, str]]:
    header, *rows = [line.split() for line in TABLE.strip().splitlines()]
    return [
        (command, situation, cell)
        for command, *row in rows
        for situation, cell in zip(header, row, strict=True)
        if cell != "."
    ]


def given_situation(command: str, situation: str) -> Log:
    idempotent = {"idempotent": True} if command.endswith("*") else {}
    return SITUATIONS[situation](**LIMITS, **idempotent)


def test_the_table_covers_every_command_in_every_situation() -> None:
    assert {command for command, *_ in cells()} == set(COMMANDS)
    assert {situation for _, situation, _ in cells()} == set(SITUATIONS)


@pytest.mark.parametrize(("command", "situation", "expected"), cells())
def test_each_command_in_each_situation(command: str, situation: str, expected: str) -> None:
    log = given_situation(command, situation)
    before = log.execution
    if expected == "x":
        with pytest.raises(InvalidExecutionStateError):
            log.do(COMMANDS[command], LATER)
        return
    events = log.do(COMMANDS[command], LATER)
    assert bool(events) == (expected != "=")
    assert log.execution.state == (before.state if expected in "=~" else expected)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_situation_is_what_it_is_called(situation: str) -> None:
    execution = SITUATIONS[situation]().execution
    assert execution.state is STATE_OF[situation]
    assert execution.pause_requested == (situation == "asked")
    assert execution.is_held == (situation in {"running", "asked", "held", "cancelling"})


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_refusal_names_what_is_allowed(situation: str) -> None:
    execution = SITUATIONS[situation]().execution
    assert sorted(allowed_commands(execution)) == ALLOWED[situation]
    with pytest.raises(InvalidExecutionStateError) as caught:
        decide(execution, ChangeState(target=S.CREATED), T0)
    refusal = caught.value
    assert refusal.allowed == ALLOWED[situation]
    assert refusal.execution_id == execution.id
    assert (refusal.state, refusal.version, refusal.command) == (execution.state, execution.version, "change_state")
    assert f"Allowed now: {', '.join(ALLOWED[situation]) or 'nothing'}." in str(refusal)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_execution_is_created_once(situation: str) -> None:
    with pytest.raises(InvalidExecutionStateError, match="exists"):
        decide(SITUATIONS[situation]().execution, submission(), T0)


def test_only_create_needs_no_execution() -> None:
    with pytest.raises(ValueError, match="needs an execution"):
        decide(None, Start(), T0)
