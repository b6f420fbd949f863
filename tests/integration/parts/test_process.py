"""How a process of the service is set up."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import asyncio, gc
from execution.process import begin, run

async def main():
    assert gc.isenabled(), "it would collect nothing as long as it lives"
    assert gc.get_freeze_count() > 10_000, "it would look through what was imported again and again"
    return type(asyncio.get_running_loop()).__module__

assert gc.isenabled()
begin()
assert not gc.isenabled()
print(run(main()))
"""


def test_it_collects_no_garbage_until_it_runs_and_then_that_of_its_work() -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("uvloop" if sys.platform != "win32" else "asyncio")
