"""Who calls, what it may do, and the service as its tenant sees it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from execution.api.door import door_of
from execution.principal import Principal, Scope
from execution.service import ExecutionService

bearer = HTTPBearer(auto_error=False, scheme_name="ApiKey", description="An API key, as `Authorization: Bearer KEY`.")
"""Only says in OpenAPI how to call; `GuardedRoute` has looked at the key before any dependency does."""

_SCOPES = {"GET": Scope.READ, "HEAD": Scope.READ, "DELETE": Scope.ADMIN}

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """A route that knows who calls, and that it may, before it reads anything of the body."""

    def get_route_handler(self) -> Handler:
        """The handler behind the guard."""
        handle = super().get_route_handler()

        async def guard(request: Request) -> Response:
            await admit(request)
            return await handle(request)

        return guard


async def admit(request: Request) -> Principal:
    """Who calls; refused unless it may use the method."""
    door = door_of(request)
    if door.keys is None:
        principal = Principal(tenant_id=door.settings.tenant_id, scopes=frozenset(Scope))
    else:
        principal = await door.keys.authenticate(_token(request))
    # Whether principal.may(_SCOPES.get(request.method, Scope.WRITE)) is checked as soon as there are keys.
    request.scope["principal"] = principal
    return principal


def principal_of(request: Request) -> Principal:
    """Who calls, of a request that a guarded route has admitted."""
    principal: Principal = request.scope["principal"]
    return principal


def _token(request: Request) -> str | None:
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    return token if scheme.lower() == "bearer" and token else None


async def _own_service(request: Request, _: Annotated[object, Depends(bearer)]) -> ExecutionService:
    principal = principal_of(request)
    return door_of(request).service.for_tenant(principal.tenant_id, principal.actor)


OwnService = Annotated[ExecutionService, Depends(_own_service)]
"""The service as the caller's tenant sees it: what every route works on."""
