"""Who calls: the tenant, the rights and the name that an API key stands for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Scope(StrEnum):
    """What a caller may do; each scope includes those before it, since whoever commands is answered with what it reads.

    `read` looks at executions and streams, `write` submits and commands them, `admin` also deletes them.
    """

    READ = "read"
    WRITE = "write"
    ADMIN = "admin"

    def includes(self, other: Scope) -> bool:
        """Is `other` granted along with this scope?"""
        return _RANK[self] >= _RANK[other]


_RANK = {scope: rank for rank, scope in enumerate(Scope)}


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A caller whose identity is established: everything a door needs to know about it."""

    tenant_id: str
    scopes: frozenset[Scope]
    name: str | None = None
    """Of the key; None where no keys are set up."""
    key_id: UUID | None = None
    """Of the key in the table; None for the one in the settings, and without keys."""

    @property
    def actor(self) -> str:
        """What the log says about who did it."""
        return "client" if self.name is None else f"key:{self.name}"

    def may(self, scope: Scope) -> bool:
        """Does one of its scopes include this one?"""
        return any(held.includes(scope) for held in self.scopes)
