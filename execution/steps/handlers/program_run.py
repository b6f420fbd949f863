"""Running a program to its end, its time limit, or a stop, with its output in bounded memory."""

from __future__ import annotations

import os
import selectors
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from subprocess import DEVNULL, PIPE, Popen
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from execution.orphan_killer import MARK
from execution.orphans import orphan_watch
from execution.steps.handlers.head_and_tail import HeadAndTail
from execution.steps.handlers.process_group import end_group, has_exited
from execution.steps.handlers.refusals import ProgramNotStartedError

FIRST_LOOK_SECONDS = 0.001
LAST_LOOK_SECONDS = 0.05
"""How long it waits for output before it looks whether the program has exited; doubled while nothing comes."""
DRAIN_SECONDS = 1.0
"""How long it reads on after the end: a process that has left the group may hold the pipes open."""
CHUNK_BYTES = 65_536


class End(StrEnum):
    """How a run came to its end."""

    EXITED = "exited"
    TIME_LIMIT = "time limit"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class ProgramCall:
    """What to run. `arguments` begin with the program's own name; `folder` is where it begins."""

    program: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    folder: str
    standard_input: bytes = b""
    seconds: float
    output_limit: int


@dataclass(frozen=True, kw_only=True)
class ProgramRun:
    """What came of it. `exit_code` as Python has it: a signal is its negative number."""

    end: End
    exit_code: int
    stdout: HeadAndTail
    stderr: HeadAndTail
    seconds: float


def run_program(call: ProgramCall, stop: threading.Event) -> ProgramRun:
    """Run it; `stop` ends it early. When this returns, nothing of its process group is left.

    Raises:
        ProgramNotStartedError: the system refuses.
    """
    began = time.monotonic()
    stdout, stderr = HeadAndTail(call.output_limit), HeadAndTail(call.output_limit)
    with ExitStack() as stack:
        try:
            mark = stack.enter_context(orphan_watch().watched())
            process = _start(call, mark)
        except OSError as error:
            raise ProgramNotStartedError(call.program, error.strerror or str(error)) from error
        orphan_watch().leads(mark, process.pid)
        pipes = stack.enter_context(_Pipes(process, stdout, stderr))
        end = End.STOPPED
        try:
            end = _follow(process, pipes, began + call.seconds, stop)
        finally:
            exit_code = end_group(process, mark, is_forced=end is not End.EXITED)
        pipes.drain(DRAIN_SECONDS)
    return ProgramRun(
        end=end, exit_code=exit_code, stdout=stdout, stderr=stderr, seconds=round(time.monotonic() - began, 6)
    )


def _start(call: ProgramCall, mark: str) -> Popen[bytes]:
    with TemporaryFile() as standard_input:  # a file, not a pipe: nobody has to feed it while the output is read
        standard_input.write(call.standard_input)
        standard_input.seek(0)
        return Popen(  # noqa: S603 - a list of arguments, and a program that the handler has found on its list
            list(call.arguments),
            executable=call.program,
            env={**call.environment, MARK: mark},
            cwd=call.folder,
            stdin=standard_input if call.standard_input else DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,
        )


def _follow(process: Popen[bytes], pipes: _Pipes, deadline: float, stop: threading.Event) -> End:
    pause = FIRST_LOOK_SECONDS
    while not has_exited(process):
        left = deadline - time.monotonic()
        if stop.is_set():
            return End.STOPPED
        if left <= 0:
            return End.TIME_LIMIT
        has_read = pipes.read(min(pause, left))
        pause = FIRST_LOOK_SECONDS if has_read else min(2 * pause, LAST_LOOK_SECONDS)
    return End.EXITED


class _Pipes:
    """The program's two streams and where each goes."""

    def __init__(self, process: Popen[bytes], stdout: HeadAndTail, stderr: HeadAndTail) -> None:
        self._selector = selectors.DefaultSelector()
        self._files = (process.stdout, process.stderr)
        for file, sink in zip(self._files, (stdout, stderr), strict=True):
            assert file is not None
            os.set_blocking(file.fileno(), False)
            self._selector.register(file.fileno(), selectors.EVENT_READ, sink)

    def read(self, seconds: float) -> bool:
        """Take what comes within the time; did anything?"""
        ready = self._selector.select(seconds)
        for key, _ in ready:
            chunk = os.read(key.fd, CHUNK_BYTES)
            key.data.take(chunk)
            if not chunk:
                self._selector.unregister(key.fd)
        return bool(ready)

    def drain(self, seconds: float) -> None:
        """Take the rest, until both are closed or the time is over."""
        deadline = time.monotonic() + seconds
        while self._selector.get_map() and (left := deadline - time.monotonic()) > 0:
            self.read(left)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._selector.close()
        for file in self._files:
            if file is not None:
                file.close()
