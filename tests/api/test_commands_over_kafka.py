"""The Kafka door: who is believed, what is put aside and why, and that neither holds up the commands behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from events.codec import Record
from events.command_signature import SIGNATURE
from events.commands import NotSentError
from execution.command_consumer import CommandConsumer, open_command_consumer
from execution.errors import SettingsError
from execution.ids import new_id
from execution.keys import KeyRing
from execution.principal import Scope
from execution.service import ExecutionService
from tests.support.kafka import committed, create_topic, delete_topics, producer
from tests.support.kafka_commands import CommandTopics, Reply, carrying_out, command, signer, with_header
from tests.support.service import PATIENCE
from tests.support.waiting import eventually

TENANTS_TOPIC = "of-globex"
_NO_KEY = "exk_000000000000"


@pytest.fixture
async def command_topics(kafka: str) -> AsyncIterator[CommandTopics]:
    topics = CommandTopics(kafka)
    yield topics
    await delete_topics(kafka, topics.all)


@pytest.fixture
def changes(command_topics: CommandTopics) -> dict[str, Any]:
    return command_topics.settings | {"kafka_commands_partitions": 1}


@dataclass
class Sender:
    """Sends records as they are."""

    topics: CommandTopics
    producer: Any

    async def send(self, *records: Record, topic: str | None = None) -> None:
        """One after the other, to the same partition."""
        for one in records:
            sent = self.producer.send_and_wait(topic or self.topics.commands, one.value, one.key, headers=one.headers)
            async with asyncio.timeout(PATIENCE):
                await sent

    async def replies(self, count: int) -> list[Reply]:
        """So many, once they are there."""

        async def enough() -> list[Reply] | None:
            found = await self.topics.answered()
            return found if len(found) >= count else None

        found = await eventually(enough, within=PATIENCE, what=f"{count} replies")
        assert len(found) == count
        return found


@pytest.fixture
async def sender(command_topics: CommandTopics) -> AsyncIterator[Sender]:
    async with producer(command_topics.servers, max_request_size=2_000_000) as bare:
        yield Sender(command_topics, bare)


async def key_of(keys: KeyRing, tenant: str = "acme", scope: Scope = Scope.WRITE) -> str:
    """A key's prefix."""
    return (await keys.create(f"key-{new_id()}", tenant_id=tenant, scopes=[scope])).key.prefix


def signed(topics: CommandTopics, key: str, *arguments: Any, **changes: Any) -> Record:
    """A command that is right, but for the changes."""
    return signer(key).sign(topics.commands, command(*arguments, **changes).to_record())


