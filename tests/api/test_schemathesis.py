"""Requests that Schemathesis makes up from OpenAPI, against the live server and the real database.

All its checks are on, and it follows links between operations: no 5xx, and no answer that is not documented.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from execution.api.server import HttpServer
from execution.keys import KeyRing
from execution.principal import Scope
from execution.service import ExecutionService
from tests.support.schemathesis import made_up_requests
from tests.support.service import running_worker


@pytest.fixture
async def token(keys: KeyRing) -> str:
    """A key that may do everything, so that every request needs one."""
    return (await keys.create("schemathesis", tenant_id="default", scopes=set(Scope))).token


@pytest.fixture
async def url(service: ExecutionService, live: HttpServer) -> AsyncIterator[str]:
    """The server, with a worker beside it, so that executions end, too."""
    async with running_worker(service):
        yield live.url


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How many requests are to be sent at least, and what makes them up."""

    requests: int
    per_operation: int
    phases: str
    seconds: float


SHORT = Extent(requests=200, per_operation=8, phases="examples,fuzzing,stateful", seconds=100)
LONG = Extent(requests=5_000, per_operation=220, phases="examples,coverage,fuzzing,stateful", seconds=1_500)


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Told at the head of the run."""
    return int(request.config.option.seed)


@pytest.mark.parametrize(
    "extent",
    [
        pytest.param(SHORT, id="short", marks=pytest.mark.timeout(120)),
        pytest.param(LONG, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(1_600)]),
    ],
)
async def test_every_answer_is_as_documented(url: str, token: str, seed: int, tmp_path: Path, extent: Extent) -> None:
    async with asyncio.timeout(extent.seconds):
        report = await made_up_requests(
            url, token, tmp_path, seed=seed, per_operation=extent.per_operation, phases=extent.phases
        )
    assert report.succeeded, report.output
    assert report.cases >= extent.requests
