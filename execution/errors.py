"""Every error this service raises on purpose.

    ExecutionServiceError
    ├── InvalidRequestError                 the caller can mend it
    │   ├── UnknownKindError
    │   ├── InvalidDocumentError            not JSON, or not what the handler accepts
    │   ├── DocumentTooLargeError
    │   ├── InvalidProgressError
    │   ├── InvalidFilterError
    │   └── InvalidPositionError            a stream cannot go on from there
    ├── ExecutionNotFoundError
    │   └── ExecutionNotYetCreatedError     at the time that was asked for
    ├── AgentNotFoundError
    ├── ConflictError                       somebody else was first
    │   ├── InvalidExecutionStateError      the state machine refuses
    │   ├── VersionConflict
    │   ├── LeaseLost                       the writer no longer holds the execution
    │   ├── EventsNotPublishedError         a relay is behind what is to be deleted
    │   └── DuplicateExecutionError
    ├── ModelOrchestrationError
    ├── DatabaseError
    │   ├── DatabaseUnavailableError
    │   ├── OutcomeUnknownError             the connection broke around a commit
    │   └── SchemaMismatchError
    ├── OverloadedError
    ├── TooManyFactsError                   more than can wait to be written
    ├── WaitTimeoutError
    ├── ServiceClosedError
    ├── SettingsError
    └── EmbeddedPostgresError

Each class takes facts and writes its own message, which says what to do. `code` is stable, `status` is the HTTP status
the API answers with, `retriable` says whether the same call may succeed later, and `facts` names the attributes that
tell programs what the message tells people.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import ClassVar
from uuid import UUID


class ExecutionServiceError(Exception):
    """Root of everything raised on purpose."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retriable: ClassVar[bool] = False
    facts: ClassVar[tuple[str, ...]] = ()


class InvalidRequestError(ExecutionServiceError):
    """The request cannot be accepted as it is."""

    code = "invalid_request"
    status = 422


class UnknownKindError(InvalidRequestError):
    """No handler of that kind is registered here or offered by a worker."""

    code = "unknown_kind"
    facts = ("kind", "known")

    def __init__(self, kind: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.known = sorted(known)
        super().__init__(
            f"No handler is registered for kind {kind!r}. Known kinds: {', '.join(self.known) or 'none'}. "
            "Name the module that registers it in EXECUTION_HANDLERS, or start a worker that offers it."
        )


class InvalidDocumentError(InvalidRequestError):
    """A value that must be a JSON document is not one, or not one the handler accepts."""

    code = "invalid_document"

    def __init__(self, what: str, problem: str) -> None:
        self.what, self.problem = what, problem
        super().__init__(f"{what} cannot be accepted: {problem}.")


class DocumentTooLargeError(InvalidRequestError):
    """A JSON document exceeds the inline bound (`EXECUTION_INLINE_LIMIT_BYTES`)."""

    code = "document_too_large"
    status = 413
    facts = ("size", "limit")

    def __init__(self, what: str, size: int, limit: int) -> None:
        self.what, self.size, self.limit = what, size, limit
        super().__init__(
            f"{what} has {size:,} bytes as JSON; at most {limit:,} are kept inline. "
            "Store the content elsewhere and pass its location and digest."
        )


class InvalidProgressError(InvalidRequestError):
    """A progress report outside 0..100, or one that goes backwards."""

    code = "invalid_progress"

    def __init__(self, percentage: object, problem: str) -> None:
        super().__init__(f"Progress {percentage!r} is refused: {problem}.")


class InvalidFilterError(InvalidRequestError):
    """A list filter or a page that does not exist."""

    code = "invalid_filter"

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"Filter {name}={value!r} is not understood; expected {expected}.")


class InvalidPositionError(InvalidRequestError):
    """A position in a log that a stream cannot go on from."""

    code = "invalid_position"
    status = 400

    def __init__(self, position: object, expected: str) -> None:
        super().__init__(
            f"A stream cannot go on from {_shortened(position)}; expected {expected}. "
            "Leave it out to begin anew, and read what was missed from the histories."
        )


