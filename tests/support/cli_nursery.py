"""The program `execution`, forked from a process that has imported it: `python -m tests.support.cli_nursery SOCKET`.

Importing takes a short command longer than all it does. So one process imports, and for each command forks a process
that becomes the program: with arguments, environment, folder and outputs of its own, and an end as any program has it.
"""

from __future__ import annotations

import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, Any

from tests.support.worker_process import REPOSITORY

_LARGEST_REQUEST = 1 << 20


class CliNursery:
    """The test's handle on such a process; one command at a time."""

    def __init__(self, door: socket.socket) -> None:
        self._door = door

    def run(self, arguments: list[str], environment: Mapping[str, str], folder: Path) -> tuple[int, str, str]:
        """Exit code and outputs of a command.

        Raises:
            TimeoutError: it has not ended in time; so there will not be another one.
        """
        request = json.dumps({"arguments": arguments, "environment": dict(environment), "folder": str(folder)})
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            socket.send_fds(self._door, [request.encode()], [out.fileno(), err.fileno()])
            answer = self._door.recv(_LARGEST_REQUEST)
            assert answer, "the nursery has ended"
            return int(answer), _all_of(out), _all_of(err)


@contextmanager
def cli_nursery(*, within: float) -> Iterator[CliNursery]:
    """Start one; at the end it is killed, with a command that has not ended."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(within)
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.cli_nursery", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        cwd=REPOSITORY,
        start_new_session=True,
    )
    theirs.close()
    try:
        with ours:
            yield CliNursery(ours)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _all_of(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _import_all() -> None:
    """What commands import when they need it, too."""
    cli = import_module("execution.cli")
    for module in pkgutil.iter_modules(cli.__path__):
        if module.name != "__main__":
            import_module(f"execution.cli.{module.name}")
    for name in ("execution.wiring", "execution.repository.agents", "execution.demo.handlers", "asyncpg", "sqlalchemy"):
        import_module(name)


def _serve(door: socket.socket) -> None:
    """Fork a process for each request; returns in each of them, to be the program, and at the end in this one."""
    while True:
        request, descriptors, _, _ = socket.recv_fds(door, _LARGEST_REQUEST, 2)
        if not request:
            sys.exit()
        pid = os.fork()
        if pid == 0:
            door.close()
            _become(json.loads(request), *descriptors)
            return
        for one in descriptors:
            os.close(one)
        _, status = os.waitpid(pid, 0)
        door.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: Mapping[str, Any], out: int, err: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    for theirs, own in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(theirs, own)
        os.close(theirs)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["execution", *request["arguments"]]


if __name__ == "__main__":
    from execution.cli.app import main

    _import_all()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    main()
