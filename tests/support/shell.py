"""The installed program, run as its users do; commands that end by themselves may come out of a nursery."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from execution.cli.exit_codes import ExitCode
from tests.support.nursery import Nursery

PROGRAM = str(Path(sys.executable).with_name("execution"))
WITHIN = 30.0


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def documents(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True, kw_only=True)
class Shell:
    """Runs `execution` in a folder, with settings of its own."""

    folder: Path
    settings: dict[str, str]
    nursery: Nursery | None = None
    """Where `run` has its processes from; None: it starts the installed program."""

    @property
    def environment(self) -> dict[str, str]:
        foreign = (name for name in os.environ if not name.startswith("EXECUTION_") and name != "COLUMNS")
        others = {name: os.environ[name] for name in foreign}
        return others | {f"EXECUTION_{name}": value for name, value in self.settings.items()}

    def with_settings(self, **settings: str) -> Shell:
        return replace(self, settings=self.settings | settings)

    def start(
        self, *arguments: str, output: IO[bytes] | int = subprocess.PIPE, errors: IO[bytes] | int = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            text=True,
            cwd=self.folder,
            env=self.environment,
        )

    def run(self, *arguments: str) -> Ended:
        if self.nursery is not None:
            code, out, err = self.nursery.run(
                "execution.cli", list(arguments), self.environment, self.folder, within=WITHIN
            )
            return Ended(code=code, out=out, err=err)
        process = self.start(*arguments)
        try:
            out, err = process.communicate(timeout=WITHIN)
        finally:
            process.kill()
        return Ended(code=process.returncode, out=out, err=err)

    def submit(self, kind: str, *options: str) -> str:
        """Its id."""
        ended = self.run("submit", kind, *options)
        assert ended.code == ExitCode.OK, ended.err
        return ended.out.strip()

    @contextmanager
    def worker(self, *options: str) -> Iterator[subprocess.Popen[str]]:
        """A worker that is ready; asked to stop at the end, so that the last one to leave stops the database."""
        with self.running("worker", *options) as (process, _):
            yield process

    @contextmanager
    def running(self, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
        """A process that serves until it is told to stop, and the line in which it says that it is ready."""
        process = self.start(*arguments)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "ready" in line or "serving" in line
            yield process, line
        finally:
            process.terminate()
            try:
                process.communicate(timeout=WITHIN)
            finally:
                process.kill()


def said(process: subprocess.Popen[str], action: str) -> None:
    """Read the process's log until it says so."""
    assert process.stderr is not None
    for line in process.stderr:
        if action in line:
            return
    raise AssertionError(f"the log ended without {action}")
