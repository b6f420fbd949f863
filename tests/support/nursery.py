"""Programs of the tests, forked from one that has imported what they import: `python -m tests.support.nursery FD`.

Importing takes such a program longer than all it does until it is ready. So one process imports, and forks one for each
request, which becomes the program: with a session, arguments, environment and outputs of its own, as if it had been
started. Where the start itself is what a test is about, it starts the program.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import os
import pkgutil
import random
import runpy
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

_REPOSITORY = Path(__file__).parents[2]
_LARGEST_REQUEST = 1 << 20
_START_SECONDS = 30.0
_IMPORTED = (
    "execution.wiring",
    "execution.repository.agents",
    "execution.demo.handlers",
    "aiokafka",
    "uvloop",
    "tests.support.fault_handlers",
    "tests.support.stopping_worker",
    "tests.support.worker_process",
)


class NursedProcess:
    """The test's handle on such a program; what `asyncio.subprocess.Process` says of one, this does."""

    def __init__(self, pid: int, stdout: asyncio.StreamReader, status: asyncio.Future[int]) -> None:
        self.pid = pid
        self.stdout = stdout
        self._status = status

    @property
    def returncode(self) -> int | None:
        return self._status.result() if self._status.done() else None

    def send_signal(self, number: int) -> None:
        if not self._status.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        return await asyncio.shield(self._status)

    async def communicate(self) -> None:
        """Until it has ended, and nobody holds its output."""
        await self.stdout.read()
        await self.wait()


class Nursery:
    """The test process's handle on the one that forks, which ends with it and kills what is left of its programs."""

    def __init__(self, door: socket.socket, process: subprocess.Popen[bytes]) -> None:
        self._door = door
        self._process = process

    def close(self) -> None:
        self._door.close()
        self._process.wait(_START_SECONDS)

    async def start(
        self, module: str, arguments: list[str], environment: Mapping[str, str], *, errors: int = 2
    ) -> NursedProcess:
        """As `python -m MODULE ARGUMENTS` would. `errors`: the descriptor of its standard error."""
        out, its_out = os.pipe()
        try:
            pid, status = self._fork(_program(module, arguments, environment, _REPOSITORY), its_out, errors)
        finally:
            os.close(its_out)
        loop, stdout = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdout), open(out, "rb", 0))  # noqa: SIM115, PTH123
        code: asyncio.Future[int] = loop.create_future()
        await loop.connect_read_pipe(lambda: _Status(code), open(status, "rb", 0))  # noqa: SIM115, PTH123
        return NursedProcess(pid, stdout, code)

    def run(
        self, module: str, arguments: list[str], environment: Mapping[str, str], folder: Path, *, within: float
    ) -> tuple[int, str, str]:
        """Exit code and outputs of a program that ends by itself, in a folder.

        Raises:
            TimeoutError: it has not ended within so many seconds, and is killed.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            program = _program(module, arguments, environment, folder)
            pid, status = self._fork(program, out.fileno(), errors.fileno())
            with open(status, "rb", 0) as code:  # noqa: PTH123
                if not select.select([code], [], [], within)[0]:
                    os.killpg(pid, signal.SIGKILL)
                    raise TimeoutError(f"{module} {' '.join(arguments)}")
                return int(code.read()), _all_of(out), _all_of(errors)

    def _fork(self, program: Mapping[str, Any], out: int, errors: int) -> tuple[int, int]:
        """Its process id, and the descriptor that its exit code can be read from."""
        status, its_status = os.pipe()
        try:
            socket.send_fds(self._door, [json.dumps(program).encode()], [out, errors, its_status])
            answer = self._door.recv(_LARGEST_REQUEST)
        finally:
            os.close(its_status)
        assert answer, "the nursery has ended"
        return int(answer), status


def _program(module: str, arguments: list[str], environment: Mapping[str, str], folder: Path) -> Mapping[str, Any]:
    return {"module": module, "arguments": arguments, "environment": dict(environment), "folder": str(folder)}


def _all_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


class _Status(asyncio.Protocol):
    """Reads the exit code that the nursery tells of."""

    def __init__(self, code: asyncio.Future[int]) -> None:
        self._code = code

    def data_received(self, data: bytes) -> None:
        if not self._code.done():
            self._code.set_result(int(data))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._code.done():
            self._code.set_exception(exc or EOFError("the nursery has ended"))


@cache
def nursery() -> Nursery:
    """That of this test process, started when it is first wanted; it ends with this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(_START_SECONDS)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.nursery", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        cwd=_REPOSITORY,
        start_new_session=True,
    )
    theirs.close()
    opened = Nursery(ours, process)
    atexit.register(opened.close)
    return opened


class _Forker:
    """Forks programs, and tells of their ends."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door
        self._statuses: dict[int, int] = {}
        """Where to tell of the ends of which."""
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake)

    def serve(self) -> Mapping[str, Any]:
        """What to become: returns in each program only."""
        with selectors.DefaultSelector() as looking:
            looking.register(self._door, selectors.EVENT_READ)
            looking.register(self._woken, selectors.EVENT_READ)
            while True:
                ready = {key.fd for key, _ in looking.select()}
                if self._woken in ready:
                    os.read(self._woken, 4096)
                    self._tell_of_ends()
                if self._door.fileno() in ready and (program := self._fork()) is not None:
                    return program

    def _fork(self) -> Mapping[str, Any] | None:
        request, descriptors, _, _ = socket.recv_fds(self._door, _LARGEST_REQUEST, 3)
        if not request:
            self._kill_all()
            sys.exit()
        out, errors, status = descriptors
        pid = os.fork()
        if pid == 0:
            self._forget(status)
            _take_outputs(out, errors)
            program: dict[str, Any] = json.loads(request)
            return program
        os.close(out)
        os.close(errors)
        self._statuses[pid] = status
        self._door.send(str(pid).encode())
        return None

    def _forget(self, status: int) -> None:
        """In a program: nothing is left of the process that it was forked from."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for one in (self._woken, self._wake, status, *self._statuses.values()):
            os.close(one)
        self._door.close()

    def _tell_of_ends(self) -> None:
        for pid in list(self._statuses):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                descriptor = self._statuses.pop(pid)
                with suppress(BrokenPipeError):
                    os.write(descriptor, str(os.waitstatus_to_exitcode(status)).encode())
                os.close(descriptor)

    def _kill_all(self) -> None:
        for pid in self._statuses:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def _take_outputs(out: int, errors: int) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    for theirs, own in ((nothing, 0), (out, 1), (errors, 2)):
        os.dup2(theirs, own)
        os.close(theirs)
    random.seed()  # or all would draw the same


def _become(program: Mapping[str, Any]) -> None:
    os.chdir(program["folder"])
    os.environ.clear()
    os.environ.update(program["environment"])
    sys.argv = [program["module"], *program["arguments"]]
    sys.modules.pop(program["module"], None)  # as a program it is imported once more, under the name of all programs
    runpy.run_module(program["module"], run_name="__main__", alter_sys=True)


def _commands() -> Iterator[str]:
    """The modules of the command line, which are otherwise imported by the commands that need them."""
    cli = import_module("execution.cli")
    return (f"execution.cli.{one.name}" for one in pkgutil.iter_modules(cli.__path__) if one.name != "__main__")


if __name__ == "__main__":
    gc.disable()
    for name in (*_commands(), *_IMPORTED):
        import_module(name)
    gc.freeze()  # nobody writes to what all share
    gc.enable()
    _become(_Forker(socket.socket(fileno=int(sys.argv[1]))).serve())
