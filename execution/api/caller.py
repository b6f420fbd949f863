"""Who calls, what it may do, and the service as its tenant sees it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from fastapi.security.utils import get_authorization_scheme_param

from execution.access_errors import ApiKeyMissingError, InsufficientScopeError
from execution.api.door import door_of
from execution.api.limits import check_body
from execution.api.queries import query_parameters, refuse_unknown
from execution.keys import is_loopback
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
        known = query_parameters(self.dependant)

        async def guard(request: Request) -> Response:
            await admit(request)
            await check_body(request)
            refuse_unknown(request, known)
            return await handle(request)

        return guard


async def admit(request: Request) -> Principal:
    """Who calls; refused unless it may use the method."""
    principal = await _authenticated(request)
    door_of(request).rates.check(principal)
    needed = _SCOPES.get(request.method, Scope.WRITE)
    if not principal.may(needed):
        raise InsufficientScopeError(needed, principal.scopes)
    request.scope["principal"] = principal
    return principal


def principal_of(request: Request) -> Principal:
    """Who calls, of a request that a guarded route has admitted."""
    principal: Principal = request.scope["principal"]
    return principal


async def _authenticated(request: Request) -> Principal:
    door, token = door_of(request), _token(request)
    if token is None:
        principal = await door.keys.authenticate(None)
        if not _is_of_this_machine(request):
            raise ApiKeyMissingError
        return principal
    if door.keys.recalls(token):
        return await door.keys.authenticate(token)
    with door.rates.trying_a_key(request.client and request.client.host):
        return await door.keys.authenticate(token)


def _token(request: Request) -> str | None:
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    return token if scheme.lower() == "bearer" and token else None


def _is_of_this_machine(request: Request) -> bool:
    """Is it neither passed on by a proxy nor sent by a foreign page that somebody here has open in a browser?

    Such a page reaches a loopback address, too, but under a name that its author owns, or with an Origin that says so.
    """
    called = [f"//{host}" for host in request.headers.getlist("host")] + request.headers.getlist("origin")
    return (request.client is None or is_loopback(request.client.host)) and all(map(_names_this_machine, called))


def _names_this_machine(url: str) -> bool:
    """Names without a dot count: nobody outside can own one."""
    try:
        name = urlsplit(url).hostname
    except ValueError:
        return False
    return bool(name and (is_loopback(name) or not {".", ":"} & set(name)))


async def _own_service(request: Request, _: Annotated[object, Depends(bearer)]) -> ExecutionService:
    principal = principal_of(request)
    return door_of(request).service.for_tenant(principal.tenant_id, principal.actor)


OwnService = Annotated[ExecutionService, Depends(_own_service)]
"""The service as the caller's tenant sees it: what every route works on."""
