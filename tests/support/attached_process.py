"""A process attached to an embedded server: `python -m tests.support.attached_process FOLDER`.

Writes `attached PID-OF-THE-SERVER` once it is, leaves when its standard input ends, and then writes `left`.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from execution.embedded import EmbeddedPostgres
from tests.support.database import SERVER_OVERRIDES

_REPOSITORY = Path(__file__).parents[2]
_ANSWER_SECONDS = 30.0


class AttachedProcess:
    """The test's handle on such a process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def attached(self) -> int:
        """The server's pid, once the process is attached."""
        word, pid = (await self._line()).split()
        assert word == "attached"
        return int(pid)

    async def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert await self._line() == "left"
        await self.ended()

    async def kill(self) -> None:
        """As the system does it: nothing of the process runs afterwards."""
        self.process.kill()
        await self.ended()

    async def ended(self) -> int:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await self.process.wait()

    async def _line(self) -> str:
        assert self.process.stdout is not None
        async with asyncio.timeout(_ANSWER_SECONDS):
            return (await self.process.stdout.readline()).decode().strip()


@asynccontextmanager
async def attached_process(folder: Path) -> AsyncIterator[AttachedProcess]:
    """Start one, in a process group of its own; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.attached_process",
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=_REPOSITORY,
        start_new_session=True,
    )
    try:
        yield AttachedProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def _main(folder: Path) -> None:
    async with EmbeddedPostgres(folder, overrides=SERVER_OVERRIDES) as server:
        print(f"attached {server.pid}", flush=True)
        await _end_of_input()
    print("left", flush=True)


async def _end_of_input() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
