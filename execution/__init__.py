"""An async, event-sourced execution service on PostgreSQL and Kafka.

async with open_service() as service:
    execution = await service.create_execution("text.analyze", {"path": "README.md"})
    async for entry in service.watch(execution.id): ...
"""

from execution.domain.execution import Execution
from execution.domain.history import HistoryItem, StateHistoryItem
from execution.domain.outcome import PartialSuccess, StopRequested
from execution.domain.retry import RetryPolicy
from execution.domain.state import ExecutionState
from execution.handlers import HandlerRegistry, TaskContext
from execution.service import ExecutionService
from execution.settings import Settings
from execution.wiring import open_service

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
