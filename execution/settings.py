"""What can be configured, from `EXECUTION_*` environment variables or from keyword arguments.

The text under a field is also its description in `execution settings` and docs/settings.md.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import SettingsConfigDict

from execution.command_settings import CommandSettings
from execution.errors import SettingsError
from execution.setting_types import ApiKeyText, Count, DatabaseUrl, Folders, LogLevel, Names, Seconds
from execution.steps_settings import StepsSettings

_PREFIX = "EXECUTION_"
_HEARTBEATS_BEFORE_DEAD = 3


@dataclass(frozen=True, kw_only=True)
class UnknownVariable:
    """An `EXECUTION_*` variable that sets nothing, and the name its author may have meant."""

    name: str
    nearest: str | None


class Settings(CommandSettings, StepsSettings):
    """Every setting of the service; immutable once loaded."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    # Database

    database_url: DatabaseUrl | None = None
    """PostgreSQL 18 to use, `postgresql://...`. Unset: an embedded one under `data_dir`, so that nothing has to be
    installed to begin with."""

    data_dir: Path = Path(".execution")
    """Folder of the embedded PostgreSQL. Default `.execution` in the current folder: each project has its own."""

    database_pool_size: Count = 8
    """Connections for reads and commands of one process. Default 8: statements are short, and many processes share
    PostgreSQL's `max_connections`."""

    append_lanes: Annotated[int, Field(ge=1, le=8)] = 1
    """Connections that write changes, beside the one that writes creations, each committing one batch at a time.
    Default 1: a lane writes more than one process can decide, and two would halve the batches, which costs PostgreSQL
    more."""

    append_batch_limit: Count = 200
    """Most appends in one commit. Default 200: larger batches gain little and delay their first caller."""

    submission_queue_limit: Count = 5_000
    """Most submissions that wait in one process to be recorded; further ones are refused as overload, and may be
    repeated. Default 5,000: about a second's worth, and some 30 MiB."""

    statement_timeout_seconds: Seconds = 10.0
    """Time PostgreSQL gives one statement. Default 10 s: far above any statement of this service, so that
    only a stuck one meets it."""

    connect_timeout_seconds: Seconds = 10.0
    """Time to open one database connection. Default 10 s: covers a restart of the server nearby."""

    # Worker

    worker_concurrency: Count = 100
    """Executions one worker process runs at once. Default 100: handlers mostly wait on others; lower it for
    heavy ones."""

    worker_kinds: Names | None = None
    """Kinds this worker claims, separated by commas. Unset: every kind registered in its process."""

    claim_batch_limit: Count = 200
    """Most executions claimed by one statement. Default 200: fills an empty worker at once."""

    eager_start: bool = True
    """Does a worker run what is submitted in its own process at once, without it being claimed, while it has free slots
    and nothing waits? Default true: saves a statement and a commit of three. False: everything waits for a claim."""

    heartbeat_interval_seconds: Seconds = 2.0
    """Time between two signs of life of a worker. Default 2 s: one small update per worker, not per execution."""

    worker_timeout_seconds: Seconds = 10.0
    """Silence after which a worker counts as dead and its executions are rescued. Default 10 s; at least three
    heartbeats, so that one lost heartbeat kills nobody."""

    drain_timeout_seconds: Seconds = 30.0
    """Time a stopping worker gives its running executions to end. Default 30 s: what service managers
    commonly grant."""

    cancel_grace_seconds: Seconds = 30.0
    """Time a handler has to react to a cancellation before it is abandoned. Default 30 s."""

    poll_interval_seconds: Seconds = 5.0
    """Longest time between two looks for work when no wake-up arrives. Default 5 s: wake-ups make it fast, polling
    makes it certain."""

    notify: bool = True
    """Wake other processes through PostgreSQL's NOTIFY, gathered on a connection of its own. Default on; off saves a
    busy database some work and leaves other processes to their poll."""

    loop_lag_warning_seconds: Seconds = 0.5
    """Delay of the event loop worth a warning: some handler blocks it. Default 0.5 s, a quarter of a heartbeat."""

    memory_limit_mib: Count | None = None
    """Memory in MiB above which a worker claims nothing new. Unset: no limit; the system's own limits rule."""

    # Executions

    progress_interval_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.25
    """Shortest time between two recorded progress events of one execution. Default 0.25 s: smooth for the eye, and a
    tight loop cannot flood the log. 0 records every report."""

    inline_limit_bytes: Annotated[int, Field(ge=1024)] = 262_144
    """Largest JSON document stored with an execution, in bytes. Default 256 KiB: rows stay cheap to copy
    and publish."""

    longest_wait_seconds: Seconds | None = None
    """Longest time that executions of a kind may wait for a worker: what would wait longer is refused as overload, so
    that the workers are left to end what they have. Under overload the wait is kept at half of it. Unset: everything is
    queued, and waits as long as it takes."""

    default_schedule_to_start_seconds: Seconds | None = None
    """Time an execution may wait for a worker when its submitter named none. Unset: as long as it takes."""

    default_start_to_close_seconds: Seconds | None = None
    """Time an execution may run when its submitter named none. Unset: as long as it takes."""

    tenant_id: Annotated[str, Field(min_length=1, max_length=100)] = "default"
    """Tenant whose executions this process submits and sees. Default `default`."""

    # Handlers

    handlers: Names = ()
    """Modules to import for their handlers, separated by commas. Default none: the built-in ones and those that
    installed packages announce are always there."""

    files_roots: Folders = Field(default_factory=lambda: (Path(),))
    """Folders below which the built-in file handlers may read, separated as in PATH; symbolic links are resolved.
    Default: the current folder, and nothing else of the machine."""

    model_service: Literal["kafka", "embedded"] | None = None
    """Who answers model calls: `execution model-service` over Kafka, or the model embedded in each worker. Unset: over
    Kafka where brokers are configured, embedded otherwise."""

    model_timeout_seconds: Seconds = 30.0
    """Time the model service has to answer one call. Default 30 s."""

    # Doors

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address the HTTP server listens on. Default: this machine only."""

    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """Port the HTTP server listens on. Default 8080; 0 takes a free one."""

    api_key: ApiKeyText | None = None
    """One key to the HTTP server, with every scope of `tenant_id`, at least 32 characters. Unset: the keys are those of
    `execution keys`; without any, only this machine is served, and needs none."""

    rate_limit_per_second: Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)] | None = None
    """Requests that one key may send per second to one server process, in the long run. Unset: no limit; what is too
    much depends on the clients, and overload is refused by admission anyway."""

    rate_limit_burst: Count | None = None
    """Requests that one key may send at once after a pause. Unset: what it may send in one second."""

    idempotency_key_hours: Annotated[float, Field(gt=0, le=8_760, allow_inf_nan=False)] = 24.0
    """Time for which a request that carries an idempotency key is remembered with its answer. Default 24 h: longer than
    any client goes on sending one request again, and a day of answers is little to keep."""

    request_limit_bytes: Annotated[int, Field(ge=1024)] | None = None
    """Largest body of a request, in bytes. Unset: `inline_limit_bytes` and 32 KiB for what stands around the
    document."""

    batch_limit_bytes: Annotated[int, Field(ge=1024)] = 8_388_608
    """Largest body of a request that submits many executions, in bytes. Default 8 MiB: a thousand of 8 KiB each."""

    request_timeout_seconds: Seconds = 30.0
    """Time a request has to arrive and to be answered, or a stream to begin; what `Prefer: wait` asks for comes on top.
    Default 30 s: a write that waits for PostgreSQL to come back gives up earlier, and says more."""

    requests_in_flight_limit: Count = 500
    """Requests that one process answers at once; further ones are refused as overload, in a moment. Default 500: some
    tenths of a second's worth, so that a client in the crowd is refused rather than kept waiting."""

    requests_waiting_limit: Count = 5_000
    """Requests with `Prefer: wait` that one process keeps waiting at once, beside those in flight. Default 5,000: each
    costs some memory and nothing else."""

    connection_limit: Count = 12_000
    """Connections that one process serves; on further ones requests are refused as overload, and far more are cut at
    once. Default 12,000: all streams and waiting requests there may be, and some thousands of others. The system has to
    allow the process as many open files."""

    shutdown_delay_seconds: Annotated[float, Field(ge=0, le=300, allow_inf_nan=False)] = 0.0
    """Time between readiness turning false and the HTTP server accepting nothing more, for balancers that look at it.
    Default 0: without a balancer it would only delay the stop."""

    access_log: bool = True
    """Write a line for each request. Default on."""

    require_if_match: bool = False
    """Refuse commands over HTTP that do not name the version they were decided on (`If-Match`). Default off: a command
    without it applies to whatever is there."""

    stream_ping_seconds: Seconds = 15.0
    """Longest silence of an event stream; then it sends a comment. Default 15 s: below the minute after which proxies
    give up a silent connection, and what a stream's client may take for a broken one."""

    stream_lifetime_seconds: Seconds = 3_600.0
    """Longest life of one event stream; its client connects again and goes on where it was. Default one hour: keys are
    looked at anew, and clients spread over the processes there are."""

    stream_limit: Count = 5_000
    """Most event streams of one process; further ones are refused as overload. Default 5,000: some 150 MiB."""

    stream_replay_limit: Count = 1_000_000
    """Most events of all tenants that a returning client of `/v1/events` can have missed and still be given. Default
    1,000,000: a few seconds of reading. Who has missed more is told so and begins anew from now."""

    log_level: LogLevel = "INFO"
    """Least severe log lines to write: DEBUG, INFO, WARNING, ERROR or CRITICAL. Default INFO."""

    log_format: Literal["console", "json"] = "console"
    """`console` for people, `json` for log collectors: one object per line. Default `console`."""

    @property
    def model_calls_over_kafka(self) -> bool:
        """Does another process answer them?"""
        return self.kafka_bootstrap_servers is not None and self.model_service != "embedded"

    @property
    def largest_record_bytes(self) -> int:
        """Bytes of the largest record: a result and an error, each as large as may be, and what stands around them."""
        return max(1_048_576, 2 * self.inline_limit_bytes + 65_536)

    @property
    def ordinary_request_limit_bytes(self) -> int:
        """Largest body of a request that is no batch."""
        return self.request_limit_bytes or self.inline_limit_bytes + 32_768

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Settings from the environment, `overrides` first; raises SettingsError with a line for each bad one."""
        try:
            return cls(**overrides)
        except ValidationError as error:
            # Without its cause, whose text would show the values, a password among them.
            raise SettingsError([_describe(problem) for problem in error.errors(include_url=False)]) from None

    @classmethod
    def unknown_environment(cls) -> list[UnknownVariable]:
        """Variables that look like settings and are none: most often a misspelling that changes nothing silently."""
        known = {variable_of(field) for field in cls.model_fields}
        unknown = sorted(name for name in os.environ if name.startswith(_PREFIX) and name not in known)
        return [
            UnknownVariable(name=name, nearest=next(iter(get_close_matches(name, known, n=1)), None))
            for name in unknown
        ]

    @model_validator(mode="after")
    def _check_heartbeat(self) -> Self:
        if self.worker_timeout_seconds < _HEARTBEATS_BEFORE_DEAD * self.heartbeat_interval_seconds:
            raise ValueError(
                f"{variable_of('worker_timeout_seconds')} ({self.worker_timeout_seconds:g}) must be at least "
                f"{_HEARTBEATS_BEFORE_DEAD} times {variable_of('heartbeat_interval_seconds')} "
                f"({self.heartbeat_interval_seconds:g})"
            )
        return self

    @model_validator(mode="after")
    def _check_model_service(self) -> Self:
        if self.model_service == "kafka" and self.kafka_bootstrap_servers is None:
            raise ValueError(
                f"{variable_of('model_service')} is kafka and no brokers are configured; set "
                f"{variable_of('kafka_bootstrap_servers')}, or leave it unset"
            )
        return self


def variable_of(field: str) -> str:
    """The environment variable that sets a field."""
    return _PREFIX + field.upper()


def _describe(problem: ErrorDetails) -> str:
    message = problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return message
    field = str(problem["loc"][0])
    if problem["type"] == "extra_forbidden":
        nearest = next(iter(get_close_matches(field, Settings.model_fields, n=1)), None)
        return f"{field} is not a setting" + (f"; did you mean {nearest}?" if nearest else "")
    shown = "" if is_secret(field) or problem["type"] == "value_error" else f" (got {problem['input']!r})"
    return f"{variable_of(field)}: {message[0].lower()}{message[1:]}{shown}"


def is_secret(field: str) -> bool:
    """Is its value never shown?"""
    return _holds_secret(Settings.model_fields[field].annotation)


def _holds_secret(annotation: object) -> bool:
    return annotation is SecretStr or any(_holds_secret(one) for one in get_args(annotation))
