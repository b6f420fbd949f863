"""Ending a program with everything it has started: its process group, and who has left the group."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from subprocess import Popen

import psutil

TERM_SECONDS = 2.0
"""What a program gets to end by itself after SIGTERM."""
KILL_SECONDS = 10.0
"""What the system gets to end a killed program: one that waits for a broken disk is not waited for."""
LOOK_AGAIN_SECONDS = 0.02
MARK = "EXECUTION_STEP_RUN"
"""The variable by which a process is known whose ancestors were all of one run, though it has left the group."""


def has_exited(process: Popen[bytes]) -> bool:
    """Has the leader exited? It is not reaped: while it is a zombie, nobody else can get its id, or its group's."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end_group(process: Popen[bytes], mark: str, *, is_forced: bool) -> int:
    """Kill whatever is left of the group, reap the leader, return its exit code.

    Args:
        mark: the value of `MARK` in the environment of this run.
        is_forced: the leader has not exited: SIGTERM first, then SIGKILL, also for those who left the group.

    Raises:
        subprocess.TimeoutExpired: the system does not end it.
    """
    strays: list[psutil.Process] = []
    if is_forced:
        _signal_group(process, signal.SIGTERM)
        _wait(process, TERM_SECONDS)
        strays = list(_marked(mark))
    _signal_group(process, signal.SIGKILL)
    for stray in strays:
        _kill(stray)
    return process.wait(KILL_SECONDS)


def _signal_group(process: Popen[bytes], number: signal.Signals) -> None:
    # The program leads its own session and group, so the group's id is the program's; see `has_exited` for its reuse.
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        return


def _wait(process: Popen[bytes], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not has_exited(process) and time.monotonic() < deadline:
        time.sleep(LOOK_AGAIN_SECONDS)


def _marked(mark: str) -> Iterator[psutil.Process]:
    """Processes of this run, wherever they have gone: the environment is inherited, parents and groups are not."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                yield process
        except (psutil.Error, OSError):
            continue


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()  # psutil compares the time of creation first, so a reused id is not hit
    except psutil.Error:
        return
