"""What the doctor looks at, each as a pure function from facts to a finding."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from execution.cli.exit_codes import ExitCode
from execution.repository.diagnosis import KindBacklog, ServerFacts, WorkerFacts
from execution.settings import UnknownVariable

MAX_CLOCK_SKEW_SECONDS = 5.0
LITTLE_DISK_BYTES = 1024**3
HARDLY_ANY_DISK_BYTES = 100 * 1024**2
LONG_WAIT_SECONDS = 60.0
NEEDED_POSTGRESQL = 18
_START_WORKER = "Start one with: execution worker"


class Level(StrEnum):
    """How good a finding is."""

    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found, and what to do about it. `exit_code` counts for a problem only."""

    check: str
    found: str
    level: Level = Level.OK
    advice: str = ""
    exit_code: ExitCode = ExitCode.UNEXPECTED

    def to_json(self) -> dict[str, Any]:
        """The finding as one JSON object."""
        return {"check": self.check, "status": self.level.value, "found": self.found, "advice": self.advice}


def check_variables(unknown: Sequence[UnknownVariable]) -> list[Finding]:
    """Does every EXECUTION_* variable set something?"""
    problems = [
        Finding(
            check="variables",
            level=Level.PROBLEM,
            found=f"{one.name} sets nothing: there is no such setting",
            advice=f"Did you mean {one.nearest}?" if one.nearest else "Remove it.",
            exit_code=ExitCode.INVALID,
        )
        for one in unknown
    ]
    return problems or [Finding(check="variables", found="every EXECUTION_* variable is a setting")]


def check_brokers(servers: Sequence[str], brokers: int | None, problem: str = "") -> Finding:
    """Do the brokers answer, and let us in? None of them: `problem` says why."""
    where = ", ".join(servers)
    if brokers is not None:
        return Finding(check="brokers", found=f"{where}: {brokers} in the cluster, reachable")
    return Finding(
        check="brokers",
        level=Level.PROBLEM,
        found=f"{where}: {problem}",
        advice="Check EXECUTION_KAFKA_BOOTSTRAP_SERVERS, how to log in there, and that the brokers run.",
    )


def check_revision(found: str | None, expected: str, *, is_embedded: bool) -> Finding:
    """Is the schema the one this release needs?"""
    if found == expected:
        return Finding(check="schema", found=f"revision {found}")
    if found is None and is_embedded:
        return Finding(check="schema", level=Level.NOTE, found="none yet", advice="The first command makes it.")
    return Finding(
        check="schema",
        level=Level.PROBLEM,
        found=f"{found or 'none'}, but this release needs revision {expected}",
        advice="Run: execution migrate (or, if a newer release made it, upgrade this program).",
        exit_code=ExitCode.DATABASE,
    )


def check_server(server: ServerFacts) -> Finding:
    """Is it a PostgreSQL this service is made for?"""
    found = f"PostgreSQL {server.major_version}, database of {_size(server.database_bytes)}"
    if server.major_version >= NEEDED_POSTGRESQL:
        return Finding(check="server", found=found)
    advice = f"Use PostgreSQL {NEEDED_POSTGRESQL} or newer."
    return Finding(check="server", level=Level.NOTE, found=found, advice=advice)


def check_clock(server: ServerFacts) -> Finding:
    """Do this machine and the database agree on the time?"""
    skew = (datetime.now(UTC) - server.now).total_seconds()
    found = f"{abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} the database"
    if abs(skew) <= MAX_CLOCK_SKEW_SECONDS:
        return Finding(check="clock", found=found)
    return Finding(check="clock", level=Level.NOTE, found=found, advice="Set this machine's clock; logs will mislead.")


def check_disk(folder: Path) -> Finding:
    """Is there room for the embedded database to grow?"""
    free = shutil.disk_usage(folder).free
    found = f"{_size(free)} free for {folder}"
    if free >= LITTLE_DISK_BYTES:
        return Finding(check="disk", found=found)
    level = Level.PROBLEM if free < HARDLY_ANY_DISK_BYTES else Level.NOTE
    advice = "Free some space, or name a folder on another disk in EXECUTION_DATA_DIR."
    return Finding(check="disk", level=level, found=found, advice=advice, exit_code=ExitCode.DATABASE)


def check_workers(workers: Sequence[WorkerFacts]) -> Finding:
    """Does anybody work, and on what?"""
    living = [one for one in workers if one.alive]
    if not living:
        return Finding(check="workers", level=Level.NOTE, found="none alive", advice=_START_WORKER)
    kinds = sorted({kind for one in living for kind in one.kinds})
    places = ", ".join(f"{one.host}:{one.pid}" for one in living)
    return Finding(check="workers", found=f"{len(living)} alive ({places}), running {', '.join(kinds)}")


def check_backlog(backlog: Sequence[KindBacklog], workers: Sequence[WorkerFacts]) -> list[Finding]:
    """Is somebody there for everything that waits, and does it get its turn?"""
    if not backlog:
        return [Finding(check="backlog", found="nothing waits")]
    offered = {kind for one in workers if one.alive for kind in one.kinds}
    return [_backlog(one, is_offered=one.kind in offered) for one in backlog]


def check_orphans(orphans: int, workers: Sequence[WorkerFacts]) -> Finding:
    """Is there an execution whose worker is dead?"""
    if not orphans:
        return Finding(check="orphans", found="none")
    found = f"{orphans:,} held by workers that do not live"
    if any(one.alive for one in workers):
        return Finding(check="orphans", level=Level.NOTE, found=found, advice="A living worker is rescuing them.")
    advice = f"Only a worker can rescue them. {_START_WORKER}"
    return Finding(check="orphans", level=Level.PROBLEM, found=found, advice=advice)


def _backlog(one: KindBacklog, *, is_offered: bool) -> Finding:
    oldest = "none due yet" if one.oldest_seconds is None else f"the oldest for {one.oldest_seconds:.0f} s"
    found = f"{one.pending:,} of {one.kind} wait, {oldest}"
    if not is_offered:
        advice = f"No live worker runs this kind. {_START_WORKER}"
        return Finding(check="backlog", level=Level.PROBLEM, found=found, advice=advice)
    if (one.oldest_seconds or 0) > LONG_WAIT_SECONDS:
        advice = "Start more workers, or raise EXECUTION_WORKER_CONCURRENCY."
        return Finding(check="backlog", level=Level.NOTE, found=found, advice=advice)
    return Finding(check="backlog", found=found)


def _size(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 else f"{size / 1024**2:.0f} MiB"