class ExecutionNotFoundError(ExecutionServiceError):
    """No such execution for this tenant."""

    code = "execution_not_found"
    status = 404

    def __init__(self, execution_id: UUID) -> None:
        self.execution_id = execution_id
        super().__init__(self._message())

    def _message(self) -> str:
        return f"Execution {self.execution_id} does not exist. Check the id, or list executions to find it."


class ExecutionNotYetCreatedError(ExecutionNotFoundError):
    """The execution exists, but did not at the time the caller asked for."""

    code = "execution_not_yet_created"

    def __init__(self, execution_id: UUID, moment: datetime, created_at: datetime) -> None:
        self.moment, self.created_at = moment, created_at
        super().__init__(execution_id)

    def _message(self) -> str:
        created_at, moment = self.created_at.isoformat(), self.moment.isoformat()
        return (
            f"Execution {self.execution_id} did not exist at {moment}. It was created at {created_at}; ask for later."
        )


class AgentNotFoundError(ExecutionServiceError):
    """The agent an execution names is not in the agent directory."""

    code = "agent_not_found"
    status = 404

    def __init__(self, agent_id: str | None) -> None:
        self.agent_id = agent_id
        what = "No agent is named" if agent_id is None else f"Agent {agent_id!r} is not registered"
        super().__init__(f"{what}. Register one, or submit with the agent_id of one that is registered.")


class ConflictError(ExecutionServiceError):
    """The request was fine, but the execution is not where the caller thinks it is."""

    code = "conflict"
    status = 409


class InvalidExecutionStateError(ConflictError):
    """The state machine refuses the command in the current state."""

    code = "invalid_execution_state"
    facts = ("state", "version", "allowed")

    def __init__(
        self,
        execution_id: UUID,
        command: str,
        *,
        state: str,
        version: int,
        allowed: Iterable[str] = (),
        why: str = "",
    ) -> None:
        self.execution_id, self.command, self.state, self.version = execution_id, command, state, version
        self.allowed = sorted(allowed)
        super().__init__(
            f"Execution {execution_id} is {state} (version {version}) and refuses {command!r}"
            f"{': ' + why if why else ''}. Allowed now: {', '.join(self.allowed) or 'nothing'}."
        )


class VersionConflict(ConflictError):  # noqa: N818 - the field's standard term
    """The execution changed since the version the caller expected."""

    code = "version_conflict"
    retriable = True

    def __init__(self, execution_id: UUID, expected_version: int) -> None:
        self.execution_id, self.expected_version = execution_id, expected_version
        super().__init__(
            f"Execution {execution_id} is no longer at version {expected_version}. Read it again and decide anew."
        )


class LeaseLost(ConflictError):  # noqa: N818 - the field's standard term
    """The writer's lease epoch is not the execution's: somebody else holds it now."""

    code = "lease_lost"

    def __init__(self, execution_id: UUID, lease_epoch: int) -> None:
        self.execution_id, self.lease_epoch = execution_id, lease_epoch
        super().__init__(
            f"Execution {execution_id} is no longer held under lease epoch {lease_epoch}; stop working on it."
        )


class EventsNotPublishedError(ConflictError):
    """An ended execution cannot be deleted yet: a relay has still to publish events of it."""

    code = "events_not_published"
    retriable = True
    retry_after = 1.0
    facts = ("cursors",)

    def __init__(self, execution_id: UUID, cursors: Iterable[str]) -> None:
        self.execution_id, self.cursors = execution_id, sorted(cursors)
        super().__init__(
            f"Events of execution {execution_id} have not been published yet (relay: {', '.join(self.cursors)}). "
            "Delete it a little later; if no such relay runs any more, start it, or remove its row of relay_cursors."
        )


