"""Submitting and reading executions."""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter, Response

from execution.api.answers import execution_answer, location
from execution.api.caller import OwnService
from execution.api.idempotency import CommandId, IdempotentRoute
from execution.api.models import ExecutionDocument
from execution.submission import Submission

router = APIRouter(prefix="/v1/executions", tags=["executions"], route_class=IdempotentRoute)


@router.post("", status_code=202, response_model=ExecutionDocument, operation_id="create_execution")
async def create_execution(submission: Submission, service: OwnService, command_id: CommandId) -> Response:
    """Submit an execution; it waits for a worker at once unless `start` is false."""
    execution = await service.submit(submission, command_id=command_id)
    return execution_answer(execution, HTTPStatus.ACCEPTED, {"Location": location(execution.id)})


@router.get("/{execution_id}", response_model=ExecutionDocument, operation_id="get_execution")
async def get_execution(execution_id: UUID, service: OwnService) -> Response:
    """The execution as it is now."""
    return execution_answer(await service.get_execution(execution_id))
