"""What this process starts does not outlive it, even if it is killed (SIGKILL): another process hears of it then.

One for all that is started, itself started with the first of them: a parent-death signal (`prctl`) would be one per
program, is bound to the thread that has forked, reaches no grandchildren, and needs code between fork and exec.
"""

from __future__ import annotations

import atexit
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

from execution import orphan_killer

_END_SECONDS = 5.0


class OrphanWatch:
    """This process's end of the pipe to the killer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._killer: subprocess.Popen[bytes] | None = None
        self._running: dict[str, list[str]] = {}
        """By mark, the lines that a new killer has to be told."""

    @contextmanager
    def watched(self) -> Iterator[str]:
        """For the life of something that is started: the mark that stands in its environment as `orphan_killer.MARK`.

        Raises:
            OSError: there is no room for another process.
        """
        mark = secrets.token_hex(16)
        self._say(mark, f"began {mark}\n")
        try:
            yield mark
        finally:
            with suppress(OSError):
                self._say(mark, f"ended {mark}\n")

    def leads(self, mark: str, pid: int) -> None:
        """It was started, and leads a process group."""
        with suppress(OSError):  # by its mark it is known already
            self._say(mark, f"leads {mark} {pid}\n")

    def close(self) -> None:
        """Let the killer end."""
        with self._lock:
            killer, self._killer = self._killer, None
        if killer is not None and killer.stdin is not None:
            killer.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                killer.wait(_END_SECONDS)

    def forget(self) -> None:
        """In a fork, which has a copy of our end and must not keep it open: the pipe ends when this process does."""
        killer, self._killer = self._killer, None
        self._lock, self._running = threading.Lock(), {}
        if killer is not None and killer.stdin is not None:
            killer.stdin.close()
            killer.returncode = 0  # not the fork's child: nothing to wait for

    def _say(self, mark: str, line: str) -> None:
        with self._lock:
            if line.startswith("ended"):
                self._running.pop(mark, None)
            else:
                self._running.setdefault(mark, []).append(line)
            if self._killer is not None:
                try:
                    _write(self._killer, line)
                    return
                except (BrokenPipeError, BlockingIOError):  # it was killed, or stopped
                    self._killer.kill()
                    self._killer.communicate()
                    self._killer = None
            if self._running:
                self._killer = _start()
                _write(self._killer, "".join(text for lines in self._running.values() for text in lines))


def _start() -> subprocess.Popen[bytes]:
    killer = subprocess.Popen(  # noqa: S603 - our own file
        [sys.executable, "-I", orphan_killer.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        cwd="/",
        start_new_session=True,  # a signal for our group is not for it
    )
    assert killer.stdin is not None
    os.set_blocking(killer.stdin.fileno(), False)
    return killer


def _write(killer: subprocess.Popen[bytes], text: str) -> None:
    assert killer.stdin is not None
    os.write(killer.stdin.fileno(), text.encode())


@cache
def orphan_watch() -> OrphanWatch:
    """The one of this process."""
    watch = OrphanWatch()
    atexit.register(watch.close)
    os.register_at_fork(after_in_child=watch.forget)
    return watch
