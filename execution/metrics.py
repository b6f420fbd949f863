"""What Prometheus is told: numbers that the parts keep for themselves, read when somebody scrapes.

The parts know nothing of Prometheus. Every name begins with `execution_`; times are seconds, sizes bytes. No label is
unbounded: a kind stands for itself while kinds are few or a handler of it is here, a route is a template, never a path.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)

from execution.command_metrics import CommandMetrics
from execution.durations import Durations
from execution.execution_tally import ExecutionTally
from execution.loop_lag import LoopLag
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
        yield GaugeMetricFamily(
            "execution_loop_lag_seconds",
            "Longest delay of the event loop in the last 15 to 30 seconds.",
            self._loop_lag.seconds,
        )
        about = {"version": version("execution-service"), "python": platform.python_version()}
        yield InfoMetricFamily("execution_build", "What runs here.", about)

    def _of_worker(self) -> Iterator[Metric]:
        worker, tasks = self.worker, self._service.background_tasks
        slots = self._service.settings.worker_concurrency
        yield _gauge(
            "worker_slots", "Executions that the worker of this process runs at most.", slots if worker else None
        )
        yield _gauge(
            "worker_running", "Executions that the worker of this process runs.", len(tasks) if worker else None
        )
        yield _counter(
            "worker_claims", "Claims that the worker of this process has made.", worker.claims if worker else None
        )
        yield _counter(
            "worker_claimed_executions", "Executions that those claims brought.", worker.claimed if worker else None
        )
        yield _counter(
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
    labels = ["method", "route", "status"]
    durations = HistogramMetricFamily(
        "execution_http_request_duration_seconds",
        "Time from a request's arrival to its answer's end; of a stream, to its beginning.",
        labels=labels,
    )
    for (method, route, status), one in requests.answered.items():
        _add(durations, [method, route, str(status)], one)
    yield durations
    yield _gauge("http_requests_in_flight", "Requests that are being answered.", requests.in_flight)
    yield _gauge("http_streams_open", "Open event streams.", requests.open_streams)
    yield _gauge("http_connections_open", "Open connections of HTTP clients.", requests.connections)
    yield _counter(
        "http_cut_connections",
        "Connections cut at once because too many were open.",
        requests.cut_connections,
    )
    yield _counter("http_response_bytes", "Bytes of the bodies of answers.", requests.sent_bytes)
    yield _counter("http_overloaded_requests", "Requests refused because there was no room.", requests.overloaded)
    yield _counter("http_rate_limited_requests", "Requests refused with 429.", requests.rate_limited)
    yield _counter("http_replayed_requests", "Requests answered with the first answer to their key.", requests.replays)


def _of_executions(tally: ExecutionTally) -> Iterator[Metric]:
    created = CounterMetricFamily(
        "execution_submissions", "Executions that this process recorded as new.", labels=["kind"]
    )
    for kind, count in tally.created.items():
        created.add_metric([kind], count)
    yield created
    ended = CounterMetricFamily(
        "execution_ends", "Ends of executions that this process recorded.", labels=["kind", "state"]
    )
    for (kind, state), count in tally.ended.items():
        ended.add_metric([kind, state], count)
    yield ended
    runs = HistogramMetricFamily(
        "execution_run_duration_seconds",
        "Time from the start of an execution's last attempt to its end.",
        labels=["kind"],
    )
    for kind, durations in tally.runs.items():
        _add(runs, [kind], durations)
    yield runs


def _of_queue(survey: QueueSurvey) -> Iterator[Metric]:
    depth = survey.depth
    yield _gauge(
        "queue_waiting", "Due executions that wait for a worker; counted to 100,000.", depth.waiting if depth else None
    )
    yield _gauge(
        "queue_scheduled",
        "Executions that wait for their time; counted to 100,000.",
        depth.scheduled if depth else None,
    )
    yield _gauge(
        "queue_oldest_wait_seconds",
        "How long the oldest due one has waited for a worker.",
        depth.oldest_wait if depth else None,
    )
    held = GaugeMetricFamily(
        "execution_queue_held", "Executions that workers hold; counted to 100,000.", labels=["state"]
    )
    for state, count in depth.held.items() if depth else ():
        held.add_metric([state], count)
    yield held


def _of_lanes(database: Database) -> Iterator[Metric]:
    lanes, queued = database.lanes.counts(), database.lanes.queued()
    size = SummaryMetricFamily("execution_append_batch_size", "Appends written per commit.", labels=["lane"])
    took = SummaryMetricFamily("execution_append_batch_seconds", "Time of the statement of a batch.", labels=["lane"])
    waiting = GaugeMetricFamily("execution_append_queued", "Appends that wait for their lane.", labels=["lane"])
    refused = CounterMetricFamily(
        "execution_append_refused", "Appends refused because the execution had changed.", labels=["lane"]
    )
    lost = CounterMetricFamily("execution_append_reconnects", "Connections that broke under a lane.", labels=["lane"])
    for name, counts in lanes.items():
        size.add_metric([name], counts.batches, counts.appends)
        took.add_metric([name], counts.batches, counts.seconds)
        waiting.add_metric([name], queued[name])
        refused.add_metric([name], counts.refused)
        lost.add_metric([name], counts.reconnects)
    yield from (size, took, waiting, refused, lost)


def _of_pool(database: Database) -> Iterator[Metric]:
    pool = database.pool
    connections = GaugeMetricFamily(
        "execution_pool_connections", "Connections of the pool for reads and commands.", labels=["state"]
    )
    connections.add_metric(["idle"], pool.get_idle_size())
    connections.add_metric(["used"], pool.get_size() - pool.get_idle_size())
    yield connections
    yield _gauge("pool_connections_limit", "Connections that the pool opens at most.", pool.get_max_size())


def _gauge(name: str, text: str, value: float | None) -> Metric:
    """A gauge without labels; None: it has no value here."""
    return GaugeMetricFamily(f"execution_{name}", text, value)


def _counter(name: str, text: str, value: float | None) -> Metric:
    return CounterMetricFamily(f"execution_{name}", text, value)


def _add(family: HistogramMetricFamily, labels: list[str], durations: Durations) -> None:
    bounds = [*(f"{bound:g}" for bound in durations.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(durations.counts), strict=True))
    family.add_metric(labels, buckets=buckets, sum_value=durations.total)
