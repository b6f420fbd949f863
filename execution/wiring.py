"""Puts the parts together: from settings to a running service, everything opened in one order and closed in reverse."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from events.bus import EventBus, InProcessEventBus
from events.commands import CommandBus
from events.kafka import KafkaEventBus
from execution.builtin import register_builtin_handlers
from execution.durable_relay import DurableRelay
from execution.embedded import EmbeddedPostgres
from execution.event_emitter import ExecutionEventEmitter
from execution.handlers import HandlerRegistry
from execution.kafka_access import events_topic, kafka_connection
from execution.log import hand_to_host
from execution.model_service import open_command_bus
from execution.repository.agents import Agent, AgentDirectory
from execution.repository.database import Database
from execution.repository.event_log import EventLog
from execution.repository.relay_cursors import BEGINNING, RelayCursorStore
from execution.repository.schema import migrate
from execution.service import ExecutionService
from execution.settings import Settings
from execution.steps.plan_kind import register_plans

EMBEDDED_AGENT = Agent(
    id="summarizer",
    model="extractive-summarizer",
    instructions="Say in a few of its own sentences what the text is about.",
)
"""The agent that is there from the start when nothing is configured."""


@asynccontextmanager
async def database_address(settings: Settings) -> AsyncIterator[str]:
    """The URL of the configured database, or of the embedded one, which runs as long as the block.

    Raises:
        EmbeddedPostgresError: it does not start.
    """
    if settings.database_url is not None:
        yield settings.database_url.get_secret_value()
    else:
        async with EmbeddedPostgres(settings.data_dir) as server:
            yield server.url


@asynccontextmanager
async def open_database(settings: Settings, *, bring_up_to_date: bool | None = None) -> AsyncIterator[Database]:
    """The configured database, or the embedded one where none is configured.

    Args:
        bring_up_to_date: migrate the schema first; None: only the embedded one, which nobody else looks after.

    Raises:
        EmbeddedPostgresError: the embedded server does not start.
        DatabaseUnavailableError, SchemaMismatchError: as `Database.start`.
    """
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(database_address(settings))
        if bring_up_to_date or (bring_up_to_date is None and settings.database_url is None):
            await migrate(url)
        yield await stack.enter_async_context(
            Database(
                url,
                pool_size=settings.database_pool_size,
                append_lanes=settings.append_lanes,
                batch_limit=settings.append_batch_limit,
                connect_timeout=settings.connect_timeout_seconds,
                statement_timeout=settings.statement_timeout_seconds,
                submission_queue_limit=settings.submission_queue_limit,
                notify=settings.notify,
            )
        )


@asynccontextmanager
async def open_service(
    settings: Settings | None = None,
    *,
    registry: HandlerRegistry | None = None,
    event_bus: EventBus | None = None,
    command_bus: CommandBus | None = None,
    relay: bool = True,
) -> AsyncIterator[ExecutionService]:
    """A running service: embedded PostgreSQL if no database is configured, an event bus inside the process if none is
    given, and the command bus that the settings say.

    It runs nothing itself; for that, `service.create_worker().run()`, or a process with `execution worker`. Without
    `relay` it tells the event bus nothing.

    Raises:
        SettingsError: the settings, or a module that `handlers` names, cannot be used.
        EmbeddedPostgresError, DatabaseUnavailableError, SchemaMismatchError: see `open_database`.
    """
    hand_to_host()
    settings = settings or Settings.load()
    handlers = _handlers(settings, registry)
    async with open_command_bus(settings) as model_bus, open_database(settings) as database:
        service = ExecutionService(
            database, event_bus or InProcessEventBus(), command_bus or model_bus, settings, registry=handlers
        )
        handlers.register("agent.task", service.task_runner.execute_standard_task)
        register_plans(service)
        if settings.database_url is None:
            await AgentDirectory(database).register(EMBEDDED_AGENT)
        try:
            await service.start(relay=relay)
            yield service
        finally:
            await service.stop()


@asynccontextmanager
async def open_kafka_relay(
    settings: Settings, database: Database, *, waited: Callable[[], float] | None = None
) -> AsyncIterator[DurableRelay]:
    """What publishes the log to the configured brokers, with its bus; run it with its `run()`.

    It connects when it has something to publish, and as often as it takes: a broker that is away keeps nobody from
    starting.

    Args:
        waited: how long others have kept it from running, so that it stands back for them (`RelayPace`).
    """
    bus = kafka_event_bus(settings)
    try:
        yield DurableRelay(
            EventLog(database),
            ExecutionEventEmitter(bus, settings.kafka_events_source),
            RelayCursorStore(database),
            database.wakeups,
            name=settings.kafka_events_topic,
            poll_interval=settings.poll_interval_seconds,
            lease_seconds=settings.relay_lease_seconds,
            batch_limit=settings.relay_batch_limit,
            most_per_second=settings.relay_events_per_second,
            waited=waited,
            start=BEGINNING if settings.kafka_events_from == "beginning" else None,
        )
    finally:
        await bus.stop()


def kafka_event_bus(settings: Settings) -> KafkaEventBus:
    """The bus of the configured brokers.

    Raises:
        SettingsError: as `kafka_connection`.
    """
    return KafkaEventBus(
        kafka_connection(settings),
        events_topic(settings),
        source=settings.kafka_events_source,
        batch_bytes=settings.kafka_batch_bytes,
    )


def _handlers(settings: Settings, own: HandlerRegistry | None) -> HandlerRegistry:
    """The built-in handlers, those of installed packages and of `EXECUTION_HANDLERS`, and the caller's own."""
    registry = HandlerRegistry()
    register_builtin_handlers(registry, settings.files_roots)
    registry.load(settings.handlers)
    if own is not None:
        registry.include(own)
    return registry
