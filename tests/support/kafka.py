"""Kafka for tests: one broker per run, brokers of a test's own to disturb, and topics that no other test knows.

Every wait on the network has a deadline: the client waits for ever in more than one place.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from execution.embedded.sharing import exclusive
from scripts.kafka.broker import Broker
from scripts.kafka.jars import check_possible, fetch
from scripts.kafka.java import BrokerError
from tests.support.kafka_contract import kafka_contract

WITHIN = 20.0
"""Far above what any of this takes, also beside other tests."""
SCRAM = "SCRAM-SHA-256"
NO_BROKER = "there is no Kafka broker for the tests"

_CONFIGURED = "EXECUTION_KAFKA_BOOTSTRAP_SERVERS"
_HANDED_OVER = "TEST_KAFKA_SERVERS"
_STARTING_SECONDS = 55.0


def hand_over_configured_servers() -> None:
    """Hide a configured broker from the services under test: they use one where a test says so, and nowhere else."""
    if _CONFIGURED in os.environ:
        os.environ[_HANDED_OVER] = os.environ.pop(_CONFIGURED)


def configured_servers() -> str | None:
    """Of the broker that whoever runs the tests has named."""
    return os.environ.get(_HANDED_OVER)


def require_broker() -> None:
    """Skip the test where no broker can be started. On a CI machine that has no other one either, that is a failure."""
    try:
        check_possible()
        fetch()
    except BrokerError as error:
        message = f"{NO_BROKER}: {error}. Or name one in {_CONFIGURED}"
        if os.environ.get("CI") == "true" and configured_servers() is None:
            pytest.fail(message)
        pytest.skip(message)


def start_shared_broker(run_folder: Path) -> str:
    """The servers of the run's broker, started by whichever test process asks first."""
    with exclusive(run_folder / "kafka.lock", within=_STARTING_SECONDS):
        require_broker()
        broker = Broker(run_folder / "kafka")
        broker.start()
    return broker.servers


def end_shared_broker(run_folder: Path) -> None:
    """At the end of the run, if it was ever started; what it holds is thrown away."""
    if (run_folder / "kafka").exists():
        Broker(run_folder / "kafka").kill()


async def create_topic(
    servers: str, *, partitions: int = 1, config: Mapping[str, str] | None = None, **options: Any
) -> str:
    """A topic with a name of its own."""
    name = f"test.{uuid4().hex}"
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, topic_configs=dict(config or {}))
    async with administrator(servers, **options) as admin, asyncio.timeout(WITHIN):
        await admin.create_topics([topic])
    return name


async def delete_topics(servers: str, names: Sequence[str]) -> None:
    """A configured broker is there for longer than the tests."""
    async with administrator(servers) as admin, asyncio.timeout(WITHIN):
        await admin.delete_topics(list(names))


async def produce(servers: str, topic: str, values: Iterable[bytes], **options: Any) -> None:
    """Send values, in this order and to partition 0; returns when the broker has them all."""
    async with producer(servers, **options) as sender, asyncio.timeout(WITHIN):
        sent = [await sender.send(topic, value, partition=0) for value in values]
        await asyncio.gather(*sent)


async def read_topic(servers: str, topic: str, *, within: float = WITHIN, **options: Any) -> list[Any]:
    """Every record that is in a topic now, partition by partition in the order of the log."""
    records: list[Any] = []
    async with consumer(servers, **options) as reader, asyncio.timeout(within):
        partitions = [TopicPartition(topic, number) for number in sorted(await _partitions(reader, topic))]
        reader.assign(partitions)
        ends = await reader.end_offsets(partitions)
        await reader.seek_to_beginning(*partitions)
        for partition in partitions:
            while await reader.position(partition) < ends[partition]:
                records += (await reader.getmany(partition, timeout_ms=500)).get(partition, [])
    return records


async def committed(servers: str, topic: str, group: str, *, partitions: int) -> int:
    """Records of a topic that a group need not read again, asked by somebody who is no member of it."""
    async with consumer(servers, group_id=group) as reader, asyncio.timeout(WITHIN):
        return sum([await reader.committed(TopicPartition(topic, one)) or 0 for one in range(partitions)])


async def _partitions(reader: Any, topic: str) -> set[int]:
    """Those of a topic that exists, once the client has heard of them; the caller's deadline ends the wait."""
    # The client asks for topics it has subscribed to; this one is assigned to by hand.
    while True:
        await reader._client.add_topic(topic)
        if partitions := reader.partitions_for_topic(topic):
            return set(partitions)
        await asyncio.sleep(0.05)
        await reader._client.force_metadata_update()


@asynccontextmanager
async def producer(servers: str, **options: Any) -> AsyncIterator[Any]:
    """A bare producer, started and stopped within deadlines."""
    async with _started(AIOKafkaProducer(bootstrap_servers=servers, acks="all", **options)) as started:
        yield started


@asynccontextmanager
async def consumer(servers: str, *topics: str, checked: bool = True, **options: Any) -> AsyncIterator[Any]:
    """A consumer, from the beginning unless told otherwise, started and stopped within deadlines.

    Args:
        checked: what it reads has to be as the contract says, as far as it claims to be of a kind that is in it.
    """
    options = {"auto_offset_reset": "earliest", "enable_auto_commit": False} | options
    async with _started(AIOKafkaConsumer(*topics, bootstrap_servers=servers, **options)) as started:
        if checked:
            _check_what_it_reads(started)
        yield started


def _check_what_it_reads(reader: Any) -> None:
    get_one, get_many = reader.getone, reader.getmany

    async def checked_one(*partitions: TopicPartition) -> Any:
        record = await get_one(*partitions)
        kafka_contract().check(record)
        return record

    async def checked_many(*partitions: TopicPartition, **limits: Any) -> Any:
        batches = await get_many(*partitions, **limits)
        for record in chain.from_iterable(batches.values()):
            kafka_contract().check(record)
        return batches

    reader.getone, reader.getmany = checked_one, checked_many


@asynccontextmanager
async def administrator(servers: str, **options: Any) -> AsyncIterator[Any]:
    """Who makes and deletes topics."""
    client = AIOKafkaAdminClient(bootstrap_servers=servers, **options)
    try:
        async with asyncio.timeout(WITHIN):
            await client.start()
        yield client
    finally:
        async with asyncio.timeout(WITHIN):
            await client.close()


@asynccontextmanager
async def _started(client: Any) -> AsyncIterator[Any]:
    try:
        async with asyncio.timeout(WITHIN):
            await client.start()
        yield client
    finally:
        async with asyncio.timeout(WITHIN):
            await client.stop()


def broker_with_users(folder: Path, passwords: Mapping[str, str]) -> Broker:
    """A broker that lets in whoever knows one of these passwords (SCRAM), and nobody else."""
    name, password = next(iter(passwords.items()))  # the broker is a client of its own, too
    login = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{name}" password="{password}";'
    overrides = {
        "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "sasl.enabled.mechanisms": SCRAM,
        "sasl.mechanism.inter.broker.protocol": SCRAM,
        f"listener.name.client.{SCRAM.lower()}.sasl.jaas.config": login,
    }
    users = [("--add-scram", f"{SCRAM}=[name={one},password={its}]") for one, its in passwords.items()]
    return Broker(folder, overrides=overrides, format_options=[option for user in users for option in user])


def as_user(name: str, password: str) -> dict[str, Any]:
    """What a client is given to be let in."""
    return {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": SCRAM,
        "sasl_plain_username": name,
        "sasl_plain_password": password,
    }
