"""One broker: formatted in a folder of its own, started, stopped, and disturbed.

Whether it runs is a lock of the kernel on a file that the broker inherits and never looks at: it is held exactly as
long as the broker lives, whoever started it and however it ended. So a pid in that file is its pid, and not one that
another program was given since.
"""

from __future__ import annotations

import base64
import fcntl
import os
import random
import signal
import socket
import struct
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from string import Template
from typing import IO

from scripts.kafka.jars import fetch
from scripts.kafka.java import BrokerError, command_line, find_java

HOST = "127.0.0.1"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
_KILL_SECONDS = 5.0
_FORMAT_SECONDS = 60.0
_POLL_SECONDS = 0.05
_ANSWER_SECONDS = 2.0
_PORTS = range(20_000, 32_000)
"""Below those that systems give to outgoing connections: a broker's port stays free while it is restarted."""
_TEMPLATE = Path(__file__).with_name("server.properties")
_API_VERSIONS = struct.pack(">hhih", 18, 0, 1, -1)
"""A request of the oldest version: key, version, correlation id, no client id."""


class Broker:
    """A broker in a folder, which keeps its data and its port from one start to the next.

    `overrides` are properties of its configuration that replace or complete those of the template; `format_options` are
    given to the storage tool, which makes the first SCRAM users, for instance. `listeners` are further doors beside the
    plain one, by name, each with its security protocol; the rest of what they need is in `overrides`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        port: int | None = None,
        overrides: Mapping[str, str] | None = None,
        format_options: Sequence[str] = (),
        listeners: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder / "broker.log"
        self._data = self.folder / "data"
        self._properties = self.folder / "server.properties"
        self._lock = self.folder / "broker.pid"
        self._overrides = dict(overrides or {})
        self._format_options = tuple(format_options)
        self.port = self._keep_port(port)
        self._protocols = dict(listeners or {})
        self._ports = {name: self._keep_port(None, f"port-{name}") for name in self._protocols}

    @property
    def servers(self) -> str:
        """What clients are given as bootstrap servers."""
        return f"{HOST}:{self.port}"

    def servers_of(self, listener: str) -> str:
        """The same of one of the further listeners."""
        return f"{HOST}:{self._ports[listener]}"

    @property
    def pid(self) -> int | None:
        """Of the running broker; None when none runs."""
        with self._lock.open("a+") as file:
            if _try_lock(file):
                return None
            file.seek(0)
            return int(file.read() or 0) or None

    def is_running(self) -> bool:
        """Is there a process, whether it answers or not?"""
        return self.pid is not None

    def start(self) -> None:
        """Start it, if it does not run, and return as soon as it answers.

        Raises:
            BrokerError: it could not be started, with the end of its log.
        """
        java, jars = find_java(), fetch()
        with self._lock.open("a+") as file:
            is_ours = _try_lock(file)
            if is_ours:
                if not _is_free(self.port):
                    raise BrokerError(f"{self.servers} is taken by something else: name another port")
                self._configure()
                self._format(java, jars)
                _write_pid(file, self._spawn(command_line(java, jars, "kafka.Kafka", str(self._properties)), file))
        try:
            self.wait_until_answering()
        except BaseException:
            if is_ours:
                self.kill()
            raise

    def wait_until_answering(self, *, within: float = START_SECONDS) -> None:
        """Return when it answers a request.

        Raises:
            BrokerError: it has ended, or does not answer in time.
        """
        if not _eventually(lambda: self.is_answering() or not self.is_running(), within=within):
            raise BrokerError(f"the broker does not answer within {within:g} s:\n{self._end_of_log()}")
        if not self.is_running():
            raise BrokerError(f"the broker has ended:\n{self._end_of_log()}")

    def is_answering(self) -> bool:
        """Does it answer now? It accepts connections long before it does."""
        with suppress(OSError), socket.create_connection((HOST, self.port), timeout=_ANSWER_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(_API_VERSIONS)) + _API_VERSIONS)
            return len(connection.recv(4)) > 0
        return False

    def stop(self) -> None:
        """Stop it in order, or, when it takes too long, at once; nothing to do when it does not run."""
        if self._signal(signal.SIGTERM, signal.SIGCONT) and not self._ends(within=STOP_SECONDS):
            self.kill()

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._signal(signal.SIGKILL) and not self._ends(within=_KILL_SECONDS):
            raise BrokerError("the broker outlives a kill")

    def pause(self) -> None:
        """Let it stand still: connections stay open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on where it stood still."""
        self._signal(signal.SIGCONT)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let it stand still for the length of the block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def restart(self) -> None:
        """Stop it in order and start it again: same port, same data."""
        self.stop()
        self.start()

    def _keep_port(self, wanted: int | None, name: str = "port") -> int:
        kept = self.folder / name
        if wanted is None and kept.exists():
            return int(kept.read_text())
        port = wanted or _free_port()
        kept.write_text(str(port))
        return port

    def _configure(self) -> None:
        values = {
            "port": str(self.port),
            "controller_port": str(_free_port()),
            "data": str(self._data),
            "further_listeners": "".join(f",{name}://{self.servers_of(name)}" for name in self._ports),
            "further_protocols": "".join(f",{name}:{protocol}" for name, protocol in self._protocols.items()),
        }
        filled_in = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(values)
        overrides = "".join(f"{name}={value}\n" for name, value in self._overrides.items())  # the last one counts
        self._properties.touch(mode=0o600)  # before there is a password in it
        self._properties.write_text(filled_in + overrides, encoding="utf-8")

    def _format(self, java: str, jars: Path) -> None:
        if (self._data / "meta.properties").exists():
            return
        # Not one that begins with a dash, as every 64th id does: it would be taken for an option.
        cluster = "k" + base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()[1:]
        options = ["--cluster-id", cluster, "--config", str(self._properties), *self._format_options]
        command = command_line(java, jars, "kafka.tools.StorageTool", "format", *options)
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_FORMAT_SECONDS)
        if ran.returncode != 0:
            raise BrokerError(f"the broker's folder cannot be formatted:\n{(ran.stdout + ran.stderr).strip()[-2_000:]}")

    def _spawn(self, command: list[str], lock: IO[str]) -> int:
        """Start it in a process group of its own, so that Ctrl-C reaches only us, who then stop it in order."""
        os.set_inheritable(lock.fileno(), True)
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            streams = [(os.POSIX_SPAWN_DUP2, nothing, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
            return os.posix_spawn(command[0], command, os.environ, file_actions=streams, setpgroup=0)
        finally:
            os.close(nothing)
            os.close(log)

    def _signal(self, *signals: signal.Signals) -> bool:
        pid = self.pid
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            for one in signals:
                os.kill(pid, one)
        return True

    def _ends(self, *, within: float) -> bool:
        pid = self.pid
        ended = _eventually(lambda: not self.is_running(), within=within)
        if ended and pid is not None:
            with suppress(ChildProcessError):  # somebody else has started it
                os.waitpid(pid, 0)
        return ended

    def _end_of_log(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-15:])


def _free_port() -> int:
    while not _is_free(port := random.choice(_PORTS)):
        pass
    return port


def _is_free(port: int) -> bool:
    with suppress(OSError), socket.create_server((HOST, port)):
        return True
    return False


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _write_pid(file: IO[str], pid: int) -> None:
    file.truncate(0)
    file.write(str(pid))
    file.flush()


def _eventually(condition: Callable[[], bool], *, within: float) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
