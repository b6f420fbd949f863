"""Where the demo plays: a data folder of its own, the service on it, worker processes; all of it gone at the end."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from execution.errors import ExecutionServiceError
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service

HEARTBEAT_SECONDS = 0.3
WORKER_TIMEOUT_SECONDS = 1.5
POLL_SECONDS = 1.0
READY_SECONDS = 30.0
DRAIN_SECONDS = 10.0


class WorkerNotReadyError(ExecutionServiceError):
    """A process of the demo did not come up."""

    code = "worker_not_ready"

    def __init__(self, name: str, log: str) -> None:
        super().__init__(f"The process {name!r} did not start. Its last words:\n{log.strip() or '(none)'}")


class StageProcess:
    """A worker or the relay in a process of its own, started like any other: `execution worker`, `execution relay`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    async def ready(self) -> None:
        """Wait until it does what it is there for.

        Raises:
            WorkerNotReadyError: it ended, or took too long.
        """
        assert self._process.stdout is not None
        line = b""
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_SECONDS):
                line = await self._process.stdout.readline()
        if not line:
            raise WorkerNotReadyError(self.name, self._log.read_text(errors="replace")[-2000:])

    async def kill(self) -> int:
        """kill -9: nothing of it runs afterwards; its exit code."""
        return await self._end(signal.SIGKILL)

    async def drain(self) -> int:
        """Ask it to stop in order; its exit code."""
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                return await self._end(signal.SIGTERM)
        return await self.kill()

    async def _end(self, number: signal.Signals) -> int:
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        return await self._process.wait()


class Stage:
    """The running service, and the means to start workers on it."""

    def __init__(self, service: ExecutionService, folder: Path, stack: AsyncExitStack) -> None:
        self.service = service
        self.folder = folder
        self._stack = stack

    @property
    def letter_box(self) -> Path:
        """The file in which `demo.letter` leaves its traces."""
        return self.folder / "letters.txt"

    async def start_worker(self, name: str, kinds: Sequence[str]) -> StageProcess:
        """Start a worker process for these kinds. It is killed at the end of the demo, however that comes."""
        return await self._start(name, "worker", "--json", "--kinds", ",".join(kinds))

    async def start_relay(self, variables: Mapping[str, str]) -> StageProcess:
        """Start a process that publishes the log to Kafka, by these variables. It is killed at the end, too."""
        return await self._start("relay", "relay", "--json", variables=variables)

    async def _start(self, name: str, *arguments: str, variables: Mapping[str, str] | None = None) -> StageProcess:
        log = self.folder / f"{name}.log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "execution.cli", *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=_environment(self.service.settings) | dict(variables or {}),
                # Ctrl-C reaches the whole foreground group; what happens to the processes is for the demo to decide.
                start_new_session=True,
            )
        started = StageProcess(name, process, log)
        self._stack.push_async_callback(started.kill)
        return started


@asynccontextmanager
async def open_stage(roots: Sequence[Path]) -> AsyncIterator[Stage]:
    """A stage on an embedded PostgreSQL of its own; whatever happens inside, nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="execution-demo-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        service = await stack.enter_async_context(open_service(_settings(folder, roots)))
        yield Stage(service, folder, stack)


def _settings(folder: Path, roots: Sequence[Path]) -> Settings:
    """Every setting spelled out, so that nothing of the user's environment has a say in the demo."""
    own: dict[str, Any] = {
        "data_dir": folder,
        "files_roots": tuple(roots),
        "handlers": ("execution.demo.handlers",),
        "heartbeat_interval_seconds": HEARTBEAT_SECONDS,
        "worker_timeout_seconds": WORKER_TIMEOUT_SECONDS,
        "poll_interval_seconds": POLL_SECONDS,
    }
    return Settings.load(**default_values() | own)


def default_values(*, except_of: str | None = None) -> dict[str, Any]:
    """The defaults of all settings, or of all but those whose names begin so."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in Settings.model_fields.items()
        if except_of is None or not name.startswith(except_of)
    }


def _environment(settings: Settings) -> dict[str, str]:
    """The environment that gives a worker process the same settings."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("EXECUTION_")}
    return others | {
        "EXECUTION_DATA_DIR": str(settings.data_dir),
        "EXECUTION_FILES_ROOTS": os.pathsep.join(map(str, settings.files_roots)),
        "EXECUTION_HANDLERS": ",".join(settings.handlers),
        "EXECUTION_HEARTBEAT_INTERVAL_SECONDS": str(settings.heartbeat_interval_seconds),
        "EXECUTION_WORKER_TIMEOUT_SECONDS": str(settings.worker_timeout_seconds),
        "EXECUTION_POLL_INTERVAL_SECONDS": str(settings.poll_interval_seconds),
        "EXECUTION_LOG_LEVEL": "WARNING",
    }
