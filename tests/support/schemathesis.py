"""Schemathesis against a live server: requests made up from OpenAPI, and what is wrong with the answers."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.worker_process import REPOSITORY

CONFIGURATION = Path(__file__).with_suffix(".toml")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of one run."""

    cases: int
    """Requests that were made up and sent."""
    succeeded: bool
    output: str


async def made_up_requests(url: str, token: str, folder: Path, *, seed: int, per_operation: int, phases: str) -> Report:
    """Send them, and check every answer with every check there is; the same seed sends the same requests."""
    report = folder / "report.json"
    options = (
        f"--seed {seed} --max-examples {per_operation} --phases {phases} --report json --report-json-path {report}"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIGURATION), "run", f"{url}/openapi.json"),
        *("--header", f"Authorization: Bearer {token}", *options.split()),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )
    try:
        output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    told = output.decode()
    document = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    return Report(cases=_cases(document), succeeded=process.returncode == 0, output=told)


def _cases(document: dict[str, Any]) -> int:
    return int(document["test_cases"]["generated"]) if document else 0
