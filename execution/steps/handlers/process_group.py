"""Ending a program with everything it has started: its process group, and who has left the group."""

from __future__ import annotations

import os
import signal
import time
from subprocess import Popen

import psutil

from execution.orphan_killer import marked

TERM_SECONDS = 2.0
"""What a program gets to end by itself after SIGTERM."""
KILL_SECONDS = 10.0
"""What the system gets to end a killed program: one that waits for a broken disk is not waited for."""
LOOK_AGAIN_SECONDS = 0.02


def has_exited(process: Popen[bytes]) -> bool:
    """Has the leader exited? It is not reaped: while it is a zombie, nobody else can get its id, or its group's."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end_group(process: Popen[bytes], mark: str, *, is_forced: bool) -> int:
    """Kill whatever is left of the group, reap the leader, return its exit code.

    Args:
        mark: the value of `orphan_killer.MARK` in the environment of this run.
        is_forced: the leader has not exited: SIGTERM first, then SIGKILL, also for those who left the group.

    Raises:
        subprocess.TimeoutExpired: the system does not end it.
    """
    strays: list[psutil.Process] = []
    if is_forced:
        _signal_group(process, signal.SIGTERM)
        _wait(process, TERM_SECONDS)
        strays = list(marked({mark}))
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


def _kill(process: psutil.Process) -> None:
    try:
        process.kill()  # psutil compares the time of creation first, so a reused id is not hit
    except psutil.Error:
        return
