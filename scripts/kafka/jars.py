"""The broker's jars: fetched once by Maven, whose settings say from where, and kept for the next time."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from hashlib import sha256
from pathlib import Path

from scripts.kafka.java import BrokerError, find_java

POM = Path(__file__).with_name("pom.xml")
CACHE_VARIABLE = "KAFKA_JARS_FOLDER"
"""Names another folder to keep jars in: several checkouts may share one."""
_FETCH_SECONDS = 600.0


def default_cache() -> Path:
    """Beside whatever else a checkout keeps."""
    return Path(os.environ.get(CACHE_VARIABLE) or POM.parents[2] / ".execution" / "kafka").resolve()


def jars_folder() -> Path:
    """Where the jars of this very pom are, once they are fetched: another version gets another folder."""
    return default_cache() / f"jars-{sha256(POM.read_bytes()).hexdigest()[:12]}"


def check_possible() -> None:
    """Could a broker run here?

    Raises:
        BrokerError: no, because of this.
    """
    find_java()
    if not jars_folder().exists() and shutil.which("mvn") is None:
        raise BrokerError("Maven (mvn) is needed once, to fetch the broker")


def fetch() -> Path:
    """Fetch the jars unless they are here; the folder appears when it is complete.

    Raises:
        BrokerError: Maven is missing, or could not.
    """
    folder = jars_folder()
    if folder.exists():
        return folder
    check_possible()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=folder.parent) as fetching:
        _copy_dependencies(Path(fetching, "jars"))
        try:
            Path(fetching, "jars").rename(folder)
        except OSError:
            if not folder.exists():  # otherwise somebody else was faster
                raise
    return folder


def _copy_dependencies(folder: Path) -> None:
    # -C: a jar whose checksum is wrong, or missing, is refused.
    command = ["mvn", "-q", "-B", "-C", "-f", str(POM), "dependency:copy-dependencies"]
    options = [f"-DoutputDirectory={folder}", "-DincludeScope=runtime"]
    try:
        ran = subprocess.run([*command, *options], capture_output=True, text=True, check=False, timeout=_FETCH_SECONDS)
    except subprocess.TimeoutExpired:
        raise BrokerError(f"Maven did not fetch the broker within {_FETCH_SECONDS:g} s") from None
    if ran.returncode != 0 or not folder.exists():
        raise BrokerError(f"Maven could not fetch the broker:\n{(ran.stdout + ran.stderr).strip()[-2_000:]}")
