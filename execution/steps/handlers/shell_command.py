"""`shell.command`: runs a program that the service allows, without any shell."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from pydantic import Field

from execution.files_roots import FilesRoots, PathNotAllowedError, PathUnusableError, problem_of
from execution.settings import Settings
from execution.steps.handlers.in_thread import in_thread
from execution.steps.handlers.parameters import StepParameters, Text, parameters_of, target_of, time_limit
from execution.steps.handlers.program_run import End, ProgramCall, ProgramRun, run_program
from execution.steps.handlers.refusals import (
    ProgramNotAllowedError,
    VariableNotAllowedError,
)
from execution.steps.model import ExecutionContext, JobStep, StepOutput

FOLDERS_SETTING = "EXECUTION_STEPS_SHELL_FOLDERS"


class ShellParameters(StepParameters):
    """The program's arguments, without its own name; variables for its environment; a folder to run in; its input."""

    arguments: tuple[Text, ...] = ()
    variables: Mapping[str, Text] = Field(default_factory=dict)
    folder: Annotated[Text, Field(min_length=1)] | None = None
    standard_input: str = ""


class ShellCommandHandler:
    """Runs the program that the step's target names: an absolute path of `steps_shell_programs`, or its last part.

    Parameters: see `ShellParameters`. Output: `exit_code` (of a signal its negative number), `stdout`, `stderr` (UTF-8,
    bounded: beginning and end), `truncated`, `seconds`. The step fails if the program ends otherwise than with 0, or
    not in time. Whatever the program has started in its process group ends with it.
    """

    name = "shell.command"
    version = "1"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folders = (
            FilesRoots(settings.steps_shell_folders, FOLDERS_SETTING) if settings.steps_shell_folders else None
        )
        # Resolved once: a link that is turned elsewhere later does not change what may be run.
        self._programs = {str(path): os.path.realpath(path) for path in settings.steps_shell_programs}

    async def execute(self, step: JobStep, _context: ExecutionContext) -> StepOutput:
        """Run it; cancelled, it kills it.

        Raises:
            InvalidStepError, StepNotAllowedError, PathNotAllowedError, PathUnusableError, ProgramNotStartedError
        """
        listed = self._listed(target_of(step, "a program"))
        parameters = parameters_of(step, ShellParameters)
        self._check_variables(parameters)
        seconds = time_limit(step, self._settings.steps_shell_seconds)
        run = await in_thread(lambda stop: self._run(listed, parameters, seconds, stop))
        return _output(run, seconds)

    def _listed(self, target: str) -> str:
        """The program as the setting has it. Compared as a text: nothing of the request is looked up on the disk."""
        found = [one for one in self._programs if target in (one, one.rpartition("/")[2])]
        if len(found) != 1:
            raise ProgramNotAllowedError(target)
        return found[0]

    def _check_variables(self, parameters: ShellParameters) -> None:
        for name in parameters.variables:
            if name not in self._settings.steps_shell_variables:
                raise VariableNotAllowedError(name)

    def _run(self, listed: str, parameters: ShellParameters, seconds: float, stop: threading.Event) -> ProgramRun:
        with self._folder(parameters.folder) as (folder, entrance):
            call = ProgramCall(
                program=self._programs[listed],
                arguments=[listed, *parameters.arguments],
                environment=self._environment(parameters, folder),
                folder=entrance,
                standard_input=parameters.standard_input.encode(),
                seconds=seconds,
                output_limit=self._settings.steps_shell_output_bytes,
            )
            return run_program(call, stop)

    def _environment(self, parameters: ShellParameters, folder: str) -> dict[str, str]:
        inherited = {name: os.environ[name] for name in self._settings.steps_shell_variables if name in os.environ}
        return {"PATH": os.defpath, "HOME": folder} | inherited | dict(parameters.variables)

    @contextmanager
    def _folder(self, requested: str | None) -> Iterator[tuple[str, str]]:
        """The folder's path, and the path to enter it by."""
        if requested is None:
            with TemporaryDirectory(prefix="step-", ignore_cleanup_errors=True) as folder:
                yield folder, folder
            return
        if self._folders is None:
            raise PathNotAllowedError(requested, FOLDERS_SETTING)
        resolved = self._folders.folder(requested)
        with ExitStack() as stack:
            try:
                descriptor = stack.enter_context(self._folders.open_folder(resolved))
            except OSError as error:
                raise PathUnusableError(requested, problem_of(error)) from error
            yield str(resolved), _entrance(descriptor, resolved)


def _entrance(descriptor: int, resolved: Path) -> str:
    """A path to the very folder that was checked and opened, whatever has its name by now; where the system has one."""
    opened = Path(f"/proc/self/fd/{descriptor}")
    return str(opened if opened.exists() else resolved)


def _output(run: ProgramRun, seconds: float) -> StepOutput:
    error = None
    if run.end is End.TIME_LIMIT:
        error = f"the program was killed after its time limit of {seconds:g} s"
    elif run.exit_code < 0:
        error = f"the program was ended by signal {-run.exit_code}"
    elif run.exit_code > 0:
        error = f"the program ended with exit code {run.exit_code}"
    output = {
        "exit_code": run.exit_code,
        "stdout": run.stdout.text(),
        "stderr": run.stderr.text(),
        "truncated": run.stdout.is_truncated or run.stderr.is_truncated,
        "seconds": run.seconds,
    }
    return StepOutput(success=error is None, output=output, error=error)
