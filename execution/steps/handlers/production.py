"""The production handlers by step type, in both forms."""

from __future__ import annotations

import asyncio

from execution.settings import Settings
from execution.steps.handlers.blocking import AwaitedHandler, BlockingHandler
from execution.steps.handlers.capabilities import Capabilities, CapabilityHandler
from execution.steps.handlers.http_request import HttpRequestHandler
from execution.steps.handlers.shell_command import ShellCommandHandler
from execution.steps.handlers.write_file import WriteFileHandler
from execution.steps.model import StepHandler


def awaited_handlers(settings: Settings) -> dict[str, AwaitedHandler]:
    """The handlers for whoever awaits them (durable plans), except those of capabilities, which are a tenant's."""
    handlers: list[AwaitedHandler] = [
        ShellCommandHandler(settings),
        HttpRequestHandler(settings),
        WriteFileHandler(settings),
    ]
    return {handler.name: handler for handler in handlers}


def capability_handlers(capabilities: Capabilities, tenant_id: str) -> dict[str, AwaitedHandler]:
    """Those that change a tenant's capabilities; `capabilities` is a `CapabilityStore`."""
    handlers = [CapabilityHandler(capabilities, tenant_id, enabled=enabled) for enabled in (True, False)]
    return {handler.name: handler for handler in handlers}


def production_handlers(
    settings: Settings,
    capabilities: Capabilities | None = None,
    *,
    tenant_id: str | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
) -> dict[str, StepHandler]:
    """The same for the synchronous machine: `JobExecutor(production_handlers(settings))`.

    Args:
        capabilities: where capabilities are kept (`CapabilityStore`); None: there are no steps that change them.
        tenant_id: whose capabilities; None: those of the settings' tenant.
        loop: the loop that the connections of `capabilities` belong to; it has to run while a step is executed.
    """
    handlers: dict[str, StepHandler] = {name: BlockingHandler(one) for name, one in awaited_handlers(settings).items()}
    if capabilities is not None:
        changing = capability_handlers(capabilities, tenant_id or settings.tenant_id)
        handlers |= {name: BlockingHandler(one, loop) for name, one in changing.items()}
    return handlers
