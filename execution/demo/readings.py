"""What the executions on real input found, compared with the files themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from execution.demo.checks import Check
from execution.domain.execution import JsonObject

MAX_COMPARED_BYTES = 64 * 1024 * 1024


def check_results(
    folder: Path, inventory: JsonObject, analyses: Sequence[tuple[Path, JsonObject]], *, unchanged_since: float
) -> Check:
    """Do the figures agree with the files, as far as these were not changed since (seconds of the Unix epoch)?"""
    compared = [
        *_compared_totals(inventory),
        *_compared_largest(folder, inventory, unchanged_since),
        *_compared_analyses(analyses, unchanged_since),
    ]
    return Check(
        promise="results are what the files hold",
        seen=f"{sum(compared)} of {len(compared)} figures agree with the files",
        held=bool(compared) and all(compared),
    )


def check_summary(text: str, result: JsonObject) -> Check:
    """Is every sentence of the summary one of the text?"""
    sentences = [_flat(sentence) for sentence in result.get("output", {}).get("sentences", [])]
    real = sum(sentence in _flat(text) for sentence in sentences)
    return Check(
        promise="the agent's summary consists of sentences of the text",
        seen=f"{real} of {len(sentences)} sentences found in it",
        held=bool(sentences) and real == len(sentences),
    )


def _compared_totals(inventory: JsonObject) -> list[bool]:
    total: dict[str, Any] = inventory["total"]
    return [sum(one[figure] for one in inventory["languages"]) == total[figure] for figure in total]


def _compared_largest(folder: Path, inventory: JsonObject, unchanged_since: float) -> list[bool]:
    return [
        hashlib.sha256(path.read_bytes()).hexdigest() == file["sha256"]
        for file in inventory["largest"]
        if file["bytes"] <= MAX_COMPARED_BYTES and _is_as_it_was(path := folder / file["path"], unchanged_since)
    ]


def _compared_analyses(analyses: Sequence[tuple[Path, JsonObject]], unchanged_since: float) -> list[bool]:
    return [
        analysis["bytes"] == path.stat().st_size for path, analysis in analyses if _is_as_it_was(path, unchanged_since)
    ]


def _is_as_it_was(path: Path, unchanged_since: float) -> bool:
    return path.is_file() and path.stat().st_mtime < unchanged_since


def _flat(text: str) -> str:
    return " ".join(text.split())
