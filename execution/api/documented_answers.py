"""What OpenAPI says of answers besides their bodies."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from execution.api.models import ExecutionDocument
from execution.domain.execution import JsonObject

Responses = dict[int | str, dict[str, Any]]


def _header(description: str, example: str) -> JsonObject:
    return {"description": description, "schema": {"type": "string"}, "example": example}


_ETAG = {"ETag": _header("The version, as a strong entity tag.", '"2"')}
_LINK = {"Link": _header("Where the list goes on (RFC 8288).", '</v1/executions?cursor=AZ…>; rel="next"')}
_REPLAYED = {"Idempotent-Replayed": _header("There, and `true`, on an answer that is given again.", "true")}
_CREATED = _ETAG | {
    "Location": _header("Where the execution is.", "/v1/executions/01890000-0000-7000-8000-000000000001"),
    "Preference-Applied": _header("The wait that was granted, where one was preferred.", "wait=10"),
    **_REPLAYED,
}

_FURTHER = {
    operation: {"operationId": operation, "parameters": {"execution_id": "$response.body#/id"}}
    for operation in (
        *("get_execution", "get_history", "start_execution", "pause_execution", "resume_execution", "cancel_execution"),
        *("retry_execution", "report_progress", "submit_result", "delete_execution"),
    )
}
"""Where to go on with an execution."""

CREATED: Responses = {
    HTTPStatus.ACCEPTED: {"description": "Recorded", "headers": _CREATED, "links": _FURTHER},
    HTTPStatus.OK: {
        "description": "Ended within the preferred wait",
        "headers": _CREATED,
        "model": ExecutionDocument,
        "links": _FURTHER,
    },
}
READ: Responses = {
    HTTPStatus.OK: {"description": "The execution", "headers": _ETAG},
    HTTPStatus.NOT_MODIFIED: {"description": "Unchanged since the version that If-None-Match names", "headers": _ETAG},
}
LISTED: Responses = {HTTPStatus.OK: {"description": "Part of the list", "headers": _LINK}}
COMMANDED: Responses = {HTTPStatus.OK: {"description": "The execution after the command", "headers": _ETAG | _REPLAYED}}
DELETED: Responses = {HTTPStatus.NO_CONTENT: {"description": "Deleted, with its log"}}
EACH: Responses = {HTTPStatus.MULTI_STATUS: {"description": "What became of each", "headers": _REPLAYED}}
STEP_JOB_CREATED: Responses = {
    HTTPStatus.ACCEPTED: {
        "description": "Recorded",
        "headers": _ETAG
        | {"Location": _header("Where the job is.", "/v1/step-jobs/01890000-0000-7000-8000-000000000001")}
        | _REPLAYED,
        "links": {
            operation: {"operationId": operation, "parameters": {"execution_id": "$response.body#/id"}}
            for operation in ("get_step_job", "get_evidence", "cancel_execution")
        },
    }
}
STEP_JOB: Responses = {HTTPStatus.OK: {"description": "The job", "headers": _ETAG}}
EVIDENCE: Responses = {
    HTTPStatus.OK: {
        "description": "The bundle (execution/steps/bundle.py has its shape)",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
