"""An async, event-sourced execution service on PostgreSQL and Kafka.

    async with open_service() as service:
        execution = await service.create_execution("text.analyze", {"path": "README.md"})
        async for entry in service.watch(execution.id): ...

The names are imported when they are first used: a handler's own process and `execution --help` need few of them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from execution.domain.execution import Execution
    from execution.domain.history import HistoryItem, StateHistoryItem
    from execution.domain.outcome import PartialSuccess, StopRequested
    from execution.domain.retry import RetryPolicy
    from execution.domain.state import ExecutionState
    from execution.handlers import HandlerRegistry, TaskContext
    from execution.service import ExecutionService
    from execution.settings import Settings
    from execution.wiring import open_service

_HOMES = {
    "Execution": "execution.domain.execution",
    "ExecutionService": "execution.service",
    "ExecutionState": "execution.domain.state",
    "HandlerRegistry": "execution.handlers",
    "HistoryItem": "execution.domain.history",
    "PartialSuccess": "execution.domain.outcome",
    "RetryPolicy": "execution.domain.retry",
    "Settings": "execution.settings",
    "StateHistoryItem": "execution.domain.history",
    "StopRequested": "execution.domain.outcome",
    "TaskContext": "execution.handlers",
    "open_service": "execution.wiring",
}

__all__ = [
    "Execution",
    "ExecutionService",
    "ExecutionState",
    "HandlerRegistry",
    "HistoryItem",
    "PartialSuccess",
    "RetryPolicy",
    "Settings",
    "StateHistoryItem",
    "StopRequested",
    "TaskContext",
    "open_service",
]


def __getattr__(name: str) -> Any:
    """Import a public name where it lives."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
