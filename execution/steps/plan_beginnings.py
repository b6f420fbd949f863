"""Plans that begin at the same time have the beginnings of their logs read together."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from execution.domain.execution import Execution
from execution.domain.history import HistoryItem
from execution.repository.gathering import Gathering
from execution.repository.repository import ExecutionRepository
from execution.steps.model import JobStep
from execution.steps.plan_log import PlanLog

ENTRIES = 4
"""Of a log that are read together with those of others: a plan that nobody has run yet has three, and no outputs."""


class PlanBeginnings:
    """Reads the logs of plans that are about to run: of those that nobody has run yet, many in one query."""

    def __init__(self, repository: ExecutionRepository) -> None:
        self._repository = repository
        self._beginnings = Gathering("beginnings of plans", self._read_all)

    async def read(self, execution: Execution, plan: tuple[JobStep, ...]) -> PlanLog:
        """The log of a plan as it was when it was claimed, at least."""
        if execution.version > ENTRIES:
            return await PlanLog.read(self._repository, execution.id, plan)
        log = PlanLog(plan)
        for item in await self._beginnings.ask(execution.id):
            log.take(item)
        return log

    async def _read_all(self, execution_ids: Sequence[UUID]) -> list[list[HistoryItem]]:
        beginnings: dict[UUID, list[HistoryItem]] = {one: [] for one in execution_ids}
        for item in await self._repository.get_histories(dict.fromkeys(execution_ids, 0), ENTRIES):
            beginnings[item.execution_id].append(item)
        return list(beginnings.values())
