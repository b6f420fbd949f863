"""The program of docs/consuming.md, as it stands there, killed and started again while repeats and rubbish come in."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import TopicPartition

from execution.domain.state import ExecutionState
from execution.service import ExecutionService
from tests.support.delayed_writers import log_of
from tests.support.kafka import administrator, delete_topics, producer, read_topic
from tests.support.published import all_published
from tests.support.relay_process import relay_process
from tests.support.service import PATIENCE, working_service
from tests.support.stored import AnyConnection
from tests.support.waiting import eventually
from tests.support.worker_process import REPOSITORY

SOON = 30.0


class Program:
    """The documented program with its books."""

    def __init__(self, folder: Path, servers: str, topic: str) -> None:
        (text,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "docs/consuming.md").read_text("utf-8"), re.DOTALL)
        assert len(text.splitlines()) < 60
        self.folder, self.servers, self.topic = folder, servers, topic
        (folder / "billing.py").write_text(text, encoding="utf-8")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Until the end of the block; then it is killed as the system does it."""
        with (self.folder / "errors").open("ab") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "billing.py", self.servers, "billing.db"),
                cwd=self.folder,
                env=os.environ | {"TOPIC": self.topic, "MEMBER": "one", "PYTHONPATH": str(REPOSITORY)},
                stderr=errors,
            )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def seen(self) -> dict[str, int]:
        """The last version of each execution."""
        with closing(sqlite3.connect(self.folder / "billing.db")) as books:
            exists = books.execute("SELECT 1 FROM sqlite_master WHERE name = 'bills'").fetchone()
            return dict(books.execute("SELECT execution, version FROM versions")) if exists else {}

    def runs(self) -> dict[str, int]:
        """What is to be paid for, by tenant."""
        with closing(sqlite3.connect(self.folder / "billing.db")) as books:
            return dict(books.execute("SELECT tenant, runs FROM bills"))

    def complaints(self) -> str:
        return (self.folder / "errors").read_text("utf-8")


async def has_been_read(servers: str, topic: str, group: str) -> None:
    """Until the group has committed all that is on the topic now."""
    ends = {TopicPartition(topic, one.partition): one.offset + 1 for one in await read_topic(servers, topic)}
    async with administrator(servers) as admin:

        async def committed() -> bool:
            async with asyncio.timeout(SOON):
                found = await admin.list_consumer_group_offsets(group)
            return all(one in found and found[one].offset >= end for one, end in ends.items())

        await eventually(committed, within=SOON, what="the repeats and the rubbish have been read, too")


@pytest.fixture
async def events_topic(kafka: str) -> AsyncIterator[str]:
    name = f"test.{uuid4().hex}"
    yield name
    await delete_topics(kafka, [name])


async def run_some(service: ExecutionService, count: int) -> None:
    executions = [await service.create_execution(kind="noop") for _ in range(count)]
    for one in executions:
        assert (await service.wait(one.id, PATIENCE)).state is ExecutionState.COMPLETED


async def last_versions(sql: AnyConnection) -> dict[str, int]:
    versions: dict[str, int] = {}
    for execution, version in await log_of(sql):
        versions[execution] = max(version, versions.get(execution, 0))
    return versions


async def say_again(servers: str, topic: str) -> None:
    """Everything that is on the topic, as relays that have died may do, with rubbish in between."""
    records = await read_topic(servers, topic)
    async with producer(servers) as sender, asyncio.timeout(SOON):
        for number, record in enumerate(records):
            if number == len(records) // 2:
                await sender.send_and_wait(topic, b"rubbish", key=b"k", partition=record.partition)
            await sender.send(topic, record.value, record.key, record.partition, headers=list(record.headers))
        await sender.flush()


async def test_every_run_is_billed_once(
    kafka: str, events_topic: str, database_url: str, sql: AnyConnection, tmp_path: Path
) -> None:
    program = Program(tmp_path, kafka, events_topic)
    async with relay_process(database_url, kafka, events_topic), working_service(database_url) as service:
        await run_some(service, 20)
        await all_published(kafka, events_topic, sql, within=SOON)
        async with program.running():
            await eventually(program.seen, within=SOON, what="the first events in its books")
        await run_some(service, 20)
        await all_published(kafka, events_topic, sql, within=SOON)
        await say_again(kafka, events_topic)
        async with program.running():
            wanted = await last_versions(sql)
            await eventually(lambda: program.seen() == wanted, within=SOON, what="the whole log in its books")
            await run_some(service, 5)
            wanted = await last_versions(sql)
            await eventually(lambda: program.seen() == wanted, within=SOON, what="what came after the repeats")
            await has_been_read(kafka, events_topic, "billing")
    assert program.runs() == {"default": 45}
    assert "left out: offset" in program.complaints()
    assert "incomplete" not in program.complaints()
