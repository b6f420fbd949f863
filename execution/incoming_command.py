"""A command over Kafka, checked completely: the same models, bounds and errors as those of the request over HTTP."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from pydantic import BaseModel, ValidationError

from events.command_envelope import COMMANDS, PREFIX, CommandEnvelope
from execution.command_errors import MalformedCommandError, UnknownCommandError
from execution.command_models import CommandBody, CommandRequest, ProgressRequest, ResultRequest
from execution.document_bounds import DocumentBounds
from execution.domain.execution import Execution
from execution.errors import VersionConflict
from execution.idempotency import fingerprint_of
from execution.presentation import location
from execution.problems import invalid_field
from execution.request_errors import (
    InvalidFieldsError,
    MalformedRequestError,
    PreconditionFailedError,
    RequestTooLargeError,
)
from execution.service import ExecutionService
from execution.submission import Submission

CREATE = "create"
COMMAND_MODELS: Mapping[str, type[BaseModel]] = {
    CREATE: Submission,
    "start": CommandRequest,
    "cancel": CommandRequest,
    "pause": CommandRequest,
    "resume": CommandRequest,
    "retry": CommandRequest,
    "report_progress": ProgressRequest,
    "submit_result": ResultRequest,
}
"""The model of each command's data."""

_METHODS: Mapping[str, Callable[..., Awaitable[Execution]]] = {
    "start": ExecutionService.start_execution,
    "cancel": ExecutionService.cancel_execution,
    "pause": ExecutionService.pause_execution,
    "resume": ExecutionService.resume_execution,
    "retry": ExecutionService.retry_execution,
    "report_progress": ExecutionService.report_progress,
    "submit_result": ExecutionService.submit_result,
}
_PATHS = {"report_progress": "progress", "submit_result": "result"}
_BOUNDS = DocumentBounds()
assert tuple(COMMAND_MODELS) == COMMANDS


@dataclass(frozen=True, kw_only=True)
class IncomingCommand:
    """What is to be done, by the facade's method that the same request over HTTP is done by."""

    name: str
    execution_id: UUID | None
    submission: Submission | None
    body: CommandBody | None
    expected_version: int | None
    path: str
    """Of the same request over HTTP."""
    fingerprint: bytes
    """Its fingerprint: one id means one request, through whichever door."""

    @classmethod
    def of(cls, envelope: CommandEnvelope, *, limit: int) -> Self:
        """The command of an envelope.

        Raises:
            UnknownCommandError, MalformedCommandError: of its head.
            RequestTooLargeError, MalformedRequestError, DocumentTooComplexError, InvalidFieldsError: of its data.
        """
        if len(envelope.data) > limit:
            raise RequestTooLargeError(limit)
        path = path_of(envelope)
        data = _validated(COMMAND_MODELS[envelope.name], envelope.data)
        submission = data.traced_by(envelope.traceparent) if isinstance(data, Submission) else None
        if submission is not None and envelope.subject not in {None, submission.id}:
            raise MalformedCommandError("its subject is another id than the one in its data")
        if_match = "" if envelope.expected_version is None else f'"{envelope.expected_version}"'
        return cls(
            name=envelope.name,
            execution_id=envelope.subject,
            submission=submission,
            body=None if isinstance(data, Submission) else data,
            expected_version=envelope.expected_version,
            path=path,
            fingerprint=fingerprint_of("POST", path, if_match=if_match, body=envelope.data),
        )

    async def carry_out(self, service: ExecutionService, **options: Any) -> Execution:
        """Do it; the execution after it. Errors are those of the facade, and PreconditionFailedError."""
        if self.submission is not None:
            return await service.submit(self.submission, **options)
        assert self.execution_id is not None
        arguments = {} if self.body is None else self.body.arguments()
        try:
            return await _METHODS[self.name](
                service, self.execution_id, **arguments, expected_version=self.expected_version, **options
            )
        except VersionConflict:
            if self.expected_version is None:
                raise
            raise PreconditionFailedError(self.execution_id) from None


def path_of(envelope: CommandEnvelope) -> str:
    """Where the same request over HTTP would go.

    Raises:
        UnknownCommandError, MalformedCommandError: nowhere.
    """
    if envelope.name not in COMMAND_MODELS or not envelope.type.startswith(PREFIX):
        raise UnknownCommandError(envelope.type, (f"{PREFIX}{name}" for name in COMMANDS))
    if envelope.name == CREATE:
        if envelope.expected_version is not None:
            raise MalformedCommandError("a new execution has no version to expect")
        return "/v1/executions"
    if envelope.subject is None:
        raise MalformedCommandError("it has no subject, which is the execution's id")
    return f"{location(envelope.subject)}/{_PATHS.get(envelope.name, envelope.name)}"


def _validated(model: type[BaseModel], data: bytes) -> Any:
    """The data as its model; None where there is none and none is needed."""
    if not data.strip():
        if model is CommandRequest:
            return None
        raise InvalidFieldsError([{"in": "body", "pointer": "#", "message": "Field required"}])
    _BOUNDS.check(data)
    try:
        document = json.loads(data.decode())  # the parser of the HTTP door, so that both take the same
    except ValueError as error:
        raise MalformedRequestError("The data", f"it is not JSON ({type(error).__name__})") from None
    if document is None and model is CommandRequest:
        return None
    try:
        return model.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        raise InvalidFieldsError([invalid_field(one | {"loc": ("body", *one["loc"])}) for one in problems]) from None
