"""The loads whose growth is measured."""

from __future__ import annotations

import asyncio
import secrets
import time

import asyncpg

from execution.domain.execution import JsonObject
from execution.handlers import HandlerRegistry, TaskContext
from execution.service import ExecutionService

ECHO = "bench.echo"
LONGEST_SECONDS = 300.0
LOOK_AGAIN_SECONDS = 0.01

_ALL_ENDED = """
SELECT NOT EXISTS (SELECT FROM executions WHERE state = 'PENDING')
   AND NOT EXISTS (SELECT FROM executions WHERE worker_id IS NOT NULL)
"""


def handlers() -> HandlerRegistry:
    """With a kind that returns its parameters: what goes in comes out, and is stored both times."""
    registry = HandlerRegistry()
    registry.register(ECHO, _echo, idempotent=True)
    return registry


async def _echo(context: TaskContext, parameters: JsonObject) -> JsonObject:
    return parameters


def payload(size: int) -> JsonObject:
    """A document of about that many bytes that cannot be compressed, as PostgreSQL would with a repeated text."""
    empty = len('{"text":""}')
    return {"text": secrets.token_urlsafe(size)[: size - empty]}


async def in_flight(service: ExecutionService, clients: int, seconds: float, kind: str, parameters: JsonObject) -> int:
    """So many clients, each submitting one execution after another and waiting for its end; how many ended."""
    until = time.perf_counter() + seconds
    ended = 0

    async def submit_and_wait() -> None:
        nonlocal ended
        while time.perf_counter() < until:
            execution = await service.create_execution(kind, parameters)
            await service.wait(execution.id)
            ended += 1

    async with asyncio.timeout(seconds + LONGEST_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(submit_and_wait())
    return ended


async def submitted_and_drained(
    service: ExecutionService, connection: asyncpg.Connection, clients: int, executions: int
) -> int:
    """Clients that submit without waiting, until other processes have run everything; how many there were."""
    share = executions // clients

    async def submit() -> None:
        for _ in range(share):
            await service.create_execution("noop")

    async with asyncio.timeout(LONGEST_SECONDS):
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(submit())
        while not await connection.fetchval(_ALL_ENDED):  # noqa: ASYNC110 - other processes end them, without an event
            await asyncio.sleep(LOOK_AGAIN_SECONDS)
    return share * clients
