"""Why a command over Kafka is none, a continuation of the tree in `execution.errors`. Each makes a dead letter of it.

ExecutionServiceError
├── InvalidRequestError
│   ├── MalformedCommandError           its head is not that of a command
│   ├── UnknownCommandError             nothing of that type can be commanded
│   └── StaleCommandError               too old for its repetitions to be told apart
└── UnauthenticatedError
    └── UntrustedCommandError           nobody knows who sends it
"""

from __future__ import annotations

from collections.abc import Iterable

from execution.access_errors import UnauthenticatedError
from execution.errors import InvalidRequestError


class MalformedCommandError(InvalidRequestError):
    """The record's head is not that of a command."""

    code = "malformed_command"
    status = 400

    def __init__(self, problem: str) -> None:
        super().__init__(f"The command cannot be read: {problem}. docs/events.md says what one looks like.")


class UnknownCommandError(InvalidRequestError):
    """No command of that type."""

    code = "unknown_command"
    status = 404

    def __init__(self, command_type: str, known: Iterable[str]) -> None:
        super().__init__(f"There is no command {command_type[:200]!r}. There are {', '.join(known)}.")


class StaleCommandError(InvalidRequestError):
    """The command was sent longer ago than the ids of commands are remembered, or in the future."""

    code = "stale_command"
    status = 410

    def __init__(self, hours: float) -> None:
        super().__init__(
            f"The command's time is more than {hours:g} h ago, or in the future, so whether it was carried out before "
            "cannot be told. Look at the execution, and send a new command."
        )


class UntrustedCommandError(UnauthenticatedError):
    """The command is not known to be of anybody who may send one; the message repeats nothing secret."""

    code = "untrusted_command"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The command is not accepted: {problem}. docs/events.md says how to sign one.")
