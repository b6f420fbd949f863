"""Puts the door together: the app, its routes, its problems."""

from __future__ import annotations

from fastapi import FastAPI

from execution.api.access_log import AccessLog
from execution.api.door import Door
from execution.api.limits import RequestLimits
from execution.api.openapi import DoorApp
from execution.api.problems import add_problem_handlers
from execution.api.rate_limit import RateLimits
from execution.api.room import Rooms
from execution.api.routes import bulk, commands, executions, operations, step_jobs, streams
from execution.api.streams import OpenStreams
from execution.keys import KeyRing
from execution.metrics import ServiceMetrics
from execution.readiness import Readiness
from execution.service import ExecutionService

ROUTERS = (executions.router, commands.router, bulk.router, step_jobs.router, streams.router, operations.router)


def create_app(service: ExecutionService, *, keys: KeyRing | None = None) -> FastAPI:
    """The HTTP door to a running service.

    Args:
        keys: tell who calls; None: those of the service's database, without a note of when they were used.
    """
    # Its pages of documentation would load scripts from elsewhere; /openapi.json is the contract.
    app = DoorApp(title="Execution service", docs_url=None, redoc_url=None)
    door = Door(
        service=service,
        keys=keys or KeyRing(service.repository.db, service.settings),
        rates=RateLimits(service.settings),
        metrics=ServiceMetrics(service),
        readiness=Readiness(service),
        rooms=Rooms(service.settings),
        streams=OpenStreams(service.settings.stream_limit),
    )
    app.state.door = door
    add_problem_handlers(app)
    # The one added last is met first.
    app.add_middleware(RequestLimits, settings=door.settings)
    app.add_middleware(AccessLog, tally=door.metrics.requests, writes_lines=door.settings.access_log)
    for router in ROUTERS:
        app.include_router(router)
    return app
