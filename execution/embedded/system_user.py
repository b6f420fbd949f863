"""The system user that runs the server. PostgreSQL refuses to run as root, so root lends it an unprivileged one."""

from __future__ import annotations

import os
import pwd
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from execution.errors import EmbeddedPostgresError

_OWN_USER = "pgserver"
_USERS_FOUND_ON_MOST_SYSTEMS = ("postgres", "nobody")
_USERADD_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class SystemUser:
    """Who runs the server's programs, and whom its files belong to."""

    uid: int
    gid: int

    @property
    def is_current(self) -> bool:
        return self.uid == os.geteuid()

    def take(self, path: Path) -> None:
        """Become the owner of `path`, made by the current user."""
        if not self.is_current:
            os.chown(path, self.uid, self.gid)

    def reach(self, path: Path) -> None:
        """Let this user go through every folder above `path`, adding the permission to traverse where it is missing."""
        if self.is_current:
            return
        for folder in path.resolve().parents:
            if not self._may_traverse(folder):
                folder.chmod(stat.S_IMODE(folder.stat().st_mode) | stat.S_IXOTH)

    def _may_traverse(self, folder: Path) -> bool:
        found = folder.stat()
        if found.st_uid == self.uid:
            return bool(found.st_mode & stat.S_IXUSR)
        return bool(found.st_mode & (stat.S_IXGRP if found.st_gid == self.gid else stat.S_IXOTH))


def server_user(cluster: Path) -> SystemUser:
    """The owner of an existing cluster, otherwise the current user, or the one root lends."""
    current = os.geteuid()
    owner = cluster.stat().st_uid if cluster.exists() else current
    if current not in (0, owner):
        raise EmbeddedPostgresError(
            f"{cluster} belongs to another user (uid {owner})",
            "Run as that user, or name another folder in EXECUTION_DATA_DIR.",
        )
    return _unprivileged_user() if owner == 0 else _as_system_user(_entry_of(owner))


def _unprivileged_user() -> SystemUser:
    if not _exists(_OWN_USER):
        _create_own_user()
    for name in filter(_exists, (_OWN_USER, *_USERS_FOUND_ON_MOST_SYSTEMS)):
        return _as_system_user(pwd.getpwnam(name))
    raise EmbeddedPostgresError(
        "root cannot run the server and no unprivileged user can be created",
        f"Create one (useradd {_OWN_USER}), run as another user, or set EXECUTION_DATABASE_URL.",
    )


def _create_own_user() -> None:
    """Fails where useradd is missing or the system forbids it: then another user will do."""
    with suppress(OSError, subprocess.TimeoutExpired):
        command = ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", _OWN_USER]
        subprocess.run(command, check=False, capture_output=True, timeout=_USERADD_SECONDS)


def _exists(name: str) -> bool:
    return any(entry.pw_name == name for entry in pwd.getpwall())


def _as_system_user(entry: pwd.struct_passwd) -> SystemUser:
    return SystemUser(uid=entry.pw_uid, gid=entry.pw_gid)


def _entry_of(uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedPostgresError(
            f"user {uid} has no entry in the system's user database, which PostgreSQL insists on",
            "Run as a named user, or set EXECUTION_DATABASE_URL.",
        ) from None
