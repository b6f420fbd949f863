"""`execution demo`."""

from __future__ import annotations

from pathlib import Path

from execution.cli.exit_codes import ExitCode
from execution.cli.output import console, print_json
from execution.demo.show import run_demo
from execution.log import configure_logging


async def demonstrate(path: Path, *, over_kafka: bool, as_json: bool) -> int:
    """Run the demo; 0 only if everything held."""
    configure_logging("CRITICAL")
    screen = console(errors=as_json)
    screen.quiet = as_json
    report = await run_demo(path, screen, over_kafka=over_kafka)
    if as_json:
        print_json(report.to_json())
    return ExitCode.OK if report.held else ExitCode.UNEXPECTED
