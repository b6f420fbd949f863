"""`python -m execution.cli`, the same as `execution`."""

from execution.cli.app import main

main()
