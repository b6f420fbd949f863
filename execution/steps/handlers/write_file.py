"""`files.write_atomic`: replaces a file below an allowed folder, as a whole."""

from __future__ import annotations

import base64
import binascii
from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field

from execution.errors import DocumentTooLargeError
from execution.files_roots import FilesRoots, PathNotAllowedError, PathUnusableError, problem_of
from execution.settings import Settings
from execution.steps.atomic_write import Content, write_atomically
from execution.steps.handlers.in_thread import in_thread
from execution.steps.handlers.parameters import StepParameters, parameters_of, target_of
from execution.steps.handlers.refusals import FileNotWrittenError, InvalidStepError
from execution.steps.model import ExecutionContext, JobStep, StepOutput

ROOTS_SETTING = "EXECUTION_STEPS_FILES_ROOTS"


class WriteParameters(StepParameters):
    """What the file is to hold, as text or as base64, and its permissions in octal (no set-id bits)."""

    content: str
    encoding: Literal["utf-8", "base64"] = "utf-8"
    mode: Annotated[str, Field(pattern=r"^0?[0-7]{3}$")] = "0644"


class WriteFileHandler:
    """Makes the file that the step's target names hold the content. Its folder has to exist; twice does no harm.

    Parameters: see `WriteParameters`. Output: `path`, `bytes`, `sha256` (hexadecimal), `mode`, `changed` (false: it was
    so already). Links are followed to the folder, never out of the roots; a link in the file's own place is refused.
    """

    name = "files.write_atomic"
    version = "1"
    idempotent = True

    def __init__(self, settings: Settings) -> None:
        self._limit = settings.steps_files_bytes
        self._roots = FilesRoots(settings.steps_files_roots, ROOTS_SETTING) if settings.steps_files_roots else None

    async def execute(self, step: JobStep, _context: ExecutionContext) -> StepOutput:
        """Write it; cancelled, it is written all the same.

        Raises:
            InvalidStepError, PathNotAllowedError, PathUnusableError, DocumentTooLargeError, FileNotWrittenError
        """
        path = target_of(step, "the path of a file")
        content = self._content(step)
        changed = await in_thread(lambda _stop: self._write(path, content))
        output = {
            "path": path,
            "bytes": len(content.data),
            "sha256": content.digest,
            "mode": f"{content.mode:04o}",
            "changed": changed,
        }
        return StepOutput(success=True, output=output)

    def _content(self, step: JobStep) -> Content:
        parameters = parameters_of(step, WriteParameters)
        try:
            data = _decoded(parameters)
        except ValueError as error:
            raise InvalidStepError(step.step_type, f"content is not {parameters.encoding}") from error
        if len(data) > self._limit:
            raise DocumentTooLargeError("content", len(data), self._limit)
        return Content(data=data, mode=int(parameters.mode, 8))

    def _write(self, requested: str, content: Content) -> bool:
        path = PurePosixPath(requested)
        if self._roots is None or path.name in ("", ".."):
            raise PathNotAllowedError(requested, ROOTS_SETTING)
        if requested.endswith(("/", "/.")):
            raise PathUnusableError(requested, "it is a folder, not a file")
        folder = self._roots.folder(str(path.parent))
        try:
            with self._roots.open_folder(folder) as descriptor:
                return write_atomically(descriptor, path.name, content)
        except OSError as error:
            raise FileNotWrittenError(requested, problem_of(error)) from error


def _decoded(parameters: WriteParameters) -> bytes:
    if parameters.encoding == "utf-8":
        return parameters.content.encode()
    try:
        return base64.b64decode(parameters.content, validate=True)
    except binascii.Error as error:
        raise ValueError from error
