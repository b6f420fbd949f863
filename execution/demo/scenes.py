"""What happens in the demo, scene by scene."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from execution.demo.board import Board
from execution.demo.inputs import DemoInput
from execution.demo.stage import Stage, StageProcess
from execution.domain.evolve import evolve
from execution.domain.execution import Execution
from execution.domain.state import ExecutionState
from execution.errors import ExecutionServiceError, VersionConflict
from execution.service import ExecutionService
from execution.wiring import EMBEDDED_AGENT

MAX_FILES = 20_000
"""Of the inventory: the demo is to be short in a very large folder, too."""
LETTER_SECONDS = 60.0
STAND_STILL_SECONDS = 0.6
COUNTING_KINDS = ("noop", "demo.letter")
READING_KINDS = ("files.inventory", "text.analyze", "agent.task")


class SceneFailedError(ExecutionServiceError):
    """An execution ended before it had come as far as the scene needed it."""

    code = "scene_failed"

    def __init__(self, execution: Execution | None, awaited: str) -> None:
        seen = f"{execution.kind} {execution.id} is {execution.state}" if execution else "it has no log"
        super().__init__(
            f"The demo waited in vain until it {awaited}: {seen}. See `execution history` of your own ones."
        )


@dataclass(frozen=True, kw_only=True)
class AtOnce:
    """The executions that were submitted at once."""

    inventory: Execution
    texts: tuple[Execution, ...]
    summary: Execution
    counters: tuple[Execution, ...]
    to_cancel: Execution
    to_pause: Execution

    @property
    def ordinary(self) -> tuple[Execution, ...]:
        """Those that just run to their end."""
        return (self.inventory, *self.texts, self.summary, *self.counters, self.to_pause)


@dataclass(frozen=True, kw_only=True)
class StaleCommand:
    """How a command with an outdated version was answered, and the execution before and after it."""

    refusal: str | None
    before: Execution
    after: Execution


@dataclass(frozen=True, kw_only=True)
class Rescue:
    """What a kill -9 cut off: one execution that may be repeated, one that may not; and who took over."""

    repeatable: Execution
    letter: Execution
    exit_code: int
    replacement: StageProcess


async def submit_at_once(stage: Stage, board: Board, given: DemoInput) -> AtOnce:
    """Submit everything that only has to run, in one go."""

    async def submit(label: str, kind: str, parameters: Mapping[str, Any], **fields: Any) -> Execution:
        execution = await stage.service.create_execution(kind, parameters, **fields)
        board.follow(label, execution)
        return execution

    text = given.text_to_summarise
    summary = {"text": text, "max_sentences": 3}
    inventory, agent, to_cancel, to_pause, *others = await asyncio.gather(
        submit("inventory", "files.inventory", {"path": ".", "max_files": MAX_FILES}),
        submit(f"summary of {given.name_of(given.texts[0])}", "agent.task", summary, agent_id=EMBEDDED_AGENT.id),
        submit("to be cancelled", "noop", {"seconds": 4, "progress_reports": 16}),
        submit("to be paused", "noop", {"seconds": 2, "progress_reports": 10}),
        *(submit(f"counter {number}", "noop", {"seconds": 2.5, "progress_reports": 10}) for number in (1, 2)),
        *(submit(given.name_of(one), "text.analyze", {"path": given.name_of(one)}) for one in given.texts),
    )
    return AtOnce(
        inventory=inventory,
        texts=tuple(others[2:]),
        summary=agent,
        counters=tuple(others[:2]),
        to_cancel=to_cancel,
        to_pause=to_pause,
    )


async def cancel_half_way(stage: Stage, board: Board, execution: Execution) -> None:
    """Cancel it when it is half done."""
    await _until(stage.service, execution.id, lambda one: one.progress.percentage >= 50, "was half done")
    board.say("cancelling one half-way")
    await stage.service.cancel_execution(execution.id, reason="half is enough")
    await stage.service.wait(execution.id)


async def pause_and_resume(stage: Stage, board: Board, execution: Execution) -> StaleCommand:
    """Pause it at its next pause point, try a stale command on it while it stands still, and resume it."""
    service = stage.service
    await _until(service, execution.id, lambda one: one.progress.percentage >= 20, "had made some progress")
    board.say("pausing one")
    await service.pause_execution(execution.id, reason="to look at it")
    await _until(service, execution.id, lambda one: one.state is ExecutionState.PAUSED, "was paused")
    stale = await _command_stale(service, execution.id)
    board.say(f"a command on an old version: {stale.refusal or 'accepted!'}")
    await asyncio.sleep(STAND_STILL_SECONDS)
    board.say("resuming it")
    await service.resume_execution(execution.id, reason="seen enough")
    await service.wait(execution.id)
    return stale


async def kill_and_rescue(stage: Stage, board: Board, victim: StageProcess) -> Rescue:
    """Kill the worker in the middle of two runs, start another as any supervisor would, and see what comes of it."""
    service = stage.service
    letter_parameters = {"box": str(stage.letter_box), "seconds": LETTER_SECONDS}
    repeatable, letter = await asyncio.gather(
        service.create_execution("noop", {"seconds": 2, "progress_reports": 10}),
        service.create_execution("demo.letter", letter_parameters),
    )
    board.follow("idempotent, to be rescued", repeatable)
    board.follow("letter, never to be repeated", letter)
    await asyncio.gather(
        _until(service, repeatable.id, lambda one: one.progress.percentage >= 40, "was in its middle"),
        _until(service, letter.id, lambda one: one.progress.percentage >= 50, "had sent its letter"),
    )
    board.say(f"kill -9 {victim.pid}: the worker that runs both")
    exit_code = await victim.kill()
    replacement = await stage.start_worker("three", COUNTING_KINDS)
    await replacement.ready()
    await asyncio.gather(service.wait(repeatable.id), service.wait(letter.id))
    return Rescue(repeatable=repeatable, letter=letter, exit_code=exit_code, replacement=replacement)


async def _command_stale(service: ExecutionService, execution_id: UUID) -> StaleCommand:
    before = await service.get_execution(execution_id)
    refusal = None
    try:
        await service.cancel_execution(execution_id, expected_version=before.version - 1)
    except VersionConflict as error:
        refusal = f"{type(error).__name__}: {error}"
    return StaleCommand(refusal=refusal, before=before, after=await service.get_execution(execution_id))


async def _until(
    service: ExecutionService, execution_id: UUID, reached: Callable[[Execution], bool], awaited: str
) -> Execution:
    """The execution as soon as its log shows that it has come so far.

    Raises:
        SceneFailedError: it ended first.
    """
    execution: Execution | None = None
    async for item in service.watch(execution_id):
        execution = evolve(execution, item.to_event())
        if reached(execution):
            return execution
    raise SceneFailedError(execution, awaited)
