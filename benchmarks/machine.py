"""The machine the figures come from, as far as it matters for them."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
import psutil

_CPUINFO = Path("/proc/cpuinfo")
_PAGE = bytes(8192)
_SYNCS = 200


async def machine(server_url: str) -> dict[str, Any]:
    """Processors, memory, versions, and what one `fdatasync` of a page takes where temporary files are."""
    connection = await asyncpg.connect(server_url)
    try:
        postgresql = await connection.fetchval("SHOW server_version")
    finally:
        await connection.close()
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "processors": psutil.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "python": platform.python_version(),
        "postgresql": postgresql,
        "fdatasync_ms": round(_sync_ms(), 3),
    }


def _processor() -> str:
    if _CPUINFO.exists():
        for line in _CPUINFO.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _sync_ms() -> float:
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(_SYNCS):
            started = time.perf_counter()
            os.write(file.fileno(), _PAGE)
            os.fsync(file.fileno()) if not hasattr(os, "fdatasync") else os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - started) * 1000)
    return median(taken)
