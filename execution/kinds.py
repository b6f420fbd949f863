"""Which kinds may be submitted: those with a handler in this process, and those that live workers offer."""

from __future__ import annotations

from execution.domain.execution import JsonObject
from execution.errors import UnknownKindError
from execution.handlers import HandlerRegistry
from execution.repository.workers import WorkerStore


class KnownKinds:
    """Remembers what workers offer, and asks again when somebody names a kind it has not heard of."""

    def __init__(self, registry: HandlerRegistry, workers: WorkerStore) -> None:
        self._registry = registry
        self._workers = workers
        self._offered: set[str] = set()

    async def check(self, kind: str, parameters: JsonObject) -> None:
        """Refuse a kind that nobody runs, and parameters that its handler, where it is here, would not accept.

        Raises:
            UnknownKindError: no handler of that kind is registered here, and no live worker offers it.
            InvalidDocumentError: the handler does not accept the parameters.
        """
        if kind in self._registry:
            self._registry.get(kind).parse(parameters)
        elif kind not in self._offered:
            self._offered = await self._workers.offered_kinds()
            if kind not in self._offered:
                raise UnknownKindError(kind, self._offered | set(self._registry.kinds))
