"""What the routes stand on: the parts that one process's HTTP door was built with."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request

from execution.api.asyncapi import kafka_contract
from execution.api.rate_limit import RateLimits
from execution.api.room import Rooms
from execution.api.streams import OpenStreams
from execution.command_consumer import CommandConsumer
from execution.domain.execution import JsonObject
from execution.durable_relay import DurableRelay
from execution.keys import KeyRing
from execution.metrics import ServiceMetrics
from execution.readiness import Readiness
from execution.relay_survey import RelaySurvey
from execution.service import ExecutionService
from execution.settings import Settings
from execution.worker import Worker


@dataclass(frozen=True, kw_only=True)
class Door:
    """The parts of one app, in its state."""

    service: ExecutionService
    keys: KeyRing
    rates: RateLimits
    metrics: ServiceMetrics
    readiness: Readiness
    rooms: Rooms
    streams: OpenStreams
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when nothing more is accepted: whatever waits for something else to happen ends."""

    def look_after(self, worker: Worker) -> None:
        """A worker runs in this process: metrics and readiness tell of it."""
        self.metrics.worker = worker
        self.readiness.watch_worker(worker)

    def watch_cursor(self, survey: RelaySurvey) -> None:
        """Events go to Kafka, from this process or another one."""
        self.metrics.relay.survey = survey
        self.readiness.watch_barrier(survey)

    def watch_relay(self, relay: DurableRelay) -> None:
        """They go from this process, or may."""
        self.metrics.relay.relay = relay
        self.readiness.watch_relay(relay)

    def watch_commands(self, consumer: CommandConsumer) -> None:
        """Commands over Kafka are carried out in this process."""
        self.metrics.commands.consumer = consumer
        self.readiness.watch_commands(consumer)

    @cached_property
    def kafka_contract(self) -> JsonObject:
        """The AsyncAPI document, made once."""
        return kafka_contract(self.settings)

    @property
    def settings(self) -> Settings:
        """The settings of the service."""
        return self.service.settings


def door_of(request: Request) -> Door:
    """The parts of the app that a request came to."""
    door: Door = request.app.state.door
    return door


async def _door(request: Request) -> Door:
    return door_of(request)


OwnDoor = Annotated[Door, Depends(_door)]
"""The parts, as a dependency of a route."""
