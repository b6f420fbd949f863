"""The problems that clients may meet: an example of each, and which operation may end in which."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from uuid import UUID

from execution.access_errors import (
    ApiKeyMissingError,
    IdempotencyKeyInProgressError,
    IdempotencyKeyReusedError,
    InsufficientScopeError,
    InvalidApiKeyError,
    InvalidIdempotencyKeyError,
    RateLimitedError,
)
from execution.api.errors import (
    HeadTooLargeError,
    MethodNotAllowedError,
    PreconditionRequiredError,
    RequestIncompleteError,
    RequestTimeoutError,
    RouteNotFoundError,
    UnsupportedMediaTypeError,
    VersionNotReachedError,
)
from execution.domain.execution import JsonObject
from execution.errors import (
    DatabaseError,
    DatabaseUnavailableError,
    DocumentTooLargeError,
    DuplicateExecutionError,
    EventsNotPublishedError,
    ExecutionNotFoundError,
    ExecutionNotYetCreatedError,
    ExecutionServiceError,
    InvalidDocumentError,
    InvalidExecutionStateError,
    InvalidFilterError,
    InvalidPositionError,
    OutcomeUnknownError,
    OverloadedError,
    SchemaMismatchError,
    ServiceClosedError,
    UnknownKindError,
    VersionConflict,
)
from execution.request_errors import (
    DocumentTooComplexError,
    InvalidFieldsError,
    MalformedRequestError,
    PreconditionFailedError,
    RequestTooLargeError,
)
from execution.steps.errors import EvidenceNotReadyError, NotAStepJobError

Errors = tuple[type[ExecutionServiceError], ...]

_ID = UUID("01890000-0000-7000-8000-000000000001")
_THEN, _LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)

EXAMPLES: Mapping[type[ExecutionServiceError], ExecutionServiceError] = {
    type(one): one
    for one in (
        MalformedRequestError("If-Match", 'it must be * or quoted entity tags, such as "7"'),
        InvalidPositionError("nonsense", "an id of the stream"),
        InvalidIdempotencyKeyError("it has 300 characters"),
        ApiKeyMissingError(),
        InvalidApiKeyError("it is unknown"),
        InsufficientScopeError("write", ["read"]),
        ExecutionNotFoundError(_ID),
        ExecutionNotYetCreatedError(_ID, _THEN, _LATER),
        VersionNotReachedError(_ID, 7),
        RouteNotFoundError("/v1/nothing"),
        MethodNotAllowedError("PUT", "/v1/executions"),
        RequestIncompleteError(30),
        InvalidExecutionStateError(_ID, "start", state="PENDING", version=2, allowed=("cancel", "pause")),
        VersionConflict(_ID, 2),
        DuplicateExecutionError(_ID),
        EventsNotPublishedError(_ID, ["execution.events.v1"]),
        IdempotencyKeyInProgressError("8e03978e-40d5-43e8-bc93-6894a57f9324", 1),
        NotAStepJobError(_ID, "noop"),
        EvidenceNotReadyError(_ID, "RUNNING"),
        PreconditionFailedError(_ID),
        RequestTooLargeError(294_912),
        DocumentTooLargeError("parameters", 300_000, 262_144),
        UnsupportedMediaTypeError("text/plain"),
        InvalidFieldsError([{"in": "body", "pointer": "#/priority", "message": "Input should be a valid integer"}]),
        UnknownKindError("text.analyse", ["noop", "text.analyze"]),
        InvalidDocumentError("parameters", "a text contains the NUL character"),
        InvalidFilterError("created_after", "0001-01-01T00:00:00+14:00", "a time within the years 1 to 9999"),
        IdempotencyKeyReusedError("8e03978e-40d5-43e8-bc93-6894a57f9324"),
        DocumentTooComplexError("levels", 65, 64),
        PreconditionRequiredError(),
        RateLimitedError("requests with this key", 1),
        HeadTooLargeError(32_768),
        ExecutionServiceError(),
        DatabaseError("Statement 'get_execution'", "it was refused"),
        OverloadedError("5,000 submissions wait to be recorded"),
        RequestTimeoutError(30),
        DatabaseUnavailableError("Statement 'get_execution'", "the connection was refused"),
        OutcomeUnknownError("Recording"),
        SchemaMismatchError("0001", "0003", "Run: execution migrate."),
        ServiceClosedError("The service"),
    )
}
"""One of each that may be an answer."""

_ANY: Errors = (HeadTooLargeError, ExecutionServiceError)
_GUARDED: Errors = (
    *(ApiKeyMissingError, InvalidApiKeyError, InsufficientScopeError, RateLimitedError, InvalidFieldsError),
    *(DatabaseError, DatabaseUnavailableError, SchemaMismatchError, ServiceClosedError),
    *(OverloadedError, RequestTimeoutError),
)
_WITH_BODY: Errors = (
    *(MalformedRequestError, RequestIncompleteError, RequestTooLargeError, UnsupportedMediaTypeError),
    DocumentTooComplexError,
)
_CHANGING: Errors = (OutcomeUnknownError,)
_IN_HEADERS: Mapping[str, Errors] = {
    "If-Match": (MalformedRequestError, PreconditionFailedError, PreconditionRequiredError, VersionConflict),
    "If-None-Match": (MalformedRequestError,),
    "Idempotency-Key": (InvalidIdempotencyKeyError, IdempotencyKeyInProgressError, IdempotencyKeyReusedError),
}
_SUBMISSION: Errors = (UnknownKindError, InvalidDocumentError, DocumentTooLargeError)
_COMMAND: Errors = (InvalidExecutionStateError,)
_OF_OPERATION: Mapping[str, Errors] = {
    "create_execution": (*_SUBMISSION, DuplicateExecutionError),
    "create_step_job": (*_SUBMISSION, DuplicateExecutionError),
    "get_step_job": (NotAStepJobError,),
    "get_evidence": (NotAStepJobError, EvidenceNotReadyError),
    "cancel_executions": (InvalidFilterError,),
    "stream_execution": (InvalidPositionError,),
    "stream_events": (InvalidPositionError, InvalidFilterError),
    "list_executions": (InvalidFilterError,),
    "get_execution": (VersionNotReachedError, ExecutionNotYetCreatedError, InvalidFilterError),
    "delete_execution": (*_COMMAND, EventsNotPublishedError),
    "start_execution": _COMMAND,
    "cancel_execution": _COMMAND,
    "pause_execution": _COMMAND,
    "resume_execution": _COMMAND,
    "retry_execution": _COMMAND,
    "report_progress": (*_COMMAND, InvalidDocumentError, DocumentTooLargeError),
    "submit_result": (*_COMMAND, InvalidDocumentError, DocumentTooLargeError),
}


def problems_of(method: str, operation: JsonObject) -> dict[int, list[ExecutionServiceError]]:
    """The problems an operation of the OpenAPI document may end in, by status, in the order of the examples."""
    possible = set(_possible(method, operation))
    by_status: dict[int, list[ExecutionServiceError]] = defaultdict(list)
    for kind, example in EXAMPLES.items():
        if kind in possible:
            by_status[example.status].append(example)
    return by_status


def _possible(method: str, operation: JsonObject) -> Iterator[type[ExecutionServiceError]]:
    yield from _ANY
    if operation.get("security"):
        yield from _GUARDED
        if method != "get":
            yield from _CHANGING
    if "requestBody" in operation:
        yield from _WITH_BODY
    for one in operation.get("parameters", ()):
        if one["in"] == "path":
            yield ExecutionNotFoundError
        elif one["in"] == "header":
            yield from _IN_HEADERS.get(one["name"], ())
    yield from _OF_OPERATION.get(operation["operationId"], ())
