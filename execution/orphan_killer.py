"""Kills what a process has started when that process is gone: a program of its own, run by `orphans.py`.

Reads from its standard input, a pipe whose other end only that process has:

    began MARK          something is about to be started with MARK in its environment, or in its children's
    leads MARK PID      its first process, which leads a group
    ended MARK          nothing of it is left

When the pipe ends without `ended`, that process has died, however it did. Imports nothing of ours: it is run by its
path.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import suppress

import psutil

MARK = "EXECUTION_STEP_RUN"
"""The variable by which a process is known whose ancestors were all of one run, though it has left their group."""
LOOK_SECONDS = 2.0
"""How long it looks for more: a program that was just being forked has its own environment a moment later."""
LOOK_AGAIN_SECONDS = 0.1


def marked(marks: Collection[str]) -> Iterator[psutil.Process]:
    """Processes of these runs, wherever they have gone: the environment is inherited, parents and groups are not."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) in marks:
                yield process
        except (psutil.Error, OSError):
            continue


def main() -> None:
    """Listen until the pipe ends; kill what is left then."""
    # Whoever stops a whole service sends these to all of its processes, and this one is needed until the others ended.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    running: dict[str, psutil.Process | None] = {}
    for line in sys.stdin:
        word, mark, *pids = line.split()
        if word == "ended":
            running.pop(mark, None)
        else:
            running[mark] = _process(int(pids[0])) if pids else None
    give_up_at = time.monotonic() + LOOK_SECONDS
    while running and time.monotonic() < give_up_at:
        _kill(running)
        time.sleep(LOOK_AGAIN_SECONDS)


def _kill(running: dict[str, psutil.Process | None]) -> None:
    found = [leader for leader in running.values() if leader is not None]
    for leader in list(found):
        if not psutil.pid_exists(leader.pid) or leader.is_running():  # not somebody else's by now
            with suppress(psutil.Error):
                found += leader.children(recursive=True)
            with suppress(OSError):
                os.killpg(leader.pid, signal.SIGKILL)
    for process in [*found, *marked(running)]:
        with suppress(psutil.Error):
            process.kill()  # psutil compares the time of creation first, so a reused id is not hit


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


if __name__ == "__main__":
    main()
