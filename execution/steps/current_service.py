"""Which service coordinates the jobs of code that cannot be handed one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from execution.service import ExecutionService
from execution.steps.coordination_errors import NoServiceError

_current: ContextVar[ExecutionService] = ContextVar("coordinating service")


@contextmanager
def using_service(service: ExecutionService) -> Iterator[None]:
    """Inside, in this task and those it starts, `create_coordinated_executor()` takes this service."""
    token = _current.set(service)
    try:
        yield
    finally:
        _current.reset(token)


def current_service() -> ExecutionService:
    """That service.

    Raises:
        NoServiceError: nobody has named one.
    """
    service = _current.get(None)
    if service is None:
        raise NoServiceError
    return service
