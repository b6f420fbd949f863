"""Many executions in one request: each is answered for itself, and they share their commits.

The answer is always 207: a client that looks at the status alone must not take it for the success of every item.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from uuid import UUID

import orjson
from fastapi import APIRouter, Response
from pydantic import ValidationError

from execution.api.answers import UnfinishedAnswer
from execution.api.bulk_models import (
    BatchAnswer,
    BulkCancellationAnswer,
    BulkCancellationBody,
    SubmissionBatch,
)
from execution.api.caller import OwnService
from execution.api.documented_answers import EACH
from execution.api.idempotency import IdempotentRoute, OwnKey
from execution.bulk_answers import Answer, BulkCancellation
from execution.domain.execution import Execution
from execution.errors import ExecutionServiceError
from execution.presentation import Document, linked, listed_execution_document
from execution.problems import invalid_field, problem_document
from execution.request_errors import InvalidFieldsError
from execution.submission import Submission

router = APIRouter(prefix="/v1/executions", tags=["bulk"], route_class=IdempotentRoute)


@router.post("/batch", status_code=207, response_model=BatchAnswer, operation_id="create_executions", responses=EACH)
async def create_executions(batch: SubmissionBatch, service: OwnService, key: OwnKey) -> Response:
    """Submit up to 1,000 executions. Each is answered for itself, in order: a refusal does not touch the others.

    Where the service could take none of them, because of itself, its answer is that one problem. An item whose problem
    is `retriable` may be sent again; under the same `Idempotency-Key`, the whole request may.
    """
    submissions = [_read(index, one) for index, one in enumerate(batch.executions)]
    answer = key.answered_whole_by(_batch_answer)
    return _batch_answer(await service.create_executions(submissions, command_id=key.command_id, answer=answer))


@router.post(
    "/cancel", status_code=207, response_model=BulkCancellationAnswer, operation_id="cancel_executions", responses=EACH
)
async def cancel_executions(body: BulkCancellationBody, service: OwnService, key: OwnKey) -> Response:
    """Cancel what matches the filters and neither has ended nor is being cancelled, newest first, up to the limit."""
    outcome = await service.cancel_executions(
        body.filters.model_dump(exclude_none=True),
        reason=body.reason,
        limit=body.limit,
        command_id=key.command_id,
        answer=key.answered_whole_by(_cancellation_answer),
    )
    return _cancellation_answer(outcome)


def _batch_answer(answers: Sequence[Answer]) -> Response:
    refusals = [one for one in answers if isinstance(one, ExecutionServiceError)]
    if len(refusals) == len(answers) and all(one.status >= HTTPStatus.INTERNAL_SERVER_ERROR for one in refusals):
        raise refusals[0]
    items = [_item(_id_of(one), one, HTTPStatus.ACCEPTED) for one in answers]
    document = {"accepted": len(answers) - len(refusals), "refused": len(refusals), "items": items}
    return _multi_status(document, refusals)


def _cancellation_answer(outcome: BulkCancellation) -> Response:
    refusals = [one for _, one in outcome.answers if isinstance(one, ExecutionServiceError)]
    document = {
        "cancelled": len(outcome.answers) - len(refusals),
        "refused": len(refusals),
        "more": outcome.more,
        "items": [_item(*one, HTTPStatus.OK) for one in outcome.answers],
    }
    return _multi_status(document, refusals)


def _read(index: int, item: Submission | ValidationError) -> Submission | InvalidFieldsError:
    """The submission; or the answer to what is none, which says where in the request it is wrong."""
    if isinstance(item, Submission):
        return item
    errors = item.errors(include_url=False, include_input=False)
    return InvalidFieldsError(
        [invalid_field(one | {"loc": ("body", "executions", index, *one["loc"])}) for one in errors]
    )


def _id_of(answer: Answer) -> UUID | None:
    """The execution that an answer is about: also of a refusal, if it is about one."""
    return answer.id if isinstance(answer, Execution) else getattr(answer, "execution_id", None)


def _item(execution_id: UUID | None, answer: Answer, status: HTTPStatus) -> Document:
    known_id = None if execution_id is None else str(execution_id)
    if isinstance(answer, ExecutionServiceError):
        return {"status": answer.status, "id": known_id, "problem": problem_document(answer)}
    return {"status": status, "id": known_id, "execution": linked(listed_execution_document(answer))}


def _multi_status(document: Document, refusals: Sequence[ExecutionServiceError]) -> Response:
    """The answer; one to be made anew, if asked again under the same key, while a repetition may do more."""
    kind = UnfinishedAnswer if any(one.retriable for one in refusals) else Response
    return kind(orjson.dumps(document), HTTPStatus.MULTI_STATUS, media_type="application/json")
