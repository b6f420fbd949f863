"""The risk gate (P2FC-4): an action of high risk is let through under a valid scope, which it uses once."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from execution.domain.execution import JsonObject
from execution.repository.scopes import Scope, ScopeStore
from execution.steps.coordination_errors import (
    ScopeExpiredError,
    ScopeNotFoundError,
    ScopeOfOtherActionError,
    ScopeOfOtherIncidentError,
    ScopeOfOtherTenantError,
    ScopeRefusedError,
    ScopeRequiredError,
    ScopeRiskTooLowError,
    ScopeUsedUpError,
)
from execution.steps.risk import RiskClass, RiskTable


@dataclass(frozen=True, kw_only=True, slots=True)
class ScopedAction:
    """What somebody wants to do. Without `scope_id`, any scope that was granted for it will do."""

    tenant_id: str
    incident_id: str
    action: str
    scope_id: UUID | None = None


class ScopeGate:
    """Lets actions through, or refuses them."""

    def __init__(self, store: ScopeStore, risks: RiskTable) -> None:
        self._store = store
        self._risks = risks

    async def admit(self, wanted: ScopedAction) -> JsonObject:
        """Let an action through, and use its scope once; the answer says under what it happens (`scope_info`).

        Raises:
            ScopeRefusedError: one of its kinds; no use was taken.
            DatabaseError: a use may have been taken, and nothing may be done under it.
        """
        risk = self._risks.risk_of(wanted.action)
        if wanted.scope_id is not None:
            return _info(wanted, risk, await self._use_named(wanted, wanted.scope_id, risk))
        if risk is RiskClass.LOW:
            return _info(wanted, risk, None)
        return _info(wanted, risk, await self._use_any(wanted, risk))

    async def _use_named(self, wanted: ScopedAction, scope_id: UUID, risk: RiskClass) -> Scope:
        used = await self._use(wanted, scope_id, risk)
        if used is None:
            raise refusal(wanted, risk, scope_id, await self._store.find(scope_id))
        return used

    async def _use_any(self, wanted: ScopedAction, risk: RiskClass) -> Scope:
        what = wanted.tenant_id, wanted.incident_id, wanted.action
        # Between finding one and using it others may use it up; each round that fails has let somebody else through.
        while (scope_id := await self._store.find_usable(*what, risk.covering)) is not None:
            used = await self._use(wanted, scope_id, risk)
            if used is not None:
                return used
        latest = await self._store.find_latest(*what)
        if latest is None:
            raise ScopeRequiredError(wanted.action, wanted.incident_id)
        raise refusal(wanted, risk, latest.id, latest)

    async def _use(self, wanted: ScopedAction, scope_id: UUID, risk: RiskClass) -> Scope | None:
        return await self._store.use(scope_id, wanted.tenant_id, wanted.incident_id, wanted.action, risk.covering)


def refusal(wanted: ScopedAction, risk: RiskClass, scope_id: UUID, scope: Scope | None) -> ScopeRefusedError:
    """Why a scope that could not be used could not: what it is for comes before what is left of it."""
    if scope is None:
        return ScopeNotFoundError(wanted.action, wanted.incident_id, scope_id)
    reasons = (
        (scope.tenant_id != wanted.tenant_id, ScopeOfOtherTenantError),
        (scope.incident_id != wanted.incident_id, ScopeOfOtherIncidentError),
        (scope.action != wanted.action, ScopeOfOtherActionError),
        (scope.risk not in risk.covering, ScopeRiskTooLowError),
        (scope.is_expired, ScopeExpiredError),
    )
    kind: type[ScopeRefusedError] = next((one for holds, one in reasons if holds), ScopeUsedUpError)
    return kind(wanted.action, wanted.incident_id, scope_id)


def _info(wanted: ScopedAction, risk: RiskClass, scope: Scope | None) -> JsonObject:
    return {
        "scope_id": str(scope.id) if scope else None,
        "incident_id": wanted.incident_id,
        "action": wanted.action,
        "risk": risk.value,
        "uses_left": scope.uses_left if scope else None,
        "expires_at": scope.expires_at.isoformat() if scope else None,
        "granted_by": scope.granted_by if scope else None,
    }
