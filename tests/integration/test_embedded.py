"""The embedded server: started by the first process, shared, stopped by the last, whatever dies in between."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import stat
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from execution.embedded import EmbeddedPostgres
from execution.errors import EmbeddedPostgresError
from tests.support.attached_process import attached_process
from tests.support.database import SERVER_OVERRIDES
from tests.support.waiting import eventually


def server_in(folder: Path, overrides: Mapping[str, str] = SERVER_OVERRIDES) -> EmbeddedPostgres:
    return EmbeddedPostgres(folder, overrides=overrides)


@pytest.fixture(scope="module")
def used_folder(run_folder: Path) -> Path:
    """For tests that do not care who has used it before: the first start takes longer than all they do."""
    return Path(tempfile.mkdtemp(dir=run_folder))


async def keep_an_answer(server: EmbeddedPostgres) -> int:
    """Commit something that was not there before."""
    answer = secrets.randbits(31)
    await query(server, "CREATE TABLE IF NOT EXISTS kept (answer int)")
    await query(server, f"INSERT INTO kept VALUES ({answer})")
    return answer


async def keeps(server: EmbeddedPostgres, answer: int) -> bool:
    return bool(await query(server, f"SELECT count(*) = 1 FROM kept WHERE answer = {answer}"))


async def query(server: EmbeddedPostgres, statement: str) -> object:
    connection = await asyncpg.connect(server.url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


def attachments(folder: Path) -> list[Path]:
    return list((folder / "attached").iterdir())


def running_pid(server: EmbeddedPostgres) -> int:
    assert server.pid is not None
    return server.pid


def runs(pid: int) -> bool:
    """Whether that process lives; a dead one may stay in the process table until init fetches its exit status."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def crash(server: EmbeddedPostgres) -> None:
    """Kill the server as a power cut would: its pid file stays, its processes are gone."""
    postmaster = psutil.Process(running_pid(server))
    family = [postmaster, *postmaster.children()]
    postmaster.kill()
    await asyncio.to_thread(psutil.wait_procs, family, 20)


