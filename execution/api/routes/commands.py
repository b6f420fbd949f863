"""Commands on an execution. Each may name the version it was decided on, and is answered with what came of it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Response

from execution.api.answers import execution_answer
from execution.api.caller import OwnService
from execution.api.documented_answers import COMMANDED
from execution.api.idempotency import IdempotentRoute, OwnKey
from execution.api.made_at_once import made_at_once
from execution.api.models import ExecutionDocument
from execution.api.preconditions import OwnIfMatch
from execution.api.values import ONE
from execution.command_models import CommandBody, CommandRequest, ProgressRequest, ResultRequest
from execution.domain.execution import Execution

router = APIRouter(prefix=f"/v1/executions{ONE}", tags=["commands"], route_class=IdempotentRoute)

_Command = Callable[..., Coroutine[Any, Any, Execution]]


class Commanded:
    """The execution of the path, with what the request says about every command."""

    def __init__(self, execution_id: UUID, service: OwnService, if_match: OwnIfMatch, key: OwnKey) -> None:
        self.service = service
        self._execution_id = execution_id
        self._if_match = if_match
        self._key = key

    async def answer(self, command: _Command, body: CommandBody | None) -> Response:
        """Carry the command out; the answer is the execution after it."""
        version = await self._if_match.version(self.service, self._execution_id)
        with self._if_match.deciding(self._execution_id):
            execution = await command(
                self._execution_id,
                **({} if body is None else body.arguments()),
                expected_version=version,
                command_id=self._key.command_id,
                answer=self._key.answered_by(execution_answer),
            )
        return execution_answer(execution)


OwnExecution = Annotated[Commanded, made_at_once(Commanded)]
Body = CommandRequest | None
_command = partial(router.post, response_model=ExecutionDocument, responses=COMMANDED)


@_command("/start", operation_id="start_execution")
async def start_execution(execution: OwnExecution, body: Body = None) -> Response:
    """Let a CREATED execution wait for a worker."""
    return await execution.answer(execution.service.start_execution, body)


@_command("/cancel", operation_id="cancel_execution")
async def cancel_execution(execution: OwnExecution, body: Body = None) -> Response:
    """Stop it: at once where no handler runs; a running one is CANCELLING until its handler ends."""
    return await execution.answer(execution.service.cancel_execution, body)


@_command("/pause", operation_id="pause_execution")
async def pause_execution(execution: OwnExecution, body: Body = None) -> Response:
    """Hold it back: a waiting one at once, a running one at its handler's next pause point."""
    return await execution.answer(execution.service.pause_execution, body)


@_command("/resume", operation_id="resume_execution")
async def resume_execution(execution: OwnExecution, body: Body = None) -> Response:
    """Let a paused one go on, or withdraw a pause that has not happened yet."""
    return await execution.answer(execution.service.resume_execution, body)


@_command("/retry", operation_id="retry_execution")
async def retry_execution(execution: OwnExecution, body: Body = None) -> Response:
    """Try a FAILED or CANCELLED one once more, as a new attempt."""
    return await execution.answer(execution.service.retry_execution, body)


@_command("/progress", operation_id="report_progress")
async def report_progress(execution: OwnExecution, body: ProgressRequest) -> Response:
    """Record how far a RUNNING one is, from outside."""
    return await execution.answer(execution.service.report_progress, body)


@_command("/result", operation_id="submit_result")
async def submit_result(execution: OwnExecution, body: ResultRequest) -> Response:
    """End a running one from outside. A worker that runs it loses its lease."""
    return await execution.answer(execution.service.submit_result, body)
