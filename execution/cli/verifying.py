"""`execution verify`: reads a bundle of evidence, checks it, and says what it found. It needs no service."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from rich.text import Text

from execution.cli.exit_codes import ExitCode
from execution.cli.output import answer, fail, hint
from execution.steps import BrokenEvidenceError, OutputFolder, VerifiedBundle, verify_bundle


def verify_file(path: Path, *, outputs: Path | None, seal: str | None, as_json: bool) -> ExitCode:
    """Check the file; the exit code says whether it holds."""
    try:
        content = path.read_bytes()
    except OSError as error:
        fail("unreadable", f"{path} cannot be read: {error.strerror or error}.", as_json=as_json)
        return ExitCode.INVALID
    try:
        verified = verify_bundle(content, store=OutputFolder(outputs) if outputs else None, seal=seal)
    except BrokenEvidenceError as broken:
        document = {"holds": False, "place": broken.place, "problem": broken.problem}
        answer(document, Text(str(broken), style="bold red"), as_json=as_json)
        return ExitCode.UNEXPECTED
    answer({"holds": True, **asdict(verified)}, _view(verified), as_json=as_json)
    if verified.unchecked:
        count = len(verified.unchecked)
        hint(
            f"{count} values are kept elsewhere and were not looked at: name their folder by --outputs", as_json=as_json
        )
    return ExitCode.OK


def _view(verified: VerifiedBundle) -> Text:
    return Text.assemble(
        ("The evidence holds.", "bold green"),
        f" Job {verified.job_id} ended {verified.final_status}; "
        f"{verified.steps_executed} executed of {verified.steps_planned} planned steps.\nseal: {verified.seal}",
    )
