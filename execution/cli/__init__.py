"""The command line: `execution --help`."""

from execution.cli.app import main

__all__ = ["main"]
