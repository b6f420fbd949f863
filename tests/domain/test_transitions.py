"""The table of transitions, and that the documentation says exactly the same."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from execution.domain.commands import Cancel, Command, Finish, Pause, ReportProgress, Resume, Retry, Start
from execution.domain.decide import decide
from execution.domain.outcome import Succeeded
from execution.domain.state import (
    HELD_STATES,
    TERMINAL_STATES,
    ExecutionState,
    ExecutionStateTransitionValidator,
)
from execution.errors import InvalidExecutionStateError
from execution.repository.tables import executions
from tests.support.given import SITUATIONS, T0

S = ExecutionState
VALID_TRANSITIONS = ExecutionStateTransitionValidator.VALID_TRANSITIONS
DOCUMENT = (Path(__file__).parents[2] / "docs" / "states.md").read_text(encoding="utf-8")

SITUATION_OF_ROW = {
    "`CREATED`": "created",
    "`PENDING`": "pending",
    "`RUNNING`": "running",
    "`RUNNING`, pause requested": "asked",
    "`PAUSED`, nobody holds it": "paused",
    "`PAUSED`, its worker holds it": "held",
    "`CANCELLING`": "cancelling",
    "`COMPLETED`": "completed",
    "`PARTIAL_SUCCESS`": "partial",
    "`FAILED`": "failed",
    "`CANCELLED`": "cancelled",
}
COMMANDS: dict[str, Command] = {
    "`start`": Start(),
    "`cancel`": Cancel(),
    "`pause`": Pause(),
    "`resume`": Resume(),
    "`retry`": Retry(),
    "`report_progress`": ReportProgress(percentage=50),
    "`submit_result`": Finish(outcome=Succeeded(result={}), by_holder=False),
}


def table_under(heading: str) -> list[list[str]]:
    """The rows of the first table below a heading, its own heading first."""
    section = DOCUMENT.split(f"## {heading}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line.startswith("|")
    ]
    return [row for row in rows if set(row[0]) != {"-"}]


def documented_effects() -> list[tuple[str, str, str]]:
    (_, *commands), *rows = table_under("What each command does")
    return [
        (row_name, command, effect)
        for row_name, *effects in rows
        for command, effect in zip(commands, effects, strict=True)
    ]


def test_every_state_has_its_row() -> None:
    assert set(VALID_TRANSITIONS) == set(S)


def test_terminal_states_are_left_by_a_retry_only() -> None:
    assert {S.COMPLETED, S.PARTIAL_SUCCESS, S.FAILED, S.CANCELLED} == TERMINAL_STATES
    assert {state: VALID_TRANSITIONS[state] for state in TERMINAL_STATES} == {
        S.COMPLETED: set(),
        S.PARTIAL_SUCCESS: set(),
        S.FAILED: {S.PENDING},
        S.CANCELLED: {S.PENDING},
    }


def test_every_state_can_be_reached_and_only_the_first_is_not_reached_again() -> None:
    reached = set().union(*VALID_TRANSITIONS.values())
    assert set(S) - reached == {S.CREATED}


def test_nothing_is_held_after_its_end() -> None:
    assert not HELD_STATES & TERMINAL_STATES


@pytest.mark.parametrize(("current", "target"), list(product(S, S)))
def test_the_validator_reads_the_table(current: ExecutionState, target: ExecutionState) -> None:
    assert ExecutionStateTransitionValidator().is_valid(current, target) == (target in VALID_TRANSITIONS[current])


def test_the_diagram_shows_exactly_the_table() -> None:
    drawn = re.findall(r"^ +(\w+) --> (\w+): \S", DOCUMENT, re.MULTILINE)
    allowed = sorted((current, target) for current, targets in VALID_TRANSITIONS.items() for target in targets)
    assert sorted(drawn) == allowed


def test_the_diagram_shows_where_it_starts_and_ends() -> None:
    assert re.findall(r"\[\*\] --> (\w+)", DOCUMENT) == [S.CREATED]
    final = {state for state, targets in VALID_TRANSITIONS.items() if not targets}
    assert set(re.findall(r"(\w+) --> \[\*\]", DOCUMENT)) == final


def test_every_state_is_explained() -> None:
    _, *rows = table_under("What each state means")
    assert [row[0] for row in rows] == [f"`{state}`" for state in S]
    assert all(len(row) == 3 and all(row) for row in rows)


def test_the_table_of_commands_is_complete() -> None:
    effects = documented_effects()
    assert {row for row, *_ in effects} == set(SITUATION_OF_ROW)
    assert {command for _, command, _ in effects} == set(COMMANDS)


@pytest.mark.parametrize(("row", "command", "effect"), documented_effects())
def test_a_command_does_what_is_documented(row: str, command: str, effect: str) -> None:
    log = SITUATIONS[SITUATION_OF_ROW[row]]()
    before = log.execution
    if effect == "refused":
        with pytest.raises(InvalidExecutionStateError):
            decide(before, COMMANDS[command], T0)
        return
    events = log.do(COMMANDS[command])
    if effect == "accepted":
        assert events == []
    elif effect == "recorded":
        assert len(events) == 1
        assert log.execution.state is before.state
    elif effect == "its outcome":
        assert log.execution.state is S.COMPLETED
    else:
        assert f"`{log.execution.state}`" == effect


def test_the_database_knows_exactly_these_states() -> None:
    (constraint,) = [one for one in executions.constraints if str(one.name) == "executions_state_known"]
    sql = str(constraint.sqltext)  # type: ignore[attr-defined]
    assert sorted(re.findall(r"'(\w+)'", sql)) == sorted(S)
