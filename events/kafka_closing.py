"""Starting and closing aiokafka's clients: in order if the brokers let them, and within seconds whatever they do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from typing import Any

import structlog
from aiokafka.errors import KafkaError

log = structlog.get_logger(__name__)

CLOSE_SECONDS = 2.0
"""What one step of closing may take."""

_Close = Callable[[], Awaitable[Any]]


async def start_client(client: Any) -> None:
    """Start a producer, a consumer or an administrator. Whoever is cancelled meanwhile, or has waited for too long,
    waits a moment more: a start that is broken off leaves the connection open that it has just asked something over.
    """
    starting = asyncio.create_task(client.start(), name="start a kafka client")
    try:
        await asyncio.shield(starting)
    except asyncio.CancelledError:
        await asyncio.wait([starting], timeout=CLOSE_SECONDS)
        starting.cancel()
        await asyncio.wait([starting])
        if not starting.cancelled():
            starting.exception()  # seen: the cancellation is what counts
        raise


async def close_producer(producer: Any) -> None:
    """Close it. What it still holds is given up: who sent that is told, or does not ask any more."""

    async def give_up() -> None:
        held = producer._message_accumulator
        waiting = list(chain.from_iterable(held._batches.values()))
        # One that is to be sent once more has been taken out of these, and is taken out again when it fails.
        held._pending_batches.update(batch for batch in waiting if batch.retry_count)
        held.fail_all(KafkaError("the producer has been closed"))
        for batch in waiting:
            hear(batch._drain_waiter)  # fails with the batch, and is waited for by nobody

    # A producer that is only stopped waits for the delivery of what it may never be able to deliver.
    await _close("producer", [producer._sender.close, give_up, producer.stop, producer.client.close])


async def close_consumer(consumer: Any) -> None:
    """Close it, and leave its group, so that others take over at once."""
    if not await _close("consumer", [consumer.stop]):
        coordinator, fetcher = consumer._coordinator, consumer._fetcher
        steps: list[_Close] = [fetcher.close] if fetcher is not None else []
        if hasattr(coordinator, "_stop_heartbeat_task"):
            steps += [coordinator._stop_heartbeat_task, coordinator._stop_commit_offsets_refresh_task]
        await _close("consumer", [*steps, consumer._client.close])


async def _close(what: str, steps: Sequence[_Close]) -> bool:
    """Take the steps, one after the other; False if one of them did not end well."""
    is_closed = True
    for step in steps:
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await step()
        except Exception as error:  # noqa: BLE001 - it is often closed because something is wrong with it
            log.debug("kafka.not_closed_in_order", what=what, error=told(error))
            is_closed = False
    return is_closed


def hear(future: asyncio.Future[Any]) -> None:
    """Take note of how it ended, so that an error nobody asks for any more is not told as one that was overlooked."""
    if future.done() and not future.cancelled():
        future.exception()


def told(error: BaseException) -> str:
    """What went wrong, also of errors without a text."""
    return f"{type(error).__name__}: {error}".rstrip(": ")
