"""Puts the door together: the app, its routes, its problems."""

from __future__ import annotations

from fastapi import FastAPI

from execution.api.door import Door
from execution.api.problems import add_problem_handlers
from execution.api.rate_limit import RateLimits
from execution.api.routes import executions
from execution.keys import KeyRing
from execution.service import ExecutionService

ROUTERS = (executions.router,)


def create_app(service: ExecutionService, *, keys: KeyRing | None = None) -> FastAPI:
    """The HTTP door to a running service.

    Args:
        keys: tell who calls; None: those of the service's database, without a note of when they were used.
    """
    # Its pages of documentation would load scripts from elsewhere; /openapi.json is the contract.
    app = FastAPI(title="Execution service", docs_url=None, redoc_url=None)
    app.state.door = Door(
        service=service,
        keys=keys or KeyRing(service.repository.db, service.settings),
        rates=RateLimits(service.settings),
    )
    add_problem_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
