"""What a principal may do, and what the log calls it."""

from __future__ import annotations

import pytest

from execution.principal import Principal, Scope


@pytest.mark.parametrize(
    ("held", "granted"),
    [
        (Scope.READ, {Scope.READ}),
        (Scope.WRITE, {Scope.READ, Scope.WRITE}),
        (Scope.ADMIN, {Scope.READ, Scope.WRITE, Scope.ADMIN}),
    ],
)
def test_a_scope_includes_the_lesser_ones(held: Scope, granted: set[Scope]) -> None:
    principal = Principal(tenant_id="acme", scopes=frozenset({held}))
    assert {scope for scope in Scope if principal.may(scope)} == granted


def test_without_a_scope_nothing_is_allowed() -> None:
    assert not any(Principal(tenant_id="acme", scopes=frozenset()).may(scope) for scope in Scope)


def test_the_log_names_the_key() -> None:
    assert Principal(tenant_id="acme", scopes=frozenset(Scope), name="ci").actor == "key:ci"
    assert Principal(tenant_id="acme", scopes=frozenset(Scope)).actor == "client"