class TestWhoIsBelieved:
    async def test_the_tenant_is_the_keys(
        self, service: ExecutionService, keys: KeyRing, command_topics: CommandTopics
    ) -> None:
        acme, globex = await key_of(keys), await key_of(keys, "globex")
        async with (
            carrying_out(service, keys),
            command_topics.client(acme) as client,
            command_topics.client(globex) as stranger,
        ):
            created = await client.create({"kind": "noop", "start": False})
            assert created.execution is not None
            own = await service.for_tenant("acme").get_execution(created.execution["id"])
            refused = await stranger.send("start", own.id)
            assert (refused.status, (refused.problem or {})["code"]) == (404, "execution_not_found")
            assert (await client.send("start", own.id)).is_accepted
        (first, *_) = await service.for_tenant("acme").history(own.id)
        assert (first.actor or "").startswith("key:key-")

    async def test_a_key_that_may_not_write_and_one_that_was_revoked(
        self, service: ExecutionService, keys: KeyRing, command_topics: CommandTopics, sender: Sender
    ) -> None:
        reader, former = await key_of(keys, scope=Scope.READ), await key_of(keys)
        await keys.revoke(former)
        async with carrying_out(service, keys):
            async with command_topics.client(reader) as client:
                refused = await client.create({"kind": "noop"})
            assert (refused.status, (refused.problem or {})["code"]) == (403, "insufficient_scope")
            await sender.send(signed(command_topics, former, "create", None, {"kind": "noop"}))
            (letter,) = await command_topics.until_dead(1)
        assert (letter["dlq-error"], b"revoked" in letter["dlq-message"]) == (b"untrusted_command", True)
        assert await count(service) == 0

    async def test_nobody_is_believed_without_a_signature(
        self, service: ExecutionService, keys: KeyRing, command_topics: CommandTopics, sender: Sender
    ) -> None:
        key = await key_of(keys)
        right = signed(command_topics, key, "create", None, {"kind": "noop"})
        wrong = [
            command("create", None, {"kind": "noop"}).to_record(),
            with_header(right, SIGNATURE, b"0" * 64),
            with_header(right, "ce_id", b"another"),
            Record(right.key, orjson.dumps({"kind": "noop", "priority": 9}), right.headers),
            signed(command_topics, _NO_KEY, "create", None, {"kind": "noop"}),
            signed(command_topics, "settings", "create", None, {"kind": "noop"}),
            signed(command_topics, key, "create", None, {"kind": "noop"}, tenant="globex"),
            signer(key).sign("another topic", command("create", None, {"kind": "noop"}).to_record()),
        ]
        async with carrying_out(service, keys):
            await sender.send(*wrong, right)
            (reply,) = await sender.replies(1)
            letters = await command_topics.until_dead(len(wrong))
        assert {one["dlq-error"] for one in letters} == {b"untrusted_command"}
        assert (reply.document.status, reply.headers["ce_tenant"]) == (202, b"acme")
        assert await count(service) == 1

    async def test_a_topic_of_a_tenants_own(
        self, database_url: str, service: ExecutionService, keys: KeyRing, command_topics: CommandTopics, sender: Sender
    ) -> None:
        own = await create_topic(command_topics.servers)
        tenants = service.settings.model_copy(update={"kafka_commands_tenants": {own: "globex"}})
        service.settings = tenants
        try:
            async with carrying_out(service, keys):
                await sender.send(
                    command("create", None, {"kind": "noop"}).to_record(),
                    command("create", None, {"kind": "noop"}, tenant="acme").to_record(),
                    topic=own,
                )
                (reply,) = await sender.replies(1)
                (letter,) = await command_topics.until_dead(1)
        finally:
            await delete_topics(command_topics.servers, [own])
        assert (reply.headers["ce_tenant"], reply.document.status) == (b"globex", 202)
        assert (letter["dlq-topic"], letter["dlq-error"]) == (own.encode(), b"untrusted_command")

    async def test_where_nobody_could_be_believed_nothing_is_read(
        self, service: ExecutionService, keys: KeyRing
    ) -> None:
        service.settings = service.settings.model_copy(update={"kafka_commands_secret": None})
        with pytest.raises(SettingsError, match="KAFKA_COMMANDS_SECRET"):
            async with open_command_consumer(service, keys):
                pass

    async def test_unsigned_if_that_is_allowed(
        self, service: ExecutionService, keys: KeyRing, command_topics: CommandTopics, sender: Sender
    ) -> None:
        service.settings = service.settings.model_copy(
            update={"kafka_commands_secret": None, "kafka_commands_allow_unsigned": True}
        )
        async with carrying_out(service, keys):
            await sender.send(
                command("create", None, {"kind": "noop"}).to_record(),
                command("create", None, {"kind": "noop"}, tenant="globex").to_record(),
            )
            (reply,) = await sender.replies(1)
            await command_topics.until_dead(1)
        assert (reply.headers["ce_tenant"], reply.document.status) == (b"default", 202)


