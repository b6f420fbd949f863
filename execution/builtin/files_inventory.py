"""Kind `files.inventory`: what a real folder holds, by language, digest and size."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from execution.builtin.fingerprint import take_fingerprint
from execution.builtin.folder_walk import FolderContent, FolderWalk, FoundFile
from execution.builtin.inventory import MAX_LARGEST, InventoriedFile, Inventory, take_inventory
from execution.domain.outcome import PartialSuccess
from execution.files_roots import FilesRoots, problem_of
from execution.handlers import TaskContext

IGNORED_FOLDERS = [
    ".git", ".venv", "node_modules", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".execution",
]  # fmt: skip

OPENING_COST_BYTES = 4096
"""Opening a file takes about as long as reading this much: what keeps progress honest over many tiny files."""

FolderName = Annotated[str, Field(min_length=1, max_length=255)]


class InventoryParameters(BaseModel):
    """Which folder, which names of folders to leave out, and where to stop."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(default=".", min_length=1, max_length=4096)
    ignore: list[FolderName] = Field(default=IGNORED_FOLDERS, max_length=1000)
    max_files: int = Field(default=100_000, ge=1, le=1_000_000)
    largest: int = Field(default=10, ge=0, le=MAX_LARGEST)


class FilesInventory:
    """The handler; it reads only below the files roots."""

    def __init__(self, roots: FilesRoots) -> None:
        self._roots = roots

    def run(self, context: TaskContext, parameters: InventoryParameters) -> Inventory | PartialSuccess:
        """Inventory a folder: languages, lines, bytes, digests, duplicates, largest files."""
        folder = self._roots.folder(parameters.path)
        context.progress(0, "counting files")
        content = FolderWalk(
            self._roots,
            folder,
            ignored=parameters.ignore,
            max_files=parameters.max_files,
            check=context.raise_if_cancelled,
        ).run()
        files = self._read(context, content)
        inventory = take_inventory(parameters.path, content, files, parameters.largest)
        context.progress(100, f"{len(files):,} files")
        return PartialSuccess(inventory, inventory.missing) if inventory.missing else inventory

    def _read(self, context: TaskContext, content: FolderContent) -> list[InventoriedFile]:
        reading = _Reading(context, content.files)
        files = []
        for found in content.files:
            context.raise_if_cancelled()
            try:
                with self._roots.open_file(found.path) as file:
                    fingerprint = take_fingerprint(file, reading.read)
            except OSError as error:
                content.unreadable[found.name] = problem_of(error)
            else:
                files.append(InventoriedFile(name=found.name, fingerprint=fingerprint))
            reading.finish(found)
        return files


class _Reading:
    """How far the reading has come, reported at every whole per cent; obeys a request to stop at every piece."""

    def __init__(self, context: TaskContext, files: list[FoundFile]) -> None:
        self._context = context
        self._files = len(files)
        self._total = sum(_weight(file) for file in files)
        self._finished = 0
        self._files_finished = 0
        self._reported = 0

    def read(self, size: int) -> None:
        self._context.raise_if_cancelled()
        self._report(self._finished + size)

    def finish(self, file: FoundFile) -> None:
        self._finished += _weight(file)
        self._files_finished += 1
        self._report(self._finished)

    def _report(self, done: int) -> None:
        # 100 is said once, at the end. A file that grew since it was found may carry `done` past its share.
        percentage = min(99, 100 * done // self._total)
        if percentage > self._reported:
            self._reported = percentage
            self._context.progress(percentage, f"{self._files_finished:,} of {self._files:,} files")


def _weight(file: FoundFile) -> int:
    return file.size + OPENING_COST_BYTES
