"""The commands about jobs of steps and their evidence, as declared; what they do is in the modules they import."""
# ruff: noqa: PLC0415 - `--help` does not wait for what the commands need

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from execution.cli.options import AsJson


def add_step_commands(app: typer.Typer) -> None:
    """Declare them, in the order of `--help`."""
    app.command()(verify)


def verify(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE.json", help="A bundle of evidence.")],
    *,
    outputs: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Where the outputs are that the bundle names by place only.")
    ] = None,
    seal: Annotated[
        str | None, typer.Option(metavar="sha256:…", help="The seal that was kept elsewhere: is this that bundle?")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Prove offline that a bundle of evidence is what was recorded, or name the place where it is not."""
    from execution.cli.verifying import verify_file

    raise typer.Exit(int(verify_file(bundle, outputs=outputs, seal=seal, as_json=as_json)))
