"""What those ask who run the service: does it live, is it ready, what does it do."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from execution.api.caller import GuardedRoute, bearer
from execution.api.door import OwnDoor
from execution.readiness import Report, Verdict

router = APIRouter(tags=["operations"])
guarded = APIRouter(route_class=GuardedRoute, dependencies=[Depends(bearer)])
"""Figures of all tenants together are for those who have a key, once there are keys."""

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Liveness(BaseModel):
    """This process answers."""

    status: Literal["alive"] = "alive"


class CheckDocument(BaseModel):
    """What one check found."""

    status: Verdict
    reason: str | None = Field(description="Why it is not `ok`.")
    seconds: float = Field(ge=0, description="How long the check took.")


class ReadinessDocument(BaseModel):
    """What all checks found. Requests may be sent while nothing is `failed`."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, CheckDocument]


@router.get("/health/live", operation_id="get_liveness")
async def get_liveness() -> Liveness:
    """The event loop answers; whether anything else does is not asked."""
    return Liveness()


@router.get(
    "/health/ready",
    operation_id="get_readiness",
    response_model=ReadinessDocument,
    responses={HTTPStatus.SERVICE_UNAVAILABLE: {"model": ReadinessDocument, "description": "Not ready"}},
)
async def get_readiness(door: OwnDoor) -> Response:
    """May requests be sent here? If not, `checks` say why."""
    report = await door.readiness.report()
    status = HTTPStatus.OK if report.is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse(_document(report).model_dump(mode="json"), status, {"Cache-Control": "no-store"})


@guarded.get(
    "/metrics",
    operation_id="get_metrics",
    response_class=Response,
    responses={HTTPStatus.OK: {"content": {METRICS_TYPE: {"schema": {"type": "string"}}}}},
)
async def get_metrics(door: OwnDoor) -> Response:
    """What Prometheus scrapes."""
    return Response(await door.metrics.exposition(), media_type=METRICS_TYPE)


@router.get("/asyncapi.json", operation_id="get_asyncapi")
async def get_asyncapi(door: OwnDoor) -> dict[str, Any]:
    """The contract over Kafka, as this document is the one over HTTP."""
    return door.kafka_contract


router.include_router(guarded)


def _document(report: Report) -> ReadinessDocument:
    return ReadinessDocument(
        status="ready" if report.is_ready else "not_ready",
        checks={
            name: CheckDocument(status=one.verdict, reason=one.reason, seconds=round(one.seconds, 4))
            for name, one in report.findings.items()
        },
    )
