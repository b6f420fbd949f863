"""Jobs of steps: submitting a plan, looking at its steps, and getting the evidence of a job that has ended.

Everything else of them (cancel, pause, retry, streams, history) is that of the execution, whose id is the job's.
"""

from __future__ import annotations

from http import HTTPStatus
from uuid import UUID

from fastapi import APIRouter, Response

from execution.api.answers import json_answer
from execution.api.caller import OwnService
from execution.api.documented_answers import EVIDENCE, STEP_JOB, STEP_JOB_CREATED
from execution.api.idempotency import IdempotentRoute, OwnKey
from execution.api.step_models import StepJobDocument, StepJobRequest
from execution.api.trace_context import Traceparent
from execution.api.values import ONE
from execution.domain.execution import Execution, JsonObject
from execution.presentation import etag
from execution.steps.plan_evidence import evidence_of
from execution.steps.step_job import step_job, step_job_to_json

router = APIRouter(prefix="/v1/step-jobs", tags=["step jobs"], route_class=IdempotentRoute)


@router.post(
    "", status_code=202, response_model=StepJobDocument, operation_id="create_step_job", responses=STEP_JOB_CREATED
)
async def create_step_job(
    body: StepJobRequest, service: OwnService, key: OwnKey, traceparent: Traceparent = None
) -> Response:
    """Submit a plan; it waits for a worker at once. Each step is recorded before it begins and when it has ended."""
    submission = body.submission().traced_by(traceparent)
    execution = await service.submit(submission, command_id=key.command_id, answer=key.answered_by(_accepted))
    return _accepted(execution)


@router.get(ONE, response_model=StepJobDocument, operation_id="get_step_job", responses=STEP_JOB)
async def get_step_job(execution_id: UUID, service: OwnService) -> Response:
    """The job with each of its steps: as it is declared, and as it was executed last."""
    execution, document = await step_job(service, execution_id)
    return json_answer(document, headers={"ETag": etag(execution)})


@router.get(f"{ONE}/evidence", operation_id="get_evidence", response_class=Response, responses=EVIDENCE)
async def get_evidence(execution_id: UUID, service: OwnService) -> Response:
    """The evidence of a job that has ended, however it ended: a bundle in canonical JSON, which has to be kept byte by
    byte. `execution verify` checks it."""
    return Response(await evidence_of(service, execution_id), media_type="application/json")


def _accepted(execution: Execution) -> Response:
    document: JsonObject = step_job_to_json(execution)
    headers = {"ETag": etag(execution), "Location": document["links"]["self"]}
    return json_answer(document, HTTPStatus.ACCEPTED, headers)
