"""The `execution` program: its commands, in the order of `--help`, and how it starts."""

from __future__ import annotations

import os
import sys

import typer

from execution.cli.client_commands import add_client_commands
from execution.cli.exit_codes import MEANINGS, ExitCode
from execution.cli.key_commands import add_key_commands
from execution.cli.operator_commands import add_operator_commands
from execution.cli.output import fail
from execution.cli.step_commands import add_step_commands
from execution.process import begin

_CODES = "\n".join(f"{code:d}  {meaning}" for code, meaning in MEANINGS.items())

app = typer.Typer(
    name="execution",
    help="Submit work, run it on workers, and see every change of it. Settings: EXECUTION_* variables, which "
    "`execution settings` lists; without EXECUTION_DATABASE_URL an embedded PostgreSQL under .execution is used and "
    "shared.",
    epilog=f"Exit codes:\n{_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
add_operator_commands(app)
add_key_commands(app)
add_client_commands(app)
add_step_commands(app)


def main() -> None:
    """Run the command that the program was started with."""
    begin()
    sys.path.append("")  # modules of `EXECUTION_HANDLERS` in the current folder; last, so that they hide nothing
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    try:
        # Outside its stand-alone mode Typer leaves errors of usage to us, and returns the exit code.
        code = app(arguments, prog_name="execution", standalone_mode=not as_json)
    except typer.TyperException as error:
        message = error.format_message() if isinstance(error, typer.BadParameter) else str(error)
        fail("usage", f"{message.rstrip('.')}. See: execution --help", as_json=as_json)
        code = ExitCode.INVALID
    except BrokenPipeError:
        # The reader has gone (`execution list | head`): nobody is left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = ExitCode.UNEXPECTED
    sys.exit(code)
