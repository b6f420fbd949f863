"""What the routes stand on: the parts that one process's HTTP door was built with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Protocol

from fastapi import Depends, Request

from execution.principal import Principal
from execution.service import ExecutionService
from execution.settings import Settings


class Authenticator(Protocol):
    """Tells who calls."""

    async def authenticate(self, token: str | None) -> Principal:
        """The principal of an API key; None where the request has none. Raises what is answered with 401."""


@dataclass(frozen=True, kw_only=True)
class Door:
    """The parts of one app, in its state."""

    service: ExecutionService
    keys: Authenticator | None

    @property
    def settings(self) -> Settings:
        """The settings of the service."""
        return self.service.settings


def door_of(request: Request) -> Door:
    """The parts of the app that a request came to."""
    door: Door = request.app.state.door
    return door


async def _door(request: Request) -> Door:
    return door_of(request)


OwnDoor = Annotated[Door, Depends(_door)]
"""The parts, as a dependency of a route."""
