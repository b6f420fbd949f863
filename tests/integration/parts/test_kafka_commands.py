"""What a command bus over Kafka adds to every bus: deaths, deadlines that travel, records that nobody can read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from events.bus_records import ANSWERED, CAUSATION, command_record
from events.commands import InProcessCommandBus, NoReplyError, Payload, RejectedError
from events.deadlines import EXPIRY, time_in
from events.kafka_commands import CommandTopics
from events.request_reply import CORRELATION
from tests.support.command_topics import answering, asking, command_topics, responder_of, running
from tests.support.kafka import producer, read_topic
from tests.support.waiting import eventually, no_leaked_tasks

SOON = 40.0
LONG_ENOUGH_TO_SEND = 1.0


@pytest.fixture
async def topics(kafka: str) -> AsyncIterator[CommandTopics]:
    async with command_topics(kafka) as both:
        yield both


class Stuck:
    """A responder's function that never answers."""

    def __init__(self) -> None:
        self.is_asked = asyncio.Event()

    async def __call__(self, _: Payload) -> Payload:
        self.is_asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    def bus(self) -> InProcessCommandBus:
        async def answer(payload: Payload) -> Payload:
            return await self(payload)

        bus = InProcessCommandBus()
        bus.respond("model.complete", answer)
        return bus


def echo() -> InProcessCommandBus:
    bus = InProcessCommandBus()
    bus.respond("model.complete", lambda payload: payload)
    return bus


async def sent_anyhow(servers: str, topic: str, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
    async with producer(servers) as stranger:
        await stranger.send_and_wait(topic, value, key=b"k", headers=headers)


async def test_what_a_dead_responder_did_not_answer_another_one_does(kafka: str, topics: CommandTopics) -> None:
    async with no_leaked_tasks(), asking(kafka, topics) as bus:
        stuck = Stuck()
        dying = asyncio.create_task(responder_of(kafka, topics, stuck.bus()).run())
        waiting = asyncio.create_task(bus.request("model.complete", {"n": 1}, timeout=SOON))
        await asyncio.wait_for(stuck.is_asked.wait(), SOON)
        dying.cancel()
        await asyncio.wait([dying])
        async with running(responder_of(kafka, topics, echo())):
            assert await waiting == {"n": 1}


async def test_what_was_answered_is_not_answered_again(kafka: str, topics: CommandTopics) -> None:
    async with asking(kafka, topics) as bus:
        async with running(responder_of(kafka, topics, echo())):
            await bus.request("model.complete", {"n": 1}, timeout=SOON)
        second = responder_of(kafka, topics, echo())
        async with running(second):
            await bus.request("model.complete", {"n": 2}, timeout=SOON)
            await eventually(lambda: second.tally.answered > 0, within=SOON, what="the answer counted")
            assert second.tally.answered == 1
    assert len(await read_topic(kafka, topics.replies.name, checked=False)) == 2


async def test_what_nobody_waits_for_any_more_is_not_answered(kafka: str, topics: CommandTopics) -> None:
    stuck = Stuck()
    async with asking(kafka, topics) as bus:
        async with answering(kafka, topics):
            await bus.request("warm.up", {}, timeout=SOON)
        with pytest.raises(NoReplyError):
            await bus.request("model.complete", {}, timeout=LONG_ENOUGH_TO_SEND)
        responder = responder_of(kafka, topics, stuck.bus())
        async with running(responder):
            await eventually(lambda: responder.tally.expired == 1, within=SOON, what="the expired command")
        assert not stuck.is_asked.is_set()
        assert (bus.late, bus.failures) == (0, 1)


async def test_what_is_no_command_holds_nobody_up(kafka: str, topics: CommandTopics) -> None:
    good = command_record("model.complete", {}, source="/test")
    named = [*good.headers, (CORRELATION, b"c")]
    responder = responder_of(kafka, topics, echo())
    async with running(responder), asking(kafka, topics) as bus:
        await sent_anyhow(kafka, topics.commands.name, b"{}", good.headers)
        await sent_anyhow(kafka, topics.commands.name, b"[1]", named)
        await sent_anyhow(kafka, topics.commands.name, None, named)
        await sent_anyhow(kafka, topics.commands.name, b"{}", [*named, (EXPIRY, b"2030-01-01T00:00:00")])
        await sent_anyhow(kafka, topics.commands.name, b"\xff", [*named, (EXPIRY, b"soon")])
        assert await bus.request("model.complete", {"n": 1}, timeout=SOON) == {"n": 1}
        await eventually(lambda: responder.tally.malformed == 5, within=SOON, what="five malformed ones")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [({"text": "x" * 200_000}, "MessageSizeTooLarge"), ({"number": object()}, "not JSON serializable")],
)
async def test_an_answer_that_cannot_be_sent_is_an_error_as_the_answer(
    kafka: str, topics: CommandTopics, answer: Any, problem: str
) -> None:
    async with answering(kafka, topics) as responders, asking(kafka, topics) as bus:
        responders.respond("model.complete", lambda _: answer)
        with pytest.raises(RejectedError, match=problem):
            await bus.request("model.complete", {}, timeout=SOON)
        assert await bus.request("warm.up", {"n": 1}, timeout=SOON) == {"n": 1}


async def test_how_a_command_and_its_reply_look(kafka: str, topics: CommandTopics) -> None:
    async with answering(kafka, topics), asking(kafka, topics) as bus:
        await bus.request("warm.up", {"n": 1}, timeout=SOON)
    (command,) = await read_topic(kafka, topics.commands.name, checked=False)
    (reply,) = await read_topic(kafka, topics.replies.name, checked=False)
    asked, answered = dict(command.headers), dict(reply.headers)
    assert (command.value, reply.value) == (b'{"n":1}', b'{"n":1}')
    assert (asked["ce_type"], answered["ce_type"]) == (b"warm.up", b"warm.up" + ANSWERED.encode())
    assert asked["ce_specversion"] == answered["ce_specversion"] == b"1.0"
    assert (asked["ce_source"], answered["ce_source"]) == (b"/test", b"/test/responder")
    assert answered[CORRELATION] == asked[CORRELATION]
    assert answered[CAUSATION] == asked["ce_id"]
    assert asked["ce_time"] <= answered["ce_time"] <= time_in(0)
    assert asked["ce_time"] < asked[EXPIRY]
