"""What the exit codes mean, and which one an error leads to."""

from __future__ import annotations

from enum import IntEnum

from execution.access_errors import ApiKeyNotFoundError
from execution.domain.state import ExecutionState
from execution.errors import (
    AgentNotFoundError,
    ConflictError,
    DatabaseError,
    EmbeddedPostgresError,
    ExecutionNotFoundError,
    ExecutionServiceError,
    InvalidRequestError,
    OverloadedError,
    SettingsError,
    WaitTimeoutError,
)


class ExitCode(IntEnum):
    """How a command ended, for scripts."""

    OK = 0
    UNEXPECTED = 1
    INVALID = 2
    NOT_FOUND = 3
    REFUSED = 4
    EXECUTION_FAILED = 5
    TIMEOUT = 6
    DATABASE = 7


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.UNEXPECTED: "an unexpected error; a check of `demo`, `doctor` or `verify` did not hold",
    ExitCode.INVALID: "wrong usage, wrong settings, or a request that cannot be accepted",
    ExitCode.NOT_FOUND: "no such execution or API key",
    ExitCode.REFUSED: "refused: the state does not allow it, it is at another version, or too much waits already",
    ExitCode.EXECUTION_FAILED: "the execution that was waited for or watched ended FAILED or CANCELLED",
    ExitCode.TIMEOUT: "it has not ended in the time given; it goes on",
    ExitCode.DATABASE: "the database cannot be reached, or its schema is missing or of another release",
}

_CODES: tuple[tuple[type[ExecutionServiceError], ExitCode], ...] = (
    (InvalidRequestError, ExitCode.INVALID),
    (SettingsError, ExitCode.INVALID),
    (ExecutionNotFoundError, ExitCode.NOT_FOUND),
    (AgentNotFoundError, ExitCode.NOT_FOUND),
    (ApiKeyNotFoundError, ExitCode.NOT_FOUND),
    (ConflictError, ExitCode.REFUSED),
    (OverloadedError, ExitCode.REFUSED),
    (WaitTimeoutError, ExitCode.TIMEOUT),
    (DatabaseError, ExitCode.DATABASE),
    (EmbeddedPostgresError, ExitCode.DATABASE),
)

_FAILURES = frozenset({ExecutionState.FAILED, ExecutionState.CANCELLED})


def exit_code_of(error: ExecutionServiceError) -> ExitCode:
    """The exit code of a command that ended with this error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.UNEXPECTED)


def exit_code_for(state: ExecutionState) -> ExitCode:
    """The exit code of a command that saw an execution end in this state."""
    return ExitCode.EXECUTION_FAILED if state in _FAILURES else ExitCode.OK
