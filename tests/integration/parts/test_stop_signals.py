"""Signals to a command that runs until it is told to stop, and does not listen."""

from __future__ import annotations

import asyncio
import signal
import sys

from execution.cli.stopping import CLOSE_SECONDS
from tests.support.service import PATIENCE
from tests.support.worker_process import REPOSITORY

DEAF = """
import asyncio
from execution.cli.stopping import until_stopped

async def run(signals):
    print("runs", flush=True)
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("cancelled", flush=True)

asyncio.run(until_stopped(run))
"""


async def test_a_third_one_ends_it_on_the_spot() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DEAF, stdout=asyncio.subprocess.PIPE, cwd=REPOSITORY
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE):
            for said, number in (("runs", signal.SIGTERM), ("cancelled", signal.SIGTERM), ("cancelled", signal.SIGINT)):
                assert (await process.stdout.readline()).decode().strip() == said
                process.send_signal(number)
        async with asyncio.timeout(CLOSE_SECONDS / 2):  # it would end anyhow, but later
            assert await process.wait() == 128 + signal.SIGINT
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
