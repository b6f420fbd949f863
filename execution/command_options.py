"""The keywords of every command."""

from __future__ import annotations

from typing import TypedDict
from uuid import UUID

from execution.keyed_answer import AnswerTo


class CommandOptions(TypedDict, total=False):
    """What every command on an execution may be given besides what it asks for."""

    expected_version: int | None
    """Apply to this version only."""
    command_id: UUID | None
    """The caller's id of the command: sent again under the same id, it is not carried out again."""
    answer: AnswerTo | None
    """Makes what is kept under an idempotency key in the transaction of the effect; without an effect nothing is."""
