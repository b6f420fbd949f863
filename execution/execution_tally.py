"""How many executions this process has brought to life and to their end, and how long they ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from execution.domain.creation import LONGEST_BEGINNING
from execution.domain.execution import Execution
from execution.durations import Durations

RUN_BOUNDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
MOST_KINDS = 100
OTHER = "other"


class ExecutionTally:
    """Listens to what this process writes. Plain numbers, because every change of every execution comes by here.

    Args:
        is_known: may the kind always stand for itself? The others share one name once there are many.
    """

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self._is_known = is_known
        self._names: dict[str, str] = {}
        self.created: Counter[str] = Counter()
        """By kind."""
        self.ended: Counter[tuple[str, str]] = Counter()
        """By kind and state."""
        self.runs: dict[str, Durations] = {}
        """From the start of the last attempt to its end, by kind."""

    def noted(self, execution: Execution) -> None:
        """This process has just written that execution."""
        if execution.completed_at is not None:
            self._note_end(execution)
        elif execution.version <= LONGEST_BEGINNING and execution.updated_at == execution.created_at:
            # Nothing has happened to it since: the write was its creation.
            self.created[self._name(execution.kind)] += 1

    def _note_end(self, execution: Execution) -> None:
        kind = self._name(execution.kind)
        self.ended[kind, execution.state] += 1
        seconds = execution.duration_seconds
        if seconds is not None:
            if kind not in self.runs:
                self.runs[kind] = Durations(RUN_BOUNDS)
            self.runs[kind].add(seconds)

    def _name(self, kind: str) -> str:
        name = self._names.get(kind)
        if name is None:
            if len(self._names) >= MOST_KINDS and not self._is_known(kind):
                return OTHER
            name = self._names[kind] = kind
        return name
