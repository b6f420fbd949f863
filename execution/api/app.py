"""Puts the door together: the app, its routes, its problems."""

from __future__ import annotations

from fastapi import FastAPI

from execution.api.door import Authenticator, Door
from execution.api.problems import add_problem_handlers
from execution.api.routes import executions
from execution.service import ExecutionService

ROUTERS = (executions.router,)


def create_app(service: ExecutionService, *, keys: Authenticator | None = None) -> FastAPI:
    """The HTTP door to a running service.

    Args:
        keys: tells who calls; None: everybody is the tenant of the settings and may do everything.
    """
    # Its pages of documentation would load scripts from elsewhere; /openapi.json is the contract.
    app = FastAPI(title="Execution service", docs_url=None, redoc_url=None)
    app.state.door = Door(service=service, keys=keys)
    add_problem_handlers(app)
    for router in ROUTERS:
        app.include_router(router)
    return app
