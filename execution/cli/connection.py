"""What a command connects to: the service of its settings, or only the address of the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from execution.log import configure_logging
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service


@asynccontextmanager
async def open_client() -> AsyncIterator[ExecutionService]:
    """The service, for a command that asks it something and goes; errors as `open_service`."""
    async with open_service(client_settings()) as service:
        yield service


def client_settings() -> Settings:
    """The settings, with a log that is silent about what goes well, unless EXECUTION_LOG_LEVEL says otherwise."""
    settings = Settings.load()
    level = settings.log_level if "log_level" in settings.model_fields_set else "WARNING"
    configure_logging(level, settings.log_format)
    return settings
