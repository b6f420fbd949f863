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
from typing import Any

import asyncpg
import pytest

from execution.embedded import EmbeddedPostgres
from scripts.kafka.broker import Broker
from tests.support import kafka as kafka_support
from tests.support.database import SERVER_OVERRIDES, LentDatabases, ensure_template

_RUN_FOLDER = "TEST_RUN_FOLDER"  # set by the first process of a run and inherited by its workers
_SEED = "TEST_SEED"  # set by the first process of a run and inherited by its workers


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, help="Repeat the chance of an earlier run, whose report begins with its seed.")


def pytest_configure(config: pytest.Config) -> None:
    """Runs outside `tmp_path`, whose parents pytest closes to the system user that runs the server for root."""
    if not _is_worker(config):
        if config.option.seed is None:
            config.option.seed = secrets.randbelow(1_000_000)
        os.environ[_SEED] = str(config.option.seed)
        # Some hundred processes are started: each would compile the packages anew.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ[_RUN_FOLDER] = tempfile.mkdtemp(prefix="execution-tests-")
        kafka_support.hand_over_configured_servers()
    config.option.seed = int(os.environ[_SEED])  # the test processes share it; options changed here do not reach them


def pytest_unconfigure(config: pytest.Config) -> None:
    if not _is_worker(config):
        folder = Path(os.environ.pop(_RUN_FOLDER))
        kafka_support.end_shared_broker(folder)
        shutil.rmtree(folder, ignore_errors=True)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Brokers of their own take seconds to start and more to fail: such tests have a target of their own."""
    if "modules_broker" in getattr(item, "fixturenames", ()):
        item.add_marker("own_broker")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[Any]) -> None:
    """pytest-xdist 3.8 writes a test's group where pytest 9.2 does not look: groups would silently be none (#1386)."""
    for item in items:
        named = getattr(item, "_nodeid", item.nodeid)
        if named != item.nodeid:
            item._id = type(item._id).parse(named)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tests that a machine cannot run are easily overlooked among those that were chosen not to."""
    reasons = [
        str(one.longrepr[2]) for one in terminalreporter.getreports("skipped") if isinstance(one.longrepr, tuple)
    ]
    without_broker = [reason for reason in reasons if kafka_support.NO_BROKER in reason]
    if without_broker:
        loud = f"{len(without_broker)} TESTS OF KAFKA DID NOT RUN, {without_broker[0].removeprefix('Skipped: ')}"
        terminalreporter.write_line(loud, red=True, bold=True)


def pytest_report_header(config: pytest.Config) -> str:
    return f"seed: {config.option.seed} (the same chance again: --seed {config.option.seed})"


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> Random:
    """The chance of one test: the same for the same seed of the run, whichever other tests run with it."""
    path, _, name = request.node.location
    return Random(f"{request.config.option.seed} {path} {name}")


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


@pytest.fixture(scope="session")
def lent_databases(server: EmbeddedPostgres) -> LentDatabases:
    return LentDatabases(server.url)


@pytest.fixture
async def database_url(lent_databases: LentDatabases) -> AsyncIterator[str]:
    """A migrated, empty database of this test alone."""
    async with lent_databases.lend() as url:
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


@pytest.fixture(scope="session")
def kafka(run_folder: Path) -> str:
    """The bootstrap servers of the run's Kafka broker. Shared: tests that disturb a broker take `own_broker`."""
    return kafka_support.configured_servers() or kafka_support.start_shared_broker(run_folder)


@pytest.fixture
async def topic(kafka: str) -> AsyncIterator[str]:
    """An empty topic of this test alone, with one partition."""
    name = await kafka_support.create_topic(kafka)
    yield name
    await kafka_support.delete_topics(kafka, [name])


@pytest.fixture(scope="module")
def modules_broker(run_folder: Path) -> Iterator[Broker]:
    """Behind `own_broker`: its start takes seconds, so the tests of a module use one after the other."""
    kafka_support.require_broker()
    broker = Broker(Path(tempfile.mkdtemp(dir=run_folder)))
    broker.start()
    yield broker
    broker.kill()


@pytest.fixture
def own_broker(modules_broker: Broker) -> Broker:
    """A running broker that nobody else uses at the same time: to pause, to restart, and to kill.

    Modules that use it belong to the xdist group "kafka", or each test process starts one.
    """
    modules_broker.resume()  # whatever the last test has left behind
    modules_broker.start()
    return modules_broker
