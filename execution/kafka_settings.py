"""The settings that concern Kafka, and the relay that publishes to it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from execution.kafka_security_settings import KafkaSecuritySettings
from execution.setting_types import TopicName


class KafkaSettings(KafkaSecuritySettings):
    """A part of `Settings`."""

    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    kafka_timeout_seconds: Annotated[float, Field(ge=1, le=300, allow_inf_nan=False)] = 10.0
    """Time that connecting to Kafka, or publishing one batch, may take; then the connection is thrown away and made
    anew. Default 10 s: a broker that pauses to collect garbage is not given up."""

    kafka_events_topic: TopicName = "execution.events.v1"
    """Topic that events are published to, all types of them. Default `execution.events.v1`; created if it is not
    there."""

    kafka_events_partitions: Annotated[int, Field(ge=1, le=10_000)] = 12
    """Partitions the topic is created with. Default 12: so many consumers of one group can share the work. A change of
    them moves executions to other partitions, and their order across the change is lost."""

    kafka_events_retention_hours: Annotated[float, Field(gt=0, le=876_000, allow_inf_nan=False)] = 168.0
    """Time for which the topic is created to keep events. Default a week: what a consumer may be away."""

    kafka_replication_factor: Annotated[int, Field(ge=1, le=100)] | None = None
    """Copies of each partition that the topic is created with. Unset: the brokers' own default."""

    kafka_events_source: Annotated[str, Field(min_length=1, max_length=200)] = "/execution-service"
    """Who says so in each event (`ce_source`), a URI reference. Default `/execution-service`; tells several services on
    one topic apart."""

    kafka_events_from: Literal["beginning", "now"] = "beginning"
    """Where a relay begins that has never published: at the log's first event, or at what is new. Default `beginning`:
    what is in the log will be said."""

    kafka_model_commands_topic: TopicName = "model.commands.v1"
    """Topic that model calls are sent to. Default `model.commands.v1`; created if it is not there."""

    kafka_model_replies_topic: TopicName = "model.replies.v1"
    """Topic that they are answered on. Default `model.replies.v1`; created if it is not there."""

    kafka_batch_bytes: Annotated[int, Field(ge=16_384, le=16_777_216)] = 262_144
    """Most bytes that go to one partition in one batch. Default 256 KiB: larger ones gain nothing measurable."""

    relay_batch_limit: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """About how many events are published together. A relay that dies repeats at most about three times as many.
    Default 1,000: as fast as more."""

    relay_events_per_second: Annotated[int, Field(ge=1)] | None = None
    """Most events that are published per second; what is beyond that waits in the log. Unset: as fast as it can, which
    on a machine whose processors executions use up costs them more than they may want to give."""

    relay_lease_seconds: Annotated[float, Field(ge=1, le=3_600, allow_inf_nan=False)] = 10.0
    """Time after which another relay goes on where one has died. Default 10 s; one that stops hands over at once."""

    relay_niceness: Annotated[int, Field(ge=0, le=19)] = 10
    """How far the process of `execution relay` stands back behind others of its machine, as `nice` does; it also rests
    after large batches while others keep the processors busy and it would fall behind anyway. Default 10: where
    executions use all processors they lose little, and the relay catches up afterwards. 0: it does neither."""
