"""The HTTP door over a database of the test's own: the app without a socket (`api`), or on one (`live`)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from execution.api.app import create_app
from execution.api.server import HttpServer
from execution.handlers import HandlerRegistry
from execution.keys import KeyRing
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.checker import check_database
from tests.support.http_server import served
from tests.support.service import PATIENCE, short_settings


@pytest.fixture
def registry() -> HandlerRegistry:
    """The handlers beside the built-in ones; tests override it."""
    return HandlerRegistry()


@pytest.fixture
def changes() -> dict[str, Any]:
    """Settings that differ; tests override it."""
    return {}


@pytest.fixture
async def service(
    database_url: str, registry: HandlerRegistry, changes: dict[str, Any]
) -> AsyncIterator[ExecutionService]:
    """Without a worker: what is submitted stays as it is. At the end every row is what its log says."""
    async with open_service(short_settings(database_url, **changes), registry=registry) as service:
        yield service
    await check_database(database_url)


@pytest.fixture
async def keys(service: ExecutionService) -> AsyncIterator[KeyRing]:
    """The keys of the app: none, so that everybody may do everything, until a test creates one."""
    async with KeyRing(service.repository.db, service.settings) as keys:
        yield keys


@pytest.fixture
def app(service: ExecutionService, keys: KeyRing) -> FastAPI:
    """The app."""
    return create_app(service, keys=keys)


@pytest.fixture
async def api(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the app, without a socket between them; defects of the app are raised in the test."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://service", timeout=PATIENCE
    ) as client:
        yield client


@pytest.fixture
async def live(app: FastAPI) -> AsyncIterator[HttpServer]:
    """The app served by uvicorn on a free port of this machine; its base is `live.url`."""
    async with served(app) as server:
        yield server
