"""Submitting, reading and deleting executions."""

from __future__ import annotations

from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from execution.api.answers import execution_answer, json_answer
from execution.api.caller import OwnService
from execution.api.documented_answers import CREATED, DELETED, LISTED, READ
from execution.api.door import OwnDoor
from execution.api.errors import VersionNotReachedError
from execution.api.idempotency import IdempotentRoute, OwnKey
from execution.api.made_at_once import made_at_once
from execution.api.models import ExecutionDocument, ExecutionList, HistoryPage
from execution.api.paging import DEFAULT_LIMIT, MAX_LIMIT, Filters, Window, link_to_next, list_answer, next_url
from execution.api.preconditions import IfNoneMatch, OwnIfMatch
from execution.api.preferences import WaitSeconds
from execution.api.trace_context import TracedSubmission
from execution.api.values import ONE, VERSION_LIMIT, Moment, Version
from execution.api.waiting_for_an_end import waited_for
from execution.domain.execution import Execution
from execution.errors import VersionConflict
from execution.presentation import Shown, etag, location
from execution.request_errors import InvalidFieldsError
from execution.service import ExecutionService

router = APIRouter(prefix="/v1/executions", tags=["executions"], route_class=IdempotentRoute)

AtVersion = Annotated[Version | None, Query(description="The execution as it was at this version.")]
AtMoment = Annotated[Moment | None, Query(description="The execution as it was at this time.")]


@router.post("", status_code=202, response_model=ExecutionDocument, operation_id="create_execution", responses=CREATED)
async def create_execution(
    submission: TracedSubmission, service: OwnService, door: OwnDoor, key: OwnKey, wait: WaitSeconds
) -> Response:
    """Submit an execution; it waits for a worker at once unless `start` is false."""
    # What those are answered who wait is not known yet when the submission is committed: until then it is this.
    answer = key.answered_by(_accepted, is_provisional=bool(wait))
    execution = await service.submit(submission, command_id=key.command_id, answer=answer)
    if not wait:
        return _accepted(execution)
    execution = await waited_for(execution, wait, service, door)
    status = HTTPStatus.OK if execution.is_terminal else HTTPStatus.ACCEPTED
    return execution_answer(
        execution, status, {"Location": location(execution.id), "Preference-Applied": f"wait={wait}"}
    )


@router.get("", response_model=ExecutionList, operation_id="list_executions", responses=LISTED)
async def list_executions(
    request: Request,
    service: OwnService,
    filters: Annotated[Filters, made_at_once(Filters)],
    window: Annotated[Window, made_at_once(Window)],
) -> Response:
    """Executions, newest first, without parameters and results: by cursor, or by page number with a total."""
    return await list_answer(request, service, filters, window)


@router.get(ONE, response_model=ExecutionDocument, operation_id="get_execution", responses=READ)
async def get_execution(
    execution_id: UUID,
    service: OwnService,
    if_none_match: IfNoneMatch,
    at_version: AtVersion = None,
    at: AtMoment = None,
) -> Response:
    """The execution as it is now, or as it was: then it is folded from its log up to there."""
    execution = await _read(service, execution_id, at_version, at)
    if if_none_match is not None and if_none_match.match_weakly(execution.version):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag(execution)})
    return execution_answer(execution)


@router.get(f"{ONE}/history", response_model=HistoryPage, operation_id="get_history", responses=LISTED)
async def get_history(
    request: Request,
    execution_id: UUID,
    service: OwnService,
    after_version: Annotated[int, Query(ge=0, le=VERSION_LIMIT, description="Entries after this one.")] = 0,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Entries at most.")] = DEFAULT_LIMIT,
) -> Response:
    """The execution's log: every change of it, in order."""
    found = await service.history(execution_id, after_version=after_version, limit=limit + 1)
    items = [one.to_json() for one in found[:limit]]
    if len(found) <= limit:
        return json_answer({"items": items, "next": None})
    following = next_url(request, {"after_version": str(found[limit - 1].version), "limit": str(limit)})
    return json_answer({"items": items, "next": following}, headers=link_to_next(following))


@router.delete(ONE, status_code=204, operation_id="delete_execution", responses=DELETED)
async def delete_execution(execution_id: UUID, service: OwnService, if_match: OwnIfMatch) -> None:
    """Delete an ended execution and its log."""
    version = await if_match.version(service, execution_id)
    with if_match.deciding(execution_id):
        await service.delete_execution(execution_id, expected_version=version)


def _accepted(execution: Execution) -> Response:
    return execution_answer(execution, HTTPStatus.ACCEPTED, {"Location": location(execution.id)})


async def _read(service: ExecutionService, execution_id: UUID, version: int | None, moment: datetime | None) -> Shown:
    if version is not None and moment is not None:
        message = "Only one of at_version and at can say when"
        raise InvalidFieldsError([{"in": "query", "pointer": "#/at", "message": message}])
    if moment is not None:
        return await service.get_execution_as_of(execution_id, moment)
    if version is None:
        return await service.stored.get_execution(execution_id)
    try:
        return await service.get_execution_at(execution_id, version)
    except VersionConflict:
        raise VersionNotReachedError(execution_id, version) from None
