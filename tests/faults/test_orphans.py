"""SIGKILL of a worker: the programs and processes that it had started do not outlive it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from execution.orphans import OrphanWatch, orphan_watch
from execution.service import ExecutionService
from execution.wiring import open_service
from tests.support.service import PATIENCE, short_settings
from tests.support.waiting import eventually
from tests.support.worker_process import FAULT_HANDLERS, worker_process

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="promised on Linux only")

PROGRAM = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)"])
reading, writing = os.pipe()
if (between := os.fork()) == 0:
    if os.fork() == 0:
        os.setsid()
        os.write(writing, str(os.getpid()).encode())
        time.sleep(60)
    os._exit(0)
os.waitpid(between, 0)
stray = os.read(reading, 20).decode()
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{os.getpid()} {child.pid} {stray}")
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(60)
"""
"""Deaf, with a child in its group, and a grandchild that has left it and has no parent any more."""


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[ExecutionService]:
    settings = short_settings(database_url, handlers=FAULT_HANDLERS, steps_shell_programs=sys.executable)
    async with open_service(settings) as service:
        yield service


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def pids_in(file: Path, count: int) -> list[int]:
    """The processes that have been started, once they say so; all of them run."""

    def written() -> list[int]:
        words = file.read_text().split() if file.exists() else []
        return [int(word) for word in words] if len(words) == count else []

    pids = await eventually(written, within=PATIENCE, what="they have started")
    assert all(alive(pid) for pid in pids)
    return pids


def program_step(file: Path) -> dict[str, object]:
    return {
        "step_type": "shell.command",
        "target": sys.executable,
        "parameters": {"arguments": ["-I", "-S", "-c", PROGRAM, str(file)]},
    }


async def test_nothing_outlives_a_worker_that_is_killed(
    client: ExecutionService, database_url: str, tmp_path: Path
) -> None:
    async with worker_process(database_url, steps_shell_programs=sys.executable) as worker:
        await client.create_execution("steps", {"steps": [program_step(tmp_path / "program")]})
        await client.create_execution("fault.process", {"pid_file": str(tmp_path / "process")})
        pids = [*await pids_in(tmp_path / "program", 3), *await pids_in(tmp_path / "process", 2)]
        children = psutil.Process(worker.pid).children()
        [killer] = [one for one in children if one.pid not in pids and "orphan_killer" in " ".join(one.cmdline())]
        killer.send_signal(signal.SIGTERM)  # as whoever stops a whole service does
        await worker.kill()
    await eventually(lambda: not [pid for pid in pids if alive(pid)], within=PATIENCE, what="all of them have ended")
    await eventually(lambda: not alive(killer.pid), within=PATIENCE, what="the killer has ended too")


class TestTheWatch:
    """Its end of the pipe, on programs that it is only told of."""

    async def test_what_has_ended_is_left_alone(self) -> None:
        watch = OrphanWatch()
        program = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
        with watch.watched() as mark:
            watch.leads(mark, program.pid)
        await asyncio.to_thread(watch.close)
        assert program.returncode is None
        await program.communicate(b"\n")
        assert program.returncode == 0

    async def test_a_killer_that_was_killed_is_replaced_and_knows_all(self) -> None:
        watch = OrphanWatch()
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE, start_new_session=True
        )
        with watch.watched() as mark:
            watch.leads(mark, program.pid)
            first = await the_killer()
            first.kill()
            first.wait(PATIENCE)
            with watch.watched():
                second = await the_killer()
                assert second.pid != first.pid
            await asyncio.to_thread(watch.close)
        assert await program.wait() == -signal.SIGKILL

    async def test_there_is_one_for_all(self) -> None:
        assert orphan_watch() is orphan_watch()


async def the_killer() -> psutil.Process:
    """Only one there is; for a moment after its start a process has no command line."""
    [one] = await eventually(killers, within=PATIENCE, what="the killer")
    return one


def killers() -> list[psutil.Process]:
    """Those of this process, but for the one that it has for its own steps."""
    own = orphan_watch()._killer
    children = psutil.Process().children()
    found = [one for one in children if "orphan_killer" in " ".join(one.cmdline())]
    return [one for one in found if own is None or one.pid != own.pid]