class TestOneProcess:
    async def test_a_durable_server_18_is_up_and_ends_with_the_block(self, cluster_folder: Path) -> None:
        async with server_in(cluster_folder, {}) as server:
            pid = running_pid(server)
            assert await query(server, "SELECT current_database()") == "execution"
            assert await query(server, "SELECT current_setting('server_version_num')::int / 10000") == 18
            for durable in ("fsync", "synchronous_commit", "full_page_writes"):
                assert await query(server, f"SHOW {durable}") == "on"
            assert await query(server, "SHOW listen_addresses") == ""
        assert not runs(pid)
        assert server.pid is None
        assert attachments(cluster_folder) == []

    async def test_sqlalchemy_takes_the_same_address(self, used_folder: Path) -> None:
        async with server_in(used_folder) as server:
            engine = create_async_engine(server.url.replace("postgresql://", "postgresql+asyncpg://"))
            async with engine.connect() as connection:
                assert (await connection.execute(text("SELECT current_database()"))).scalar() == "execution"
            await engine.dispose()

    async def test_data_outlives_the_server(self, used_folder: Path) -> None:
        async with server_in(used_folder) as server:
            answer = await keep_an_answer(server)
        async with server_in(used_folder) as server:
            assert await keeps(server, answer)

    async def test_start_and_stop_may_be_repeated(self, used_folder: Path) -> None:
        server = server_in(used_folder)
        await server.stop()
        await server.start()
        await server.start()
        assert len(attachments(used_folder)) == 1
        await server.stop()
        await server.stop()
        assert server.pid is None

    async def test_a_start_that_fails_at_its_last_step_stays_attached_to_nothing(self, cluster_folder: Path) -> None:
        async with server_in(cluster_folder) as server:
            await query(server, "ALTER DATABASE postgres ALLOW_CONNECTIONS false")
            with pytest.raises(EmbeddedPostgresError):
                await server_in(cluster_folder).start()
            assert len(attachments(cluster_folder)) == 1

    async def test_opened_twice_it_stops_with_the_second_close(self, used_folder: Path) -> None:
        async with server_in(used_folder) as outer:
            async with server_in(used_folder) as inner:
                assert inner.pid == outer.pid
            assert await query(outer, "SELECT 1") == 1

    async def test_the_callers_own_postgresql_variables_do_not_matter(
        self, cluster_folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PGPORT", "1")
        monkeypatch.setenv("PGHOST", "nowhere.invalid")
        monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
        async with server_in(cluster_folder) as server:
            monkeypatch.delenv("PGOPTIONS")
            assert await query(server, "SELECT 1") == 1

    async def test_a_cancelled_start_leaves_nothing_behind(self, cluster_folder: Path) -> None:
        server = server_in(cluster_folder)
        start = asyncio.create_task(server.start())
        await eventually(lambda: list(cluster_folder.glob("postgres.new-*")), within=10, what="initdb has begun")
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
        assert server.pid is None
        assert attachments(cluster_folder) == []

    def test_the_address_is_refused_before_the_start(self, used_folder: Path) -> None:
        with pytest.raises(EmbeddedPostgresError, match="start"):
            _ = server_in(used_folder).url


class TestManyProcesses:
    async def test_the_second_attaches_and_the_last_stops(self, used_folder: Path) -> None:
        async with attached_process(used_folder) as other:
            pid = await other.attached()
            async with server_in(used_folder) as server:
                assert server.pid == pid
            assert runs(pid)
            await other.leave()
        assert not runs(pid)

    async def test_those_that_start_together_share_one_server(self, cluster_folder: Path) -> None:
        async with AsyncExitStack() as stack:
            others = [await stack.enter_async_context(attached_process(cluster_folder)) for _ in range(3)]
            pids = {await other.attached() for other in others}
            assert len(pids) == 1
            assert len(attachments(cluster_folder)) == 3
            for other in others:
                await other.leave()
        assert not runs(pids.pop())

    async def test_a_killed_process_counts_no_longer(self, used_folder: Path) -> None:
        async with attached_process(used_folder) as other:
            async with server_in(used_folder) as server:
                pid = running_pid(server)
                await other.attached()
                await other.kill()
                assert len(attachments(used_folder)) == 2
            assert not runs(pid)
        assert attachments(used_folder) == []

    async def test_the_server_of_a_killed_last_process_is_taken_over(self, used_folder: Path) -> None:
        async with attached_process(used_folder) as other:
            pid = await other.attached()
            await other.kill()
        assert runs(pid)
        async with server_in(used_folder) as server:
            assert server.pid == pid
        assert not runs(pid)

    async def test_a_process_killed_during_initdb_leaves_nothing_half_made(self, cluster_folder: Path) -> None:
        async with attached_process(cluster_folder) as other:
            await eventually(
                lambda: list(cluster_folder.glob("postgres.new-*/PG_VERSION")), within=20, what="initdb has begun"
            )
            await other.kill()
        async with server_in(cluster_folder) as server:
            assert await query(server, "SELECT 1") == 1
            assert list(cluster_folder.glob("postgres.new-*/PG_VERSION")) == []

    async def test_ctrl_c_in_a_terminal_does_not_reach_the_server(self, used_folder: Path) -> None:
        async with attached_process(used_folder) as other:
            await other.attached()
            async with server_in(used_folder) as server:
                pid = running_pid(server)
                os.killpg(other.process.pid, signal.SIGINT)
                assert await other.ended() != 0
                assert await query(server, "SELECT 1") == 1
                assert server.pid == pid


class TestCrash:
    @pytest.mark.parametrize("mode", ["fast", "immediate"])
    async def test_a_restart_keeps_what_was_committed(self, used_folder: Path, mode: str) -> None:
        async with server_in(used_folder) as server:
            before = running_pid(server)
            answer = await keep_an_answer(server)
            await server.restart(mode="immediate" if mode == "immediate" else "fast")
            assert running_pid(server) != before
            assert await keeps(server, answer)

    async def test_a_server_that_died_is_started_by_the_next_process(self, used_folder: Path) -> None:
        async with server_in(used_folder) as server:
            answer = await keep_an_answer(server)
            await crash(server)
            async with server_in(used_folder) as second:
                assert await keeps(second, answer)

    async def test_a_pid_file_that_names_another_living_program_is_stale(self, used_folder: Path) -> None:
        async with server_in(used_folder) as server:
            await crash(server)
        pid_file = used_folder / "postgres" / "postmaster.pid"
        owner = pid_file.stat().st_uid
        bystander = subprocess.Popen(
            ["/bin/sh", "-c", "read line"],
            stdin=subprocess.PIPE,
            user=owner if owner != os.geteuid() else None,
            cwd="/",
        )
        try:
            _, *rest = pid_file.read_text().splitlines(keepends=True)
            pid_file.write_text("".join([f"{bystander.pid}\n", *rest]))
            async with server_in(used_folder) as server:
                assert running_pid(server) != bystander.pid
                assert await query(server, "SELECT 1") == 1
        finally:
            bystander.communicate(b"\n", timeout=10)


class TestPlace:
    async def test_a_path_too_long_for_a_socket(self, cluster_folder: Path) -> None:
        folder = cluster_folder / ("long" * 30)
        async with server_in(folder) as server:
            assert await query(server, "SELECT 1") == 1
            socket_dir = Path(parse_qs(urlsplit(server.url).query)["host"][0])
            assert folder not in socket_dir.parents
            assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
            async with server_in(folder) as second:
                assert second.url == server.url
        assert not socket_dir.exists()

    async def test_a_folder_with_spaces_commas_and_quotes(self, cluster_folder: Path) -> None:
        async with server_in(cluster_folder / "it's, well & good") as server:
            assert await query(server, "SELECT 1") == 1

    async def test_below_a_private_folder_only_traversal_is_granted(self, cluster_folder: Path) -> None:
        private = cluster_folder / "private"
        private.mkdir(mode=0o700)
        async with server_in(private / "data") as server:
            assert await query(server, "SELECT 1") == 1
        assert stat.S_IMODE(private.stat().st_mode) & ~stat.S_IXOTH == 0o700

    async def test_a_deleted_folder_does_not_fail_the_stop(self, cluster_folder: Path) -> None:
        server = server_in(cluster_folder / "data")
        await server.start()
        process = psutil.Process(running_pid(server))
        subprocess.run(["rm", "-rf", str(cluster_folder / "data")], check=True)
        try:
            await server.stop()
        finally:
            process.kill()


class TestRefusal:
    async def test_a_place_that_cannot_hold_a_folder(self, cluster_folder: Path) -> None:
        (cluster_folder / "file").touch()
        with pytest.raises(EmbeddedPostgresError, match="Not a directory"):
            await server_in(cluster_folder / "file" / "data").start()

    async def test_a_server_that_does_not_start_shows_its_log(self, cluster_folder: Path) -> None:
        with pytest.raises(EmbeddedPostgresError, match=r"did not start[\s\S]*shared_buffers") as caught:
            await server_in(cluster_folder, {"shared_buffers": "plenty"}).start()
        assert str(cluster_folder / "postgres.log") in str(caught.value)
        assert attachments(cluster_folder) == []
        async with server_in(cluster_folder) as server:
            assert await query(server, "SELECT 1") == 1

    async def test_a_data_directory_of_another_release(self, cluster_folder: Path) -> None:
        async with server_in(cluster_folder):
            pass
        (cluster_folder / "postgres" / "PG_VERSION").write_text("16\n")
        with pytest.raises(EmbeddedPostgresError, match="made by PostgreSQL 16"):
            await server_in(cluster_folder).start()
