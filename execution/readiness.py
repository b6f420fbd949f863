"""Readiness: may this process be sent requests, and if not, why not.

Everybody may ask, so an answer serves all who ask within a moment, and its reasons are words of ours: what the driver
said, hosts and all, goes to the log.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

import structlog

from execution.command_consumer import CommandConsumer
from execution.durable_relay import DurableRelay
from execution.errors import DatabaseError, OverloadedError, SchemaMismatchError
from execution.relay_survey import RelaySurvey
from execution.repository.availability import check_current_schema, check_database
from execution.service import ExecutionService
from execution.worker import Worker

log = structlog.get_logger(__name__)

CHECK_SECONDS = 2.0
"""What one check may take."""
BARRIER_SECONDS = 60.0
"""How long a transaction may be open before it is worth a word."""
FRESH_SECONDS = 0.5
"""How long an answer serves whoever asks."""


class Verdict(StrEnum):
    """What came of a check."""

    OK = "ok"
    DEGRADED = "degraded"
    """Something is amiss, but another process would do no better: requests may be sent."""
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What one check found. `seconds`: how long it took."""

    verdict: Verdict
    reason: str | None = None
    seconds: float = 0.0


FINE = Finding(verdict=Verdict.OK)

Check = Callable[[], Awaitable[Finding]]


@dataclass(frozen=True, kw_only=True)
class Report:
    """What all checks found, by name."""

    findings: dict[str, Finding]

    @property
    def is_ready(self) -> bool:
        """May requests be sent?"""
        return all(one.verdict is not Verdict.FAILED for one in self.findings.values())


class Readiness:
    """The checks of one process. Whoever starts a part that can fail by itself adds one for it."""

    def __init__(self, service: ExecutionService) -> None:
        self._service = service
        self._checks: dict[str, Check] = {
            "database": self._check_database,
            "schema": self._check_schema,
            "admission": self._check_admission,
        }
        self._is_draining = False
        self._asking: asyncio.Task[Report] | None = None
        self._fresh_until = 0.0

    def add(self, name: str, check: Check) -> None:
        """From now on this is checked too."""
        self._checks[name] = check

    def watch_worker(self, worker: Worker) -> None:
        """A worker runs in this process: it counts."""
        longest_silence = self._service.settings.worker_timeout_seconds
        self.add("worker", lambda: _check_worker(worker, longest_silence))

    def watch_relay(self, relay: DurableRelay) -> None:
        """A relay runs in this process. Without it nothing is lost, and everything else goes on."""
        self.add("relay", lambda: _check_relay(relay))

    def watch_commands(self, consumer: CommandConsumer) -> None:
        """Commands over Kafka are carried out here. Without that they wait in their topic, and all else goes on."""
        self.add("commands", lambda: _check_commands(consumer))

    def watch_barrier(self, survey: RelaySurvey) -> None:
        """Whoever keeps a transaction open keeps PostgreSQL from cleaning up, and the cursor from growing simple."""
        self.add("barrier", lambda: _check_barrier(survey))

    def drain(self) -> None:
        """The process is about to stop: from now on it is not ready."""
        self._is_draining = True

    async def report(self) -> Report:
        """How it stands, as of this moment or the one before."""
        if self._is_draining:
            reason = "this process is stopping"
            return Report(findings={"process": Finding(verdict=Verdict.FAILED, reason=reason)})
        if self._asking is None or (self._asking.done() and time.monotonic() >= self._fresh_until):
            self._asking = asyncio.create_task(self._ask(), name="readiness")
        return await asyncio.shield(self._asking)

    async def _ask(self) -> Report:
        findings = await asyncio.gather(*(_timed(name, check) for name, check in self._checks.items()))
        self._fresh_until = time.monotonic() + FRESH_SECONDS
        return Report(findings=dict(zip(self._checks, findings, strict=True)))

    async def _check_database(self) -> Finding:
        try:
            await check_database(self._service.repository.db)
        except DatabaseError as error:
            return _failed("PostgreSQL does not answer", error)
        return FINE

    async def _check_schema(self) -> Finding:
        try:
            await check_current_schema(self._service.repository.db)
        except SchemaMismatchError as error:
            return _failed(f"the schema is at revision {error.found}, not at {error.expected}", error)
        except DatabaseError as error:
            return _failed("PostgreSQL does not say", error)
        return FINE

    async def _check_admission(self) -> Finding:
        try:
            self._service.admission.check_any()
        except OverloadedError as error:
            return Finding(verdict=Verdict.DEGRADED, reason=str(error))
        return FINE


async def _timed(name: str, check: Check) -> Finding:
    began = time.monotonic()
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            found = await check()
    except TimeoutError:
        found = Finding(verdict=Verdict.FAILED, reason=f"no answer within {CHECK_SECONDS:g} s")
    except Exception as error:  # a check that breaks has not passed, and must not keep the others from being told
        log.exception("readiness.check_failed", check=name, error=str(error))
        found = Finding(verdict=Verdict.FAILED, reason="the check itself failed; the log says how")
    return Finding(verdict=found.verdict, reason=found.reason, seconds=time.monotonic() - began)


async def _check_worker(worker: Worker, longest_silence: float) -> Finding:
    if not worker.ready.is_set():
        return Finding(verdict=Verdict.FAILED, reason="the worker has not registered itself yet")
    silence = time.monotonic() - worker.heard_at
    if silence > longest_silence:
        return Finding(verdict=Verdict.FAILED, reason=f"the worker's last heartbeat was {silence:.0f} s ago")
    return FINE


async def _check_relay(relay: DurableRelay) -> Finding:
    if relay.state.failing_since is None:
        return FINE
    seconds = time.monotonic() - relay.state.failing_since
    return Finding(verdict=Verdict.DEGRADED, reason=f"no event could be published for {seconds:.0f} s")


async def _check_commands(consumer: CommandConsumer) -> Finding:
    for since, what in (
        (consumer.state.failing_since, "no command could be read"),
        (consumer.tally.waiting_since, "commands have waited for PostgreSQL"),
    ):
        if since is not None:
            return Finding(verdict=Verdict.DEGRADED, reason=f"{what} for {time.monotonic() - since:.0f} s")
    return FINE


async def _check_barrier(survey: RelaySurvey) -> Finding:
    await survey.refresh(CHECK_SECONDS)
    barrier = survey.barrier
    if barrier is None or barrier.seconds < BARRIER_SECONDS:
        return FINE
    reason = f"backend {barrier.holder} has kept a transaction open for {barrier.seconds:.0f} s"
    return Finding(verdict=Verdict.DEGRADED, reason=reason)


def _failed(reason: str, error: DatabaseError) -> Finding:
    log.warning("readiness.failed", reason=reason, error=str(error))
    return Finding(verdict=Verdict.FAILED, reason=reason)