class DuplicateExecutionError(ConflictError):
    """The id is taken. Whose it is the error does not say: ids are unique in the service, not in a tenant."""

    code = "duplicate_execution"

    def __init__(self, execution_id: UUID) -> None:
        self.execution_id = execution_id
        super().__init__(
            f"The id {execution_id} is taken. Submit without an id to get a new one; if it is yours, read it."
        )


class ModelOrchestrationError(ExecutionServiceError):
    """The model service did not answer in time, or answered with an error."""

    code = "model_orchestration"
    status = 502
    retriable = True

    def __init__(self, execution_id: UUID | None, problem: str) -> None:
        self.execution_id = execution_id
        of = f" for execution {execution_id}" if execution_id else ""
        super().__init__(f"The model service failed{of}: {problem}.")


class DatabaseError(ExecutionServiceError):
    """PostgreSQL refused a statement; nothing of it was applied."""

    code = "database"

    def __init__(self, what: str, problem: str) -> None:
        super().__init__(f"{what} failed: {problem}.")


class DatabaseUnavailableError(DatabaseError):
    """PostgreSQL cannot be reached; nothing was applied."""

    code = "database_unavailable"
    status = 503
    retriable = True


class OutcomeUnknownError(DatabaseError):
    """The connection broke around a commit and could not be restored to look."""

    code = "outcome_unknown"
    status = 503
    retriable = True

    def __init__(self, what: str, command_id: UUID | None = None) -> None:
        self.command_id = command_id  # of what may have been written
        super().__init__(
            what,
            "the connection broke around the commit, so it may have been applied. "
            "Repeat it under the same command id, or read before repeating",
        )


class SchemaMismatchError(DatabaseError):
    """The tables are missing, older or newer than this release."""

    code = "schema_mismatch"
    status = 503

    def __init__(self, found: str | None, expected: str, advice: str) -> None:
        self.found, self.expected = found, expected
        super().__init__("The schema check", f"found {found or 'no schema'}, expected revision {expected}. {advice}")


class OverloadedError(ExecutionServiceError):
    """More is submitted than can be done; nothing of this submission was recorded."""

    code = "overloaded"
    status = 503
    retriable = True

    def __init__(self, problem: str) -> None:
        super().__init__(f"The service is overloaded: {problem}. Submit it again a little later.")


class TooManyFactsError(ExecutionServiceError):
    """A handler records facts faster than they can be written; this one was not taken."""

    code = "too_many_facts"
    status = 503
    retriable = True

    def __init__(self, execution_id: UUID, limit: int) -> None:
        self.execution_id = execution_id
        super().__init__(
            f"More than {limit:,} bytes of facts of execution {execution_id} wait to be written. "
            "Await `context.recorded()` now and then, or record less."
        )


class WaitTimeoutError(ExecutionServiceError):
    """The execution did not end in the time the caller was willing to wait."""

    code = "wait_timeout"
    status = 504
    retriable = True

    def __init__(self, execution_id: UUID, seconds: float) -> None:
        super().__init__(
            f"Execution {execution_id} has not ended after {seconds:g} s; it goes on. Wait longer or watch it."
        )


class ServiceClosedError(ExecutionServiceError):
    """The part was used before its start or after its stop."""

    code = "service_closed"
    status = 503

    def __init__(self, part: str) -> None:
        super().__init__(f"{part} is not running. Use it inside `async with open_service(...)`.")


class SettingsError(ExecutionServiceError):
    """Settings that cannot be used."""

    code = "settings"

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(problems)
        super().__init__("Settings cannot be used:\n" + "\n".join(f"  - {problem}" for problem in self.problems))


class EmbeddedPostgresError(ExecutionServiceError):
    """The embedded PostgreSQL could not be started, reached or stopped."""

    code = "embedded_postgres"
    status = 503

    def __init__(self, what: str, advice: str) -> None:
        super().__init__(f"Embedded PostgreSQL: {what}. {advice}")


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 50 else f"{text[:50]}…"
