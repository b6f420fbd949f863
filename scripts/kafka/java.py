"""The Java that the broker runs on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

OLDEST_JAVA = 17
_HEAP = "-Xmx256m"
_SMALL = (_HEAP, "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
"""Starts in half the time and stays small; a broker for throughput would want the second compiler, too."""
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
)
_VERSION_SECONDS = 30.0


class BrokerError(Exception):
    """What keeps a broker from being there, and what to do about it."""


def find_java() -> str:
    """The program; `JAVA_HOME` goes before the path.

    Raises:
        BrokerError: there is none, or it is too old.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")
    if java is None:
        raise BrokerError(f"there is no Java here: install a runtime of {OLDEST_JAVA} or newer, without a display")
    version = _major_version(java)
    if version < OLDEST_JAVA:
        raise BrokerError(f"{java} is Java {version}; Kafka needs {OLDEST_JAVA} or newer (JAVA_HOME names another one)")
    return java


def command_line(java: str, jars: Path, main_class: str, *arguments: str) -> list[str]:
    """How a class of the broker's jars is run."""
    return [java, *_SMALL, *_LOGGING, "-cp", f"{jars}/*", main_class, *arguments]


def _major_version(java: str) -> int:
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False, timeout=_VERSION_SECONDS)
    found = re.search(r'version "(\d+)', said.stderr)
    if found is None:
        raise BrokerError(f"{java} does not run: {said.stderr.strip() or said.returncode}")
    return int(found[1])
