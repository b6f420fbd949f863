"""Plans that begin at the same time have the beginnings of their logs read together."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from execution.domain.history import HistoryItem
from execution.repository.gathering import Gathering
from execution.repository.repository import ExecutionRepository
from execution.steps.model import JobStep
from execution.steps.plan_log import PlanLog

ENTRIES = 8
"""Of a log that are read together with those of others: a plan that nobody has run yet has three."""


class PlanBeginnings:
    """Reads the logs of plans that are about to run, of many in one query where they are short."""

    def __init__(self, repository: ExecutionRepository) -> None:
        self._repository = repository
        self._beginnings = Gathering("beginnings of plans", self._read_all)

    async def read(self, execution_id: UUID, plan: tuple[JobStep, ...], *, attempt: int) -> PlanLog:
        """The log of a plan. From the second attempt on it may be long, and large, and is read by itself."""
        log = PlanLog(plan)
        beginning = await self._beginnings.ask(execution_id) if attempt == 1 else []
        for item in beginning:
            log.take(item)
        if attempt > 1 or len(beginning) == ENTRIES:
            await log.read_on(self._repository, execution_id)
        return log

    async def _read_all(self, execution_ids: Sequence[UUID]) -> list[list[HistoryItem]]:
        beginnings: dict[UUID, list[HistoryItem]] = {one: [] for one in execution_ids}
        for item in await self._repository.get_histories(dict.fromkeys(execution_ids, 0), ENTRIES):
            beginnings[item.execution_id].append(item)
        return list(beginnings.values())
