"""`run_demo`: the whole demo, from the first worker to the verdict."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from rich.console import Console

from events.envelope import Envelope
from execution.demo.board import Board
from execution.demo.checks import (
    Check,
    Recorded,
    check_at_once,
    check_cancelled,
    check_drained,
    check_log_is_truth,
    check_not_repeated,
    check_paused,
    check_published,
    check_rescued,
    check_stale_refused,
)
from execution.demo.inputs import DemoInput, find_input
from execution.demo.readings import check_results, check_summary
from execution.demo.report import DemoReport
from execution.demo.scenes import (
    COUNTING_KINDS,
    READING_KINDS,
    AtOnce,
    Rescue,
    StaleCommand,
    cancel_half_way,
    kill_and_rescue,
    pause_and_resume,
    submit_at_once,
)
from execution.demo.stage import Stage, StageProcess, open_stage
from execution.demo.topic import DemoTopic, forgotten
from execution.errors import ExecutionServiceError
from execution.service import ExecutionService

MAX_SECONDS = 120.0
_PAGE = 500
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class DemoTooSlowError(ExecutionServiceError):
    """The demo did not come to its end."""

    code = "demo_too_slow"

    def __init__(self) -> None:
        super().__init__(
            f"The demo was not through after {MAX_SECONDS:g} s. Is the folder very large, or the machine busy?"
        )


@dataclass(frozen=True, kw_only=True)
class Played:
    """What the scenes left to judge."""

    at_once: AtOnce
    stale: StaleCommand
    rescue: Rescue
    drained: Sequence[int]
    published: Sequence[Envelope] | None
    """What was read from Kafka; None: nothing was said there."""


async def run_demo(path: Path, screen: Console, *, over_kafka: bool = False) -> DemoReport:
    """Play every scene on the folder, judge what was recorded, show it, and leave nothing behind.

    Args:
        over_kafka: publish everything to the brokers that the environment names, and judge that, too.

    Raises:
        NoFolderError: the folder does not exist.
        SettingsError: no brokers are named, or it is not said rightly how to reach them.
        TopicUnreadableError: the brokers do not give back what was published.
        DemoTooSlowError, SceneFailedError, WorkerNotReadyError: it broke off.
    """
    given, began = find_input(path), time.time()
    topic = DemoTopic.from_environment() if over_kafka else None
    with _cancelled_by_signals():
        try:
            async with asyncio.timeout(MAX_SECONDS), forgotten(topic), open_stage(given.roots) as stage:
                played = await _play(stage, given, screen, topic)
                report = await _judge(stage, given, played, began)
        except TimeoutError:
            raise DemoTooSlowError from None
    report.print_to(screen)
    return report


async def _play(stage: Stage, given: DemoInput, screen: Console, topic: DemoTopic | None) -> Played:
    async with Board(stage.service, screen) as board:
        board.say(f"embedded PostgreSQL is up; starting two workers for {given.folder}")
        relay = await _start_relay(stage, board, topic) if topic is not None else None
        one = await stage.start_worker("one", COUNTING_KINDS)
        two = await stage.start_worker("two", READING_KINDS)
        await asyncio.gather(one.ready(), two.ready())
        at_once = await submit_at_once(stage, board, given)
        others = (stage.service.wait(execution.id) for execution in at_once.ordinary)
        stale, *_ = await asyncio.gather(
            pause_and_resume(stage, board, at_once.to_pause),
            cancel_half_way(stage, board, at_once.to_cancel),
            asyncio.gather(*others),
        )
        rescue = await kill_and_rescue(stage, board, one)
        await board.caught_up()
        board.say("asking the remaining workers to stop")
        drained = list(await asyncio.gather(two.drain(), rescue.replacement.drain()))
        published = None
        if topic is not None and relay is not None:
            drained.append(await relay.drain())  # it publishes what is there first
            published = await topic.read()
    return Played(at_once=at_once, stale=stale, rescue=rescue, drained=drained, published=published)


async def _start_relay(stage: Stage, board: Board, topic: DemoTopic) -> StageProcess:
    relay = await stage.start_relay(topic.variables)
    await relay.ready()
    board.say(f"a relay publishes every event to Kafka, topic {topic.name} at {topic.servers}")
    return relay


async def _judge(stage: Stage, given: DemoInput, played: Played, began: float) -> DemoReport:
    records = await _read_all(stage.service)
    at_once, rescue, stale = played.at_once, played.rescue, played.stale
    truth, problems = check_log_is_truth(list(records.values()))
    inventory = records[at_once.inventory.id].row.result or {}
    analyses = [(text, records[one.id].row.result or {}) for text, one in zip(given.texts, at_once.texts, strict=True)]
    summary = records[at_once.summary.id].row
    letters = stage.letter_box.read_text().split()
    checks: list[Check] = [
        check_at_once([records[one.id] for one in at_once.ordinary]),
        await asyncio.to_thread(check_results, given.folder, inventory, analyses, unchanged_since=began),
        check_summary(summary.parameters["text"], summary.result or {}),
        check_cancelled(records[at_once.to_cancel.id]),
        check_paused(records[at_once.to_pause.id]),
        check_stale_refused(stale.refusal, stale.before, stale.after),
        check_rescued(records[rescue.repeatable.id], rescue.exit_code),
        check_not_repeated(records[rescue.letter.id], letters),
        check_drained(played.drained),
        truth,
    ]
    if played.published is not None:
        checks.append(check_published(list(records.values()), played.published))
    return DemoReport(
        checks=checks,
        problems=problems,
        history=records[rescue.repeatable.id].log,
        inventory=inventory,
        analysis=analyses[0][1],
        summary=(summary.result or {}).get("output", {}),
        seconds=time.time() - began,
    )


async def _read_all(service: ExecutionService) -> dict[UUID, Recorded]:
    """Every execution there is, with its whole log."""
    records: dict[UUID, Recorded] = {}
    before: UUID | None = None
    while page := await service.repository.list_after({}, before_id=before, limit=_PAGE):
        before = page[-1].id
        for listed in page:
            records[listed.id] = await _read(service, listed.id)
    return records


async def _read(service: ExecutionService, execution_id: UUID) -> Recorded:
    log = list(await service.history(execution_id))
    while more := await service.history(execution_id, after_version=log[-1].version):
        log += more
    return Recorded(row=await service.get_execution(execution_id), log=tuple(log))


@contextmanager
def _cancelled_by_signals() -> Iterator[None]:
    """A stop signal breaks the demo off; later ones do not disturb it while it tidies up."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if not task.cancelling():
            task.cancel()

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
