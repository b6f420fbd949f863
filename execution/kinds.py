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

    def knows(self, kind: str) -> bool:
        """Is there a handler of that kind here, or was one offered when last asked?"""
        return kind in self._registry or kind in self._offered

    async def ask(self, kind: str) -> None:
        """Ask the workers for a kind that is not known.

        Raises:
            UnknownKindError: no handler of that kind is registered here, and no live worker offers it.
        """
        self._offered = await self._workers.offered_kinds()
        if kind not in self._offered:
            raise UnknownKindError(kind, self._offered | set(self._registry.kinds))

    def check(self, kind: str, parameters: JsonObject) -> None:
        """Refuse parameters that the handler, where it is here, would not accept.

        Raises:
            InvalidDocumentError: it does not accept them.
        """
        if kind in self._registry:
            self._registry.get(kind).parse(parameters)
