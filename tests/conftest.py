"""Fixtures of every test: one embedded server per run, shared by the test processes, and a database per test."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random

import asyncpg
import pytest

from execution.embedded import EmbeddedPostgres
from tests.support.database import SERVER_OVERRIDES, ensure_template, own_database

_RUN_FOLDER = "TEST_RUN_FOLDER"  # set by the first process of a run and inherited by its workers


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="Repeat the chance of an earlier run, whose report begins with its seed.")


def pytest_configure(config: pytest.Config) -> None:
    """Runs outside `tmp_path`, whose parents pytest closes to the system user that runs the server for root."""
    if not _is_worker(config):
        if config.option.seed is None:  # the test processes are given the same options, so they share the seed
            config.option.seed = secrets.randbelow(1_000_000)
        os.environ[_RUN_FOLDER] = tempfile.mkdtemp(prefix="execution-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not _is_worker(config):
        shutil.rmtree(os.environ.pop(_RUN_FOLDER), ignore_errors=True)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed} (the same chance again: --seed {config.option.seed})"


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> Random:
    """The chance of one test: the same for the same seed of the run, whichever other tests run with it."""
    return Random(f"{request.config.option.seed} {request.node.nodeid}")


@pytest.fixture(scope="session")
def run_folder() -> Path:
    """A folder of this test run, the same in all its processes."""
    return Path(os.environ[_RUN_FOLDER])


@pytest.fixture(scope="session")
def server(run_folder: Path) -> Iterator[EmbeddedPostgres]:
    """The run's embedded server, with the migrated template. Shared: tests that stop a server start their own."""
    server = EmbeddedPostgres(run_folder / "server", overrides=SERVER_OVERRIDES)
    asyncio.run(server.start())
    try:
        asyncio.run(ensure_template(server.url, run_folder / "template.lock"))
        yield server
    finally:
        asyncio.run(server.stop())


@pytest.fixture
async def database_url(server: EmbeddedPostgres) -> AsyncIterator[str]:
    """A migrated, empty database of this test alone."""
    async with own_database(server.url) as url:
        yield url


@pytest.fixture
def cluster_folder(run_folder: Path) -> Iterator[Path]:
    """An empty folder for a server of this test alone."""
    folder = Path(tempfile.mkdtemp(dir=run_folder))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection of the test itself, to look behind the service and to disturb it."""
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()
