"""What Prometheus is told: numbers that the parts keep for themselves, read when somebody scrapes.

The parts know nothing of Prometheus. Every name begins with `execution_`; times are seconds, sizes bytes. No label is
unbounded: a kind stands for itself while kinds are few or a handler of it is here, a route is a template, never a path.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import InfoMetricFamily, Metric

from execution.command_metrics import CommandMetrics
from execution.execution_tally import ExecutionTally
from execution.loop_lag import LoopLag
from execution.metric_families import counter, counter_by, gauge, gauge_by, histogram_by, summary_by
from execution.model_metrics import model_call_metrics
from execution.queue_survey import QueueSurvey
from execution.relay_metrics import RelayMetrics
from execution.repository.database import Database
from execution.request_tally import RequestTally
from execution.service import ExecutionService
from execution.worker import Worker

SURVEY_SECONDS = 2.0
"""What a scrape waits at most for a look at the queue."""


class ServiceMetrics:
    """The metrics of one process: of its service, of the worker in it if there is one, and of its HTTP door.

    Its `run()` measures how late the event loop is; everything else is counted by those whom it concerns.
    """

    def __init__(self, service: ExecutionService) -> None:
        self.requests = RequestTally()
        self.worker: Worker | None = None
        """The worker of this process, once there is one."""
        self.relay = RelayMetrics()
        self.commands = CommandMetrics()
        self._service = service
        self._loop_lag = LoopLag()
        self._executions = ExecutionTally(service.registry.__contains__)
        database = service.repository.db
        self._queue = QueueSurvey(database, lambda: {*service.registry.kinds, *self._executions.created})
        service.state_manager.listen(self._executions.noted)
        self._registry = CollectorRegistry()
        self._registry.register(_Reading(lambda: self._read(database)))
        ProcessCollector(namespace="execution", registry=self._registry)

    async def run(self) -> None:
        """Measure until cancelled."""
        await self._loop_lag.run()

    async def exposition(self) -> bytes:
        """What a scrape is answered with, in the text format 0.0.4."""
        await self._queue.refresh(SURVEY_SECONDS)
        await self.relay.refresh(SURVEY_SECONDS)
        return generate_latest(self._registry)

    def families(self) -> list[Metric]:
        """Every metric with its name, type, help and labels, whether or not it has a value."""
        return list(self._registry.collect())

    def _read(self, database: Database) -> Iterator[Metric]:
        yield from _of_requests(self.requests)
        yield from _of_executions(self._executions)
        yield from _of_queue(self._queue)
        yield from self._of_worker()
        yield from self.relay.read()
        yield from self.commands.read()
        yield from model_call_metrics(self._service.task_runner.command_bus)
        yield from _of_lanes(database)
        yield from _of_pool(database)
        yield gauge(
            "loop_lag_seconds",
            "Longest delay of the event loop in the last 15 to 30 seconds.",
            self._loop_lag.seconds,
        )
        about = {"version": version("execution-service"), "python": platform.python_version()}
        yield InfoMetricFamily("execution_build", "What runs here.", about)

    def _of_worker(self) -> Iterator[Metric]:
        worker, tasks = self.worker, self._service.background_tasks
        slots = self._service.settings.worker_concurrency
        yield gauge(
            "worker_slots", "Executions that the worker of this process runs at most.", slots if worker else None
        )
        yield gauge(
            "worker_running", "Executions that the worker of this process runs.", len(tasks) if worker else None
        )
        yield counter(
            "worker_claims", "Claims that the worker of this process has made.", worker.claims if worker else None
        )
        yield counter(
            "worker_claimed_executions", "Executions that those claims brought.", worker.claimed if worker else None
        )
        yield counter(
            "worker_eager_starts",
            "Executions that the worker of this process started without a claim.",
            worker.eager.taken if worker else None,
        )


@dataclass(frozen=True, eq=False)
class _Reading:
    """A collector that reads whenever it is asked."""

    read: Callable[[], Iterable[Metric]]

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now."""
        return self.read()


