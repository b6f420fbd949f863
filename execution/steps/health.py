"""How the service is: sampled in the background, so that whoever executes a step may look without waiting.

It changes nothing, and needs no more than two small queries per sample.
"""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass

import psutil

from execution.domain.execution import JsonObject
from execution.loop_lag import LoopLag
from execution.queue_survey import QueueSurvey
from execution.readiness import Readiness, Report, Verdict
from execution.relay_survey import RelaySurvey
from execution.service import ExecutionService

LOOK_SECONDS = 2.0
"""What one look at the queue or the relay may take."""
_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class _Sample:
    taken_at: float
    health: JsonObject


class ServiceHealthObserver:
    """Observes a service from within its process. Its `run()` samples; `observe_health()` answers from any thread.

    Args:
        readiness: the checks of this process; None: those that every process has.
        relay: a look at what is not published yet; None: nothing is said of the relay.
    """

    def __init__(
        self, service: ExecutionService, *, readiness: Readiness | None = None, relay: RelaySurvey | None = None
    ) -> None:
        self._service = service
        self._readiness = readiness or Readiness(service)
        self._relay = relay
        self._queue = QueueSurvey(service.repository.db, lambda: service.registry.kinds)
        self._loop_lag = LoopLag()
        self._sample: _Sample | None = None

    def observe_health(self) -> JsonObject:
        """The last sample and its age.

        `status` (`ok`, `degraded`, `failed`; `unknown` before the first), `age_seconds`, `checks` (by name: `verdict`,
        `reason`), `queue`, `relay`, `worker`, `loop_lag_seconds`, `host`. What could not be seen is None. An old sample
        means that the sampling, and most likely its loop, stands still.
        """
        sample = self._sample
        if sample is None:
            return {"status": "unknown", "age_seconds": None}
        return {**sample.health, "age_seconds": round(time.monotonic() - sample.taken_at, 3)}

    @property
    def sampled_at(self) -> float | None:
        """When the last sample was taken, on the monotonic clock; None before the first."""
        return self._sample.taken_at if self._sample else None

    async def run(self) -> None:
        """Sample until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._loop_lag.run(), name="health: loop lag")
            tasks.create_task(self._keep_sampling(), name="health: samples")

    async def sample(self) -> None:
        """Take one sample now."""
        _, _, report, host = await asyncio.gather(
            self._queue.refresh(LOOK_SECONDS),
            self._relay.refresh(LOOK_SECONDS) if self._relay else asyncio.sleep(0),
            self._readiness.report(),
            asyncio.to_thread(_of_host),
        )
        health = _of_checks(report) | {
            "queue": self._of_queue(),
            "relay": self._of_relay(),
            "worker": self._of_worker(),
            "loop_lag_seconds": round(self._loop_lag.seconds, 6),
            "host": host,
        }
        self._sample = _Sample(taken_at=time.monotonic(), health=health)

    async def _keep_sampling(self) -> None:
        while True:
            await self.sample()
            await asyncio.sleep(self._service.settings.steps_health_interval_seconds)

    def _of_queue(self) -> JsonObject | None:
        depth = self._queue.depth
        if depth is None:
            return None
        return {
            "waiting": depth.waiting,
            "held": sum(depth.held.values()),
            "oldest_wait_seconds": round(depth.oldest_wait, 3),
        }

    def _of_relay(self) -> JsonObject | None:
        lag = self._relay.lag if self._relay else None
        return None if lag is None else {"events_waiting": lag.events, "lag_seconds": round(lag.seconds, 3)}

    def _of_worker(self) -> JsonObject:
        """Of this process; where no worker runs, it runs nothing."""
        slots, running = self._service.settings.worker_concurrency, len(self._service.background_tasks)
        return {"slots": slots, "running": running, "saturation": round(running / slots, 3)}


def _of_checks(report: Report) -> JsonObject:
    verdicts = {one.verdict for one in report.findings.values()}
    worst = next((one for one in (Verdict.FAILED, Verdict.DEGRADED) if one in verdicts), Verdict.OK)
    checks = {name: {"verdict": str(one.verdict), "reason": one.reason} for name, one in report.findings.items()}
    return {"status": str(worst), "checks": checks}


def _of_host() -> JsonObject:
    memory, (load, *_) = psutil.virtual_memory(), psutil.getloadavg()
    processors = os.cpu_count() or 1
    return {
        "memory_percent": memory.percent,
        "memory_available_mib": memory.available // _MIB,
        "load_1m": round(load, 2),
        "load_per_processor": round(load / processors, 3),
    }
