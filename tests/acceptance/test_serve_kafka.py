"""`execution serve` with a broker: what is submitted over HTTP is on the topic, and the figures say so."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from events.command_client import CommandClient
from events.command_envelope import CommandReply
from events.commands import NotSentError
from tests.support.cli_process import cli_process
from tests.support.http_server import ServerProcess, server_process
from tests.support.kafka import delete_topics
from tests.support.kafka_commands import CommandTopics, signer
from tests.support.published import all_published
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import REPOSITORY, environment

SOON = 20.0
API_KEY = "k" * 40
TRACE = f"00-{'1' * 32}-{'2' * 16}-01"


@pytest.fixture
async def events_topic(kafka: str) -> AsyncIterator[str]:
    name = f"test.{uuid4().hex}"
    yield name
    await delete_topics(kafka, [name])


def figures(exposition: str) -> dict[str, float]:
    """The relay's, without labels."""
    lines = (line.split() for line in exposition.splitlines() if line.startswith("execution_relay_"))
    return {name: float(value) for name, value in lines if "{" not in name}


def client_of(server: ServerProcess, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server.url, headers=headers, timeout=SOON)


async def figures_of(client: httpx.AsyncClient, published: int) -> dict[str, float] | None:
    """What a scrape brings, once so many are published or more."""
    said = figures((await client.get("/metrics")).text)
    return said if said["execution_relay_published_total"] >= published else None


async def is_counted(client: httpx.AsyncClient) -> bool:
    answered = 'execution_commands_answered_total{command="create",status="202"} 1.0'
    return answered in (await client.get("/metrics")).text


async def test_what_is_submitted_is_published(
    kafka: str, events_topic: str, database_url: str, sql: AnyConnection
) -> None:
    settings: dict[str, Any] = {"kafka_bootstrap_servers": kafka, "kafka_events_topic": events_topic}
    async with server_process(database_url, **settings) as server, client_of(server) as client:
        for _ in range(10):
            headers = {"Prefer": "wait=10", "traceparent": TRACE}
            answer = await client.post("/v1/executions", json={"kind": "noop"}, headers=headers)
            assert answer.json()["state"] == "COMPLETED"
        found = await all_published(kafka, events_topic, sql, within=SOON)
        # what is on the topic can be read there before the server has its acknowledgement
        said = await eventually(partial(figures_of, client, len(found.events)), within=SOON, what="the figures")
        ready = (await client.get("/health/ready")).json()
    assert found.repeats == 0
    assert {(one.tenant, one.traceparent, one.source) for one in found.events} == {
        ("default", TRACE, "/execution-service")
    }
    assert {one.time.isoformat().replace("+00:00", "Z") for one in found.events if one.time} == {
        one.data["occurred_at"] for one in found.events
    }
    assert said["execution_relay_published_total"] == len(found.events)
    assert said["execution_relay_lease_held"] == 1
    assert ready["checks"]["relay"]["status"] == ready["checks"]["barrier"]["status"] == "ok"


async def test_what_is_commanded_is_done(kafka: str, database_url: str) -> None:
    """By the server, and by a process of its own after it; signed with what the command line says."""
    topics = CommandTopics(kafka)
    settings = topics.settings | {"api_key": API_KEY, "kafka_events_topic": f"{topics.name}.events"}
    secret = await signing_secret_of(database_url, **settings)
    assert secret == {"key": "settings", "secret": signer("settings").secret}
    try:
        async with server_process(database_url, **settings) as server, topics.client("settings") as commands:
            created = await until_created(commands)
            assert created.execution is not None
            async with client_of(server, {"authorization": f"Bearer {API_KEY}"}) as client:
                assert created.execution == (await client.get(created.execution["links"]["self"])).json()
                assert (await client.get("/health/ready")).json()["checks"]["commands"]["status"] == "ok"
                # a reply can be read before the server has its acknowledgement
                await eventually(partial(is_counted, client), within=SOON, what="the command is counted")
        async with (
            cli_process("commands", environment(database_url, **settings)) as process,
            topics.client("settings") as commands,
        ):
            assert (await process.ready())["topic"] == topics.commands
            done = await commands.send("cancel", UUID(created.execution["id"]), timeout=SOON)
            assert done.execution is not None
            assert (done.status, done.execution["state"]) == (200, "CANCELLED")
            assert await process.stop() == 0
    finally:
        await delete_topics(kafka, [*topics.all, f"{topics.name}.events"])


async def until_created(commands: CommandClient) -> CommandReply:
    """The server's topics are there soon after it says that it is ready; until then nothing can be sent."""

    async def created() -> CommandReply | None:
        try:
            return await commands.create({"kind": "noop", "start": False}, command_id="once", timeout=SOON)
        except NotSentError:
            return None

    return await eventually(created, within=SOON, what="a command is carried out")


async def signing_secret_of(database_url: str, **settings: Any) -> Any:
    """Of the key of the settings."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "execution.cli", "keys", "signing-secret", "settings", "--json"),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
        env=environment(database_url, **settings),
    )
    async with asyncio.timeout(SOON):
        said, _ = await process.communicate()
    return json.loads(said)


async def test_a_broker_that_is_away_keeps_nobody_from_working(database_url: str) -> None:
    settings: dict[str, Any] = {"kafka_bootstrap_servers": "127.0.0.1:9", "kafka_timeout_seconds": 1}
    async with server_process(database_url, **settings) as server, client_of(server) as client:
        answer = await client.post("/v1/executions", json={"kind": "noop"}, headers={"Prefer": "wait=10"})
        assert answer.json()["state"] == "COMPLETED"
        ready = await client.get("/health/ready")
        said = figures((await client.get("/metrics")).text)
    assert ready.status_code == 200
    assert said["execution_relay_published_total"] == 0
    assert said["execution_relay_events_waiting"] > 0
