"""The embedded server as the rest of the service sees it: started by the first process, stopped by the last."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from execution.embedded.cluster import (
    INITDB_SECONDS,
    START_SECONDS,
    STOP_SECONDS,
    Cluster,
    StopMode,
    advice_on,
)
from execution.embedded.sharing import Attachment, count_attachments, exclusive
from execution.errors import EmbeddedPostgresError
from execution.shielded import to_its_end

_DATABASE = "execution"
_LOCK_SECONDS = INITDB_SECONDS + START_SECONDS + STOP_SECONDS  # whoever holds the lock is done by then


class EmbeddedPostgres:
    """PostgreSQL 18 under `data_dir`, shared by every process that attaches to the same folder.

    The first one makes the data directory and starts the server, later ones attach, the last one to leave stops it.
    A process that is killed counts no longer; when it was the last one, the server goes on until the next one leaves.
    Nothing listens on the network, and only this system user (and root) can open the socket.

    `overrides` replaces server settings by name; it takes effect when this process is the one that starts the server.
    """

    def __init__(self, data_dir: Path, *, overrides: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir.absolute()
        self._overrides = dict(overrides or {})
        self._attachment: Attachment | None = None
        self._cluster = Cluster(self.data_dir, self._overrides)
        self._url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the server or attach to it. A second start does nothing."""
        try:
            await to_its_end(asyncio.to_thread(self._attach))
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Leave the server, and stop it when nobody else is attached. Allowed before a start and more than once."""
        await to_its_end(asyncio.to_thread(self._detach))

    async def restart(self, mode: StopMode = "fast") -> None:
        """Stop the server under everybody's feet and start it again; `immediate` is a crash, with recovery."""
        await to_its_end(asyncio.to_thread(self._restart, mode))

    @property
    def url(self) -> str:
        """For asyncpg as it is; for SQLAlchemy write `postgresql+asyncpg://` in place of `postgresql://`."""
        if not self._url:
            raise EmbeddedPostgresError("the server has no address before its start", "Await start() first.")
        return self._url

    @property
    def pid(self) -> int | None:
        """The server's process, None while it does not run."""
        return self._cluster.pid

    @property
    def bin_dir(self) -> Path:
        """Where psql, pg_dump and the other programs of this server are."""
        return self._cluster.bin_dir

    @property
    def log(self) -> Path:
        return self._cluster.log

    def _attach(self) -> None:
        if self._attachment is not None:
            return
        with self._alone():
            self._cluster.initialise()
            self._cluster.ensure_running()
            self._attachment = Attachment(self._attached)
            self._cluster.ensure_database(_DATABASE)
            self._url = (
                f"postgresql://postgres@/{_DATABASE}?host={quote(str(self._cluster.socket_dir), safe='/')}&port=5432"
            )

    def _detach(self) -> None:
        attachment, self._attachment = self._attachment, None
        if attachment is None:
            return
        if not self._lock.exists():
            attachment.release()  # the folder was deleted: the server notices that within a minute and ends by itself
            return
        with self._alone():
            attachment.release()
            if count_attachments(self._attached) == 0:
                self._cluster.stop("fast")

    def _restart(self, mode: StopMode) -> None:
        with self._alone():
            self._cluster.stop(mode)
            self._cluster.ensure_running()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else starts or stops this server meanwhile; the system's refusals become our error."""
        try:
            self._attached.mkdir(parents=True, exist_ok=True)
            with exclusive(self._lock, within=_LOCK_SECONDS):
                yield
        except TimeoutError as error:
            raise EmbeddedPostgresError(
                f"another process has kept {self._lock} for {_LOCK_SECONDS:g} s",
                "Look for one that hangs, and end it.",
            ) from error
        except OSError as error:
            raise EmbeddedPostgresError(str(error), advice_on(str(error)) or self._where_to_look()) from error

    def _where_to_look(self) -> str:
        return f"See {self.log}." if self.log.exists() else "Name a folder that can be used in EXECUTION_DATA_DIR."

    @property
    def _attached(self) -> Path:
        return self.data_dir / "attached"

    @property
    def _lock(self) -> Path:
        return self.data_dir / "lock"
