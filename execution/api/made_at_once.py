"""Values that FastAPI makes of a request by calling a class: in its event loop, and not each in a thread of a pool."""

from __future__ import annotations

from inspect import signature
from typing import Any, Generic, TypeVar

from fastapi.params import Depends

T = TypeVar("T")


class _Maker(Generic[T]):
    """A coroutine function with the parameters of the class: FastAPI gives threads to what is none."""

    def __init__(self, shape: type[T]) -> None:
        self._shape = shape
        self.__signature__ = signature(shape, eval_str=True)

    async def __call__(self, **values: Any) -> T:
        return self._shape(**values)


def made_at_once(shape: type) -> Depends:
    """As `Depends()` on the class, for one whose making takes no time."""
    return Depends(_Maker(shape))
