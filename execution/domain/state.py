"""The states of an execution, and the one table of what may follow what."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final


class ExecutionState(StrEnum):
    """Where an execution stands. The values are the words used in the database, in events and in every API."""

    CREATED = "CREATED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    CANCELLING = "CANCELLING"
    COMPLETED = "COMPLETED"
    PARTIAL_SUCCESS = "PARTIAL_SUCCESS"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    # Like the text it is; an enum's own hash is a Python function, and every event looks states up several times.
    __hash__ = str.__hash__

    @property
    def is_terminal(self) -> bool:
        """Has the execution ended?"""
        return self in TERMINAL_STATES


class States:
    """Each state by its name, for the rules: reading a member from an enum's class takes five times as long, and the
    life of one execution reads some thirty."""

    CREATED: Final = ExecutionState.CREATED
    PENDING: Final = ExecutionState.PENDING
    RUNNING: Final = ExecutionState.RUNNING
    PAUSED: Final = ExecutionState.PAUSED
    CANCELLING: Final = ExecutionState.CANCELLING
    COMPLETED: Final = ExecutionState.COMPLETED
    PARTIAL_SUCCESS: Final = ExecutionState.PARTIAL_SUCCESS
    FAILED: Final = ExecutionState.FAILED
    CANCELLED: Final = ExecutionState.CANCELLED


TERMINAL_STATES = frozenset(
    {
        ExecutionState.COMPLETED,
        ExecutionState.PARTIAL_SUCCESS,
        ExecutionState.FAILED,
        ExecutionState.CANCELLED,
    }
)

STATE_BY_WORD = {state.value: state for state in ExecutionState}
"""Every state by its word: a look-up takes a tenth of the time that calling the class takes."""

HELD_STATES = frozenset({ExecutionState.RUNNING, ExecutionState.CANCELLING})
"""States in which a worker always holds the lease. (A PAUSED execution may be held, or not.)"""


class ExecutionStateTransitionValidator:
    """Knows which state may follow which. Nothing else in the project does."""

    VALID_TRANSITIONS: ClassVar[dict[ExecutionState, frozenset[ExecutionState]]] = {
        ExecutionState.CREATED: frozenset({ExecutionState.PENDING, ExecutionState.CANCELLED}),
        ExecutionState.PENDING: frozenset(
            {ExecutionState.RUNNING, ExecutionState.PAUSED, ExecutionState.CANCELLED, ExecutionState.FAILED}
        ),
        ExecutionState.RUNNING: frozenset(
            {
                ExecutionState.COMPLETED,
                ExecutionState.PARTIAL_SUCCESS,
                ExecutionState.FAILED,
                ExecutionState.CANCELLING,
                ExecutionState.PAUSED,
                ExecutionState.PENDING,
            }
        ),
        ExecutionState.PAUSED: frozenset(
            {
                ExecutionState.PENDING,
                ExecutionState.RUNNING,
                ExecutionState.CANCELLING,
                ExecutionState.CANCELLED,
                ExecutionState.FAILED,
            }
        ),
        ExecutionState.CANCELLING: frozenset(
            {
                ExecutionState.CANCELLED,
                ExecutionState.COMPLETED,
                ExecutionState.PARTIAL_SUCCESS,
                ExecutionState.FAILED,
            }
        ),
        ExecutionState.COMPLETED: frozenset(),
        ExecutionState.PARTIAL_SUCCESS: frozenset(),
        ExecutionState.FAILED: frozenset({ExecutionState.PENDING}),
        ExecutionState.CANCELLED: frozenset({ExecutionState.PENDING}),
    }

    def is_valid(self, current: ExecutionState, target: ExecutionState) -> bool:
        """May `target` follow `current`?"""
        return target in self.VALID_TRANSITIONS[current]
