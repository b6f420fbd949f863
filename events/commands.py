"""Requests to other services and their replies: the `CommandBus` protocol, and the bus inside the process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

Payload = dict[str, Any]
Responder = Callable[[Payload], Payload | Awaitable[Payload]]


class CommandBusError(Exception):
    """A request got no usable reply."""


class NoReplyError(CommandBusError):
    """Nobody answered before the deadline."""

    def __init__(self, command_type: str, seconds: float) -> None:
        super().__init__(f"no reply to {command_type!r} within {seconds:g} s")


class NotSentError(CommandBusError):
    """It could not be sent; where the brokers did not answer, it may have been delivered nevertheless."""

    def __init__(self, command_type: str, problem: str) -> None:
        super().__init__(f"{command_type!r} could not be sent: {problem}")


class ClosedError(CommandBusError):
    """The bus was closed while somebody waited."""

    def __init__(self) -> None:
        super().__init__("the command bus was closed before the reply")


class NoResponderError(CommandBusError):
    """Nobody answers this type of command."""

    def __init__(self, command_type: str) -> None:
        super().__init__(f"nobody answers {command_type!r}")


class RejectedError(CommandBusError):
    """The responder answered with an error."""


class CommandBus(Protocol):
    """Sends a command and waits for its reply."""

    async def request(self, command_type: str, payload: Payload, *, timeout: float) -> Payload:  # noqa: ASYNC109
        """The reply to a command.

        The time limit is a parameter because it travels with the command: whoever answers may give up by it too.

        Raises:
            CommandBusError: no reply within `timeout` seconds, nobody to reply, or an error as the reply.
        """


class InProcessCommandBus:
    """The bus used when no broker is configured: responders are functions of this process."""

    def __init__(self) -> None:
        self._responders: dict[str, Responder] = {}

    def respond(self, command_type: str, responder: Responder) -> None:
        """Answer commands of this type with `responder`; a plain function is called in a thread."""
        self._responders[command_type] = responder

    async def request(self, command_type: str, payload: Payload, *, timeout: float) -> Payload:  # noqa: ASYNC109
        """The reply of this process's responder; see `CommandBus`."""
        responder = self._responders.get(command_type)
        if responder is None:
            raise NoResponderError(command_type)
        try:
            async with asyncio.timeout(timeout):
                return await _answer(responder, payload)
        except TimeoutError:
            raise NoReplyError(command_type, timeout) from None
        except Exception as error:
            raise RejectedError(f"{type(error).__name__}: {error}") from error


async def _answer(responder: Responder, payload: Payload) -> Payload:
    answer = (
        responder(payload) if asyncio.iscoroutinefunction(responder) else await asyncio.to_thread(responder, payload)
    )
    return await answer if isinstance(answer, Awaitable) else answer
