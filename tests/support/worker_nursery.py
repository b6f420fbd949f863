"""Workers by the dozen, to be killed: `python -m tests.support.worker_nursery`.

Importing takes a process longer than working, so one process imports, and forks a worker whenever it is told to. Reads
`start` and `kill PID` from its standard input, and answers each with the pid once it is done.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support import fault_handlers
from tests.support.service import PATIENCE
from tests.support.worker_process import REPOSITORY, environment, work

__all__ = ["WorkerNursery", "fault_handlers", "worker_nursery"]  # what the workers load, imported before they fork


class WorkerNursery:
    """The test's handle on such a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def start(self) -> int:
        """A new worker's pid. It has just been forked: it still has to connect, and can be killed before it has."""
        return await self._ask("start")

    async def kill(self, pid: int) -> None:
        """As the system does it: nothing of the worker runs afterwards."""
        await self._ask(f"kill {pid}")

    async def _ask(self, request: str) -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{request}\n".encode())
        async with asyncio.timeout(PATIENCE):
            return int(await self.process.stdout.readline())


@asynccontextmanager
async def worker_nursery(url: str, **changes: Any) -> AsyncIterator[WorkerNursery]:
    """Start one; at the end, every worker that is left is killed with it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.worker_nursery",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
        env=environment(url, **changes),
        start_new_session=True,
    )
    try:
        yield WorkerNursery(process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()


def _main() -> None:
    for line in sys.stdin:
        request, *pids = line.split()
        pid = _start() if request == "start" else _kill(int(pids[0]))
        print(pid, flush=True)


def _start() -> int:
    pid = os.fork()
    if pid == 0:
        with open(os.devnull, "r+") as nowhere:  # noqa: PTH123 - a descriptor to hand on, not a path to read
            os.dup2(nowhere.fileno(), sys.stdin.fileno())
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        work()
        os._exit(0)
    return pid


def _kill(pid: int) -> int:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL, "it had ended by itself"
    return pid


if __name__ == "__main__":
    _main()
