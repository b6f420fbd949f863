"""The handlers every worker has: `noop`, `files.inventory` and `text.analyze`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from execution.builtin.files_inventory import FilesInventory
from execution.builtin.noop import noop
from execution.builtin.text_analyze import TextAnalyze
from execution.files_roots import FilesRoots
from execution.handlers import HandlerRegistry

__all__ = ["register_builtin_handlers"]


def register_builtin_handlers(registry: HandlerRegistry, files_roots: Sequence[Path]) -> None:
    """Register them; those that read files read only below `files_roots`."""
    roots = FilesRoots(files_roots)
    registry.register("noop", noop, idempotent=True)
    registry.register("files.inventory", FilesInventory(roots).run, idempotent=True)
    registry.register("text.analyze", TextAnalyze(roots).run, idempotent=True)