def _of_requests(requests: RequestTally) -> Iterator[Metric]:
    yield histogram_by(
        ["method", "route", "status"],
        "http_request_duration_seconds",
        "Time from a request's arrival to its answer's end; of a stream, to its beginning.",
        (((method, route, str(status)), one) for (method, route, status), one in requests.answered.items()),
    )
    yield gauge("http_requests_in_flight", "Requests that are being answered.", requests.in_flight)
    yield gauge("http_streams_open", "Open event streams.", requests.open_streams)
    yield gauge("http_connections_open", "Open connections of HTTP clients.", requests.connections)
    yield counter(
        "http_cut_connections",
        "Connections cut at once because too many were open.",
        requests.cut_connections,
    )
    yield counter("http_response_bytes", "Bytes of the bodies of answers.", requests.sent_bytes)
    yield counter("http_overloaded_requests", "Requests refused because there was no room.", requests.overloaded)
    yield counter("http_rate_limited_requests", "Requests refused with 429.", requests.rate_limited)
    yield counter("http_replayed_requests", "Requests answered with the first answer to their key.", requests.replays)


def _of_executions(tally: ExecutionTally) -> Iterator[Metric]:
    yield counter_by(
        ["kind"],
        "submissions",
        "Executions that this process recorded as new.",
        (((kind,), count) for kind, count in tally.created.items()),
    )
    yield counter_by(["kind", "state"], "ends", "Ends of executions that this process recorded.", tally.ended.items())
    yield histogram_by(
        ["kind"],
        "run_duration_seconds",
        "Time from the start of an execution's last attempt to its end.",
        (((kind,), durations) for kind, durations in tally.runs.items()),
    )


def _of_queue(survey: QueueSurvey) -> Iterator[Metric]:
    depth = survey.depth
    yield gauge(
        "queue_waiting", "Due executions that wait for a worker; counted to 100,000.", depth.waiting if depth else None
    )
    yield gauge(
        "queue_scheduled",
        "Executions that wait for their time; counted to 100,000.",
        depth.scheduled if depth else None,
    )
    yield gauge(
        "queue_oldest_wait_seconds",
        "How long the oldest due one has waited for a worker.",
        depth.oldest_wait if depth else None,
    )
    held = depth.held if depth else {}
    yield gauge_by(
        ["state"],
        "queue_held",
        "Executions that workers hold; counted to 100,000.",
        (((state,), count) for state, count in held.items()),
    )


def _of_lanes(database: Database) -> Iterator[Metric]:
    lanes, queued = database.lanes.counts(), database.lanes.queued()
    by = ["lane"]
    yield summary_by(
        by,
        "append_batch_size",
        "Appends written per commit.",
        (((name,), one.batches, one.appends) for name, one in lanes.items()),
    )
    yield summary_by(
        by,
        "append_batch_seconds",
        "Time of the statement of a batch.",
        (((name,), one.batches, one.seconds) for name, one in lanes.items()),
    )
    yield gauge_by(
        by, "append_queued", "Appends that wait for their lane.", (((name,), queued[name]) for name in lanes)
    )
    yield counter_by(
        by,
        "append_refused",
        "Appends refused because the execution had changed.",
        (((name,), one.refused) for name, one in lanes.items()),
    )
    yield counter_by(
        by,
        "append_reconnects",
        "Connections that broke under a lane.",
        (((name,), one.reconnects) for name, one in lanes.items()),
    )


def _of_pool(database: Database) -> Iterator[Metric]:
    size, idle = database.pool.get_size(), database.pool.get_idle_size()
    yield gauge_by(
        ["state"],
        "pool_connections",
        "Connections of the pool for reads and commands.",
        [(["idle"], idle), (["used"], size - idle)],
    )
    yield gauge("pool_connections_limit", "Connections that the pool opens at most.", database.pool.get_max_size())
