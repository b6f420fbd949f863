"""Which action has which risk: a table, in which whatever nobody has judged is of high risk."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType


class RiskClass(StrEnum):
    """What an action may do to those it is not about."""

    LOW = "low"
    """It may be done without asking."""
    HIGH = "high"
    """It needs a scope that somebody has granted."""

    @property
    def covering(self) -> list[str]:
        """The risk classes of scopes that hold for an action of this one."""
        return ["low", "high"] if self is RiskClass.LOW else ["high"]


class RiskTable:
    """The risk of each action."""

    def __init__(self, risks: Mapping[str, RiskClass | str] | None = None) -> None:
        self._risks = MappingProxyType({action: RiskClass(risk) for action, risk in (risks or {}).items()})

    @classmethod
    def with_low(cls, actions: Iterable[str]) -> RiskTable:
        """The table in which these actions, and no others, are of low risk."""
        return cls(dict.fromkeys(actions, RiskClass.LOW))

    def risk_of(self, action: str) -> RiskClass:
        """The risk of an action; HIGH if nobody has said so."""
        return self._risks.get(action, RiskClass.HIGH)