class TestWhatIsPutAside:
    async def test_each_with_its_reason_and_without_holding_up_the_next(
        self, service: ExecutionService, keys: KeyRing, command_topics: CommandTopics, sender: Sender
    ) -> None:
        key, long_ago = await key_of(keys), datetime.now(UTC) - timedelta(hours=25)

        def of(*arguments: Any, **changes: Any) -> Record:
            return signed(command_topics, key, *arguments, **changes)

        other_key = of("cancel", new_id())
        known_sender: list[tuple[Record, bytes]] = [
            (of("delete", new_id()), b"unknown_command"),
            (of("create", None, type="com.example.create"), b"unknown_command"),
            (of("create", data=b"{"), b"malformed_request"),
            (of("create", data=b"\xff"), b"malformed_request"),
            (of("create", data=b"[" * 100_000), b"document_too_complex"),
            (of("create", data=b'"' + b"x" * 300_000 + b'"'), b"request_too_large"),
            (of("create", None, {"kind": "noop"}, time=long_ago), b"stale_command"),
            (of("create", None, {"kind": "noop"}, time=datetime.now(UTC) + timedelta(hours=1)), b"stale_command"),
            (of("create", None, {"kind": "noop"}, expected_version=3), b"malformed_command"),
            (of("create", new_id(), {"kind": "noop", "id": str(new_id())}), b"malformed_command"),
            (of("cancel"), b"malformed_command"),
        ]
        unknown_sender: list[tuple[Record, bytes]] = [
            (Record(b"", b"nonsense", []), b"malformed_command"),
            (Record(b"k", b"", [("ce_id", b"1"), ("ce_id", b"1")]), b"malformed_command"),
            (with_header(of("create", None, {"kind": "noop"}), "ce_type", None), b"malformed_command"),
            (Record(b"elsewhere", other_key.value, other_key.headers), b"malformed_command"),
        ]
        wrong = known_sender + unknown_sender
        async with carrying_out(service, keys) as running:
            await sender.send(*(record for record, _ in wrong), of("create", None, {"kind": "noop"}))
            replies = await sender.replies(len(known_sender) + 1)
            letters = await command_topics.until_dead(len(wrong))
        in_order = sorted(letters, key=lambda one: int(one["dlq-offset"]))
        assert [one["dlq-error"] for one in in_order] == [code for _, code in wrong]
        assert {one["dlq-topic"] for one in letters} == {command_topics.commands.encode()}
        by_offset = sorted(replies, key=lambda one: int(one.headers["ce_id"].rpartition(b":")[2]))
        codes = [(one.document.problem or {"code": ""})["code"].encode() for one in by_offset]
        assert codes == [code for _, code in known_sender] + [b""]
        assert running.tally.dead_letters.total() == len(wrong)
        assert await count(service) == 1

    async def test_a_defect_of_ours_does_not_hold_up_the_others(
        self, service: ExecutionService, keys: KeyRing, command_topics: CommandTopics, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(*_: Any, **__: Any) -> None:
            raise LookupError("hunter2")

        key = await key_of(keys)
        monkeypatch.setattr(service.state_manager, "apply", broken)
        async with carrying_out(service, keys), command_topics.client(key) as client:
            created = await client.create({"kind": "noop"})
            assert created.execution is not None
            refused = await client.send("cancel", created.execution["id"])
            assert (refused.status, (refused.problem or {})["code"]) == (500, "internal")
            (letter,) = await command_topics.until_dead(1)
            assert letter["dlq-error"] == b"internal"
            assert b"hunter2" not in b"".join(letter.values())
            monkeypatch.undo()
            assert (await client.send("cancel", created.execution["id"])).is_accepted


async def test_a_client_without_the_services_topics_says_so(command_topics: CommandTopics) -> None:
    async with command_topics.client(_NO_KEY) as client:
        with pytest.raises(NotSentError, match="is not there"):
            await client.create({"kind": "noop"}, timeout=2)  # the brokers have to be asked first


async def test_what_was_sent_before_the_first_start_is_carried_out(
    service: ExecutionService, keys: KeyRing, command_topics: CommandTopics, sender: Sender
) -> None:
    key = await key_of(keys)
    async with carrying_out(service, keys):
        pass  # the topics are there now
    await sender.send(signed(command_topics, key, "create", None, {"kind": "noop"}))
    async with carrying_out(service, keys):
        (reply,) = await sender.replies(1)
    assert reply.document.status == 202
    topics = command_topics
    assert await committed(topics.servers, topics.commands, topics.name, partitions=1) == 1


async def test_a_silent_consumer_is_started_again(
    service: ExecutionService, keys: KeyRing, command_topics: CommandTopics
) -> None:
    key = await key_of(keys)
    service.settings = service.settings.model_copy(update={"kafka_commands_silence_seconds": 1.0})
    async with carrying_out(service, keys) as running, command_topics.client(key) as client:
        assert (await client.create({"kind": "noop"})).is_accepted
        make_silent(running)
        assert (await client.create({"kind": "noop"}, timeout=PATIENCE)).is_accepted
        assert (running.state.restarts, running.state.rebuilds) == (1, 1)


def make_silent(running: CommandConsumer) -> None:
    """As when the client's fetcher has stopped: it is assigned, there is something, and nothing comes."""
    client = running.session._consumer if running.session else None
    assert client is not None
    client.pause(*client.assignment())


async def count(service: ExecutionService) -> int:
    """Executions of all tenants."""
    async with service.repository.db.pool.acquire() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM executions"))
