"""`execution asyncapi`."""

from __future__ import annotations

import json

from execution.api.asyncapi import kafka_contract
from execution.cli.exit_codes import ExitCode
from execution.settings import Settings


async def print_kafka_contract() -> int:
    """Print the document, for people to read as well."""
    print(json.dumps(kafka_contract(Settings.load()), indent=2))
    return ExitCode.OK
