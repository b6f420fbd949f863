"""Kafka's locks, on a real broker: who is let in, who is not, and that nobody hears a secret on the way."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import pytest

from events.bus import EventBusError
from events.envelope import Envelope
from events.kafka import KafkaEventBus
from events.kafka_topics import Topic
from execution.kafka_access import kafka_connection
from execution.settings import Settings
from tests.support.certificates import Authority
from tests.support.delayed_writers import DelayedWriters
from tests.support.facts import fact_envelope
from tests.support.kafka import require_broker
from tests.support.published import all_published, published
from tests.support.relay_process import relay_process
from tests.support.secure_broker import SecureBroker, secure_broker, unsigned_token
from tests.support.stored import AnyConnection
from tests.support.token_endpoint import token_endpoint

pytestmark = [pytest.mark.xdist_group("kafka"), pytest.mark.own_broker]

USER, PASSWORD = "ada", "an-engine-weaves-algebra"
SOON = 20.0
LOGGED_IN = "Authenticated via OAUTHBEARER"


@pytest.fixture(scope="module")
def broker(run_folder: Path) -> Iterator[SecureBroker]:
    require_broker()
    secured = secure_broker(run_folder / "secure-kafka", user=USER, password=PASSWORD)
    secured.broker.start()
    yield secured
    secured.broker.kill()


@pytest.fixture(autouse=True)
def nobody_hears_a_secret(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """At the finest level of every library, too."""
    caplog.set_level(logging.DEBUG)
    yield
    said = "\n".join(f"{record.name}: {record.getMessage()}" for record in caplog.get_records("call"))
    assert "aiokafka" in said
    assert PASSWORD not in said
    assert "eyJhbGciOiAibm9uZSJ9" not in said  # how each unsigned token begins


def by_login(broker: SecureBroker, mechanism: str, **others: Any) -> dict[str, Any]:
    return {
        "kafka_bootstrap_servers": broker.with_login,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": mechanism,
        "kafka_tls_ca_file": broker.authority.file,
        "kafka_timeout_seconds": 10,
    } | others


def by_password(broker: SecureBroker, mechanism: str = "SCRAM-SHA-512", **others: Any) -> dict[str, Any]:
    return by_login(broker, mechanism, kafka_username=broker.user, kafka_password=broker.password) | others


def by_certificate(broker: SecureBroker, **others: Any) -> dict[str, Any]:
    return {
        "kafka_bootstrap_servers": broker.with_certificate,
        "kafka_security_protocol": "SSL",
        "kafka_tls_ca_file": broker.authority.file,
    } | others


@asynccontextmanager
async def bus_of(settings: dict[str, Any]) -> AsyncIterator[KafkaEventBus]:
    """Administrator and producer: it makes its topic first."""
    topic = Topic(name=f"test.{uuid4().hex}", partitions=1, retention_seconds=3_600)
    bus = KafkaEventBus(kafka_connection(Settings.load(**settings)), topic, source="/test")
    try:
        async with asyncio.timeout(SOON):
            yield bus
    finally:
        await bus.stop()


async def publishes(settings: dict[str, Any]) -> None:
    """Is let in: administrator, producer, and consumer."""
    name = f"test.{uuid4().hex}"
    connection = kafka_connection(Settings.load(**settings))
    bus = KafkaEventBus(connection, Topic(name=name, partitions=1, retention_seconds=3_600), source="/test")
    try:
        async with asyncio.timeout(SOON):
            await bus.publish([fact_envelope()])
            options = connection.options()
            (event,) = (await published(options.pop("bootstrap_servers"), name, **options)).events
    finally:
        await bus.stop()
    assert event == fact_envelope()


async def is_kept_out(settings: dict[str, Any]) -> None:
    async with bus_of(settings) as bus:
        with pytest.raises(EventBusError) as caught:
            await bus.connect()
    assert PASSWORD not in str(caught.value)


class TestPasswords:
    @pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"])
    async def test_the_right_one_opens(self, broker: SecureBroker, mechanism: str) -> None:
        await publishes(by_password(broker, mechanism))

    @pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "PLAIN"])
    async def test_another_one_does_not_and_the_log_says_so(
        self, broker: SecureBroker, mechanism: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        await is_kept_out(by_password(broker, mechanism, kafka_password="guessed"))
        assert "SaslAuthenticationFailed" in caplog.text
        assert "guessed" not in caplog.text

    async def test_no_login_does_not_either(self, broker: SecureBroker) -> None:
        await is_kept_out(by_certificate(broker, kafka_bootstrap_servers=broker.with_login))


class TestCertificates:
    async def test_a_broker_that_nobody_vouches_for_is_not_talked_to(
        self, broker: SecureBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        await is_kept_out(by_password(broker, kafka_tls_ca_file=None))
        await is_kept_out(by_password(broker, kafka_tls_ca_file=Authority(tmp_path, "another").file))
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text

    async def test_nor_one_that_has_another_name(self, broker: SecureBroker, caplog: pytest.LogCaptureFixture) -> None:
        by_another_name = broker.with_login.replace("127.0.0.1", "localhost")
        await is_kept_out(by_password(broker, kafka_bootstrap_servers=by_another_name))
        assert "Hostname mismatch" in caplog.text

    @pytest.mark.parametrize("password", [None, "key-password"])
    async def test_a_certificate_opens_where_one_is_wanted(self, broker: SecureBroker, password: str | None) -> None:
        own = broker.authority.issue(f"client-{password}", password=password)
        await publishes(by_certificate(broker, kafka_tls_certificate_file=own, kafka_tls_key_password=password))

    async def test_without_one_or_with_one_of_somebody_else_there_is_no_way(
        self, broker: SecureBroker, tmp_path: Path
    ) -> None:
        await is_kept_out(by_certificate(broker))
        foreign = Authority(tmp_path, "another").issue("client")
        await is_kept_out(by_certificate(broker, kafka_tls_certificate_file=foreign))


class TestTokens:
    """The broker's own validator of unsigned tokens; who signs and checks real ones is no matter of the client."""

    async def test_of_a_file_that_somebody_renews(self, broker: SecureBroker, tmp_path: Path) -> None:
        file = tmp_path / "token"
        file.write_text(unsigned_token(USER, seconds=-30))
        async with bus_of(by_login(broker, "OAUTHBEARER", kafka_oauth_token_file=file)) as bus:
            with pytest.raises(EventBusError):
                await bus.connect()  # it has ended
            file.write_text(unsigned_token(USER))
            await bus.publish([fact_envelope()])
            assert bus.published == 1

    async def test_of_an_endpoint(self, broker: SecureBroker) -> None:
        async with token_endpoint(broker.authority.issue("endpoint")) as endpoint:
            endpoint.answer = lambda: (200, {"access_token": unsigned_token(USER), "expires_in": 3_600})
            client = {"kafka_oauth_client_id": "me", "kafka_oauth_client_secret": PASSWORD}
            urls = {"kafka_oauth_token_url": endpoint.url, "kafka_oauth_ca_file": broker.authority.file}
            await publishes(by_login(broker, "OAUTHBEARER", **client, **urls))
        assert len(endpoint.requests) == 1  # for all connections of all clients

    async def test_when_one_ends_the_broker_closes_and_publishing_goes_on_with_the_next(
        self, broker: SecureBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        file = tmp_path / "token"
        file.write_text(unsigned_token(USER, seconds=2))
        async with bus_of(by_login(broker, "OAUTHBEARER", kafka_oauth_token_file=file)) as bus:
            await bus.connect()
            file.write_text(unsigned_token(USER))
            logins, versions = caplog.text.count(LOGGED_IN), 0
            while caplog.text.count(LOGGED_IN) == logins or versions < 10:
                versions += 1
                await _published_in_the_end(bus, fact_envelope(version=versions))
                await asyncio.sleep(0.1)  # the token's time has to pass
            assert bus.published == versions


async def _published_in_the_end(bus: KafkaEventBus, envelope: Envelope) -> None:
    while True:
        try:
            return await bus.publish([envelope])
        except EventBusError:
            pass


async def test_the_relay_is_let_in_by_what_the_environment_says(
    broker: SecureBroker, database_url: str, sql: AnyConnection, chance: Random, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(f"{broker.password}\n")
    settings = by_password(broker, kafka_password=None, kafka_password_file=file)
    servers, topic = settings.pop("kafka_bootstrap_servers"), f"test.{uuid4().hex}"
    given = {name: value for name, value in settings.items() if value is not None}
    options = kafka_connection(Settings.load(kafka_bootstrap_servers=servers, **settings)).options()
    del options["bootstrap_servers"]
    async with relay_process(database_url, servers, topic, **given) as relay:
        await relay.ready()
        await DelayedWriters(database_url, chance, events=20).run()
        await all_published(servers, topic, sql, within=SOON, **options)
        assert await relay.stop() == 0
