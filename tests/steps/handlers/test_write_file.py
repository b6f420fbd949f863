"""`files.write_atomic`: below its roots and nowhere else, whole or not at all, and twice is once."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from execution.errors import DocumentTooLargeError, ExecutionServiceError
from execution.files_roots import PathNotAllowedError, PathUnusableError
from execution.settings import Settings
from execution.steps.handlers.refusals import FileNotWrittenError, InvalidStepError
from execution.steps.handlers.write_file import WriteFileHandler
from tests.support.step_calls import executed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "note.txt").write_text("as it was")
    return outside


@pytest.fixture
def handler(root: Path) -> WriteFileHandler:
    return writing(root)


def writing(root: Path, **changes: Any) -> WriteFileHandler:
    return WriteFileHandler(Settings(**{"steps_files_roots": str(root)} | changes))


def content_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, temporary ones too."""
    return {str(one.relative_to(folder)): one.read_bytes() for one in folder.rglob("*") if one.is_file()}


class TestWriting:
    async def test_the_content_and_its_digest(self, handler: WriteFileHandler, root: Path) -> None:
        output = await executed(handler, "sub/note.txt", content="hello ü")
        data = "hello ü".encode()
        assert content_of(root) == {"sub/note.txt": data}
        assert output.output == {
            "path": "sub/note.txt",
            "bytes": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "mode": "0644",
            "changed": True,
        }

    async def test_bytes_as_base64(self, handler: WriteFileHandler, root: Path) -> None:
        data = bytes(range(256))
        await executed(handler, str(root / "raw"), content=base64.b64encode(data).decode(), encoding="base64")
        assert content_of(root) == {"raw": data}

    async def test_the_mode_whatever_the_umask(self, handler: WriteFileHandler, root: Path) -> None:
        before = os.umask(0o077)
        try:
            output = await executed(handler, "note", content="", mode="0666")
        finally:
            os.umask(before)
        assert stat.S_IMODE((root / "note").stat().st_mode) == 0o666
        assert output.output["mode"] == "0666"

    async def test_twice_is_once(self, handler: WriteFileHandler, root: Path) -> None:
        await executed(handler, "note", content="a")
        before = (root / "note").stat()
        assert (await executed(handler, "note", content="a")).output["changed"] is False
        after = (root / "note").stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)

    @pytest.mark.parametrize("other", [{"content": "b"}, {"content": "a", "mode": "600"}, {"content": ""}])
    async def test_another_content_or_mode_replaces_it(
        self, handler: WriteFileHandler, root: Path, other: dict[str, Any]
    ) -> None:
        await executed(handler, "note", content="a")
        before = (root / "note").stat().st_ino
        assert (await executed(handler, "note", **other)).output["changed"] is True
        assert content_of(root) == {"note": other["content"].encode()}
        assert (root / "note").stat().st_ino != before, "whoever has the old one open still reads the old one"

    async def test_many_at_once_leave_one_of_their_contents(self, handler: WriteFileHandler, root: Path) -> None:
        contents = [f"{number}" * 50_000 for number in range(10)]
        await asyncio.gather(*(executed(handler, "note", content=content) for content in contents))
        assert list(content_of(root)) == ["note"]
        assert (root / "note").read_text() in contents

    async def test_file_and_folder_are_on_the_disk(
        self, handler: WriteFileHandler, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was synchronized, in order: the file before it has its name, the folder afterwards."""
        synchronized: list[str] = []
        fsync, rename = os.fsync, os.rename

        def note_fsync(descriptor: int) -> None:
            fsync(descriptor)
            synchronized.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")

        def note_rename(*arguments: Any, **options: Any) -> None:
            rename(*arguments, **options)
            synchronized.append("rename")

        monkeypatch.setattr(os, "fsync", note_fsync)
        monkeypatch.setattr(os, "rename", note_rename)
        await executed(handler, "note", content="a")
        assert synchronized == ["file", "rename", "folder"]


class TestWhere:
    @pytest.mark.parametrize("path", ["../outside/note.txt", "/etc/note.txt", "sub/../../outside/x", "..", "sub/.."])
    async def test_nowhere_else(self, handler: WriteFileHandler, root: Path, outside: Path, path: str) -> None:
        with pytest.raises(PathNotAllowedError, match="EXECUTION_STEPS_FILES_ROOTS"):
            await executed(handler, path, content="x")
        assert content_of(outside) == {"note.txt": b"as it was"}
        assert content_of(root) == {}

    async def test_nowhere_by_default(self, tmp_path: Path) -> None:
        with pytest.raises(PathNotAllowedError, match="EXECUTION_STEPS_FILES_ROOTS"):
            await executed(WriteFileHandler(Settings()), str(tmp_path / "x"), content="x")
        assert content_of(tmp_path) == {}

    async def test_not_through_a_link_to_a_folder_outside(
        self, handler: WriteFileHandler, root: Path, outside: Path
    ) -> None:
        (root / "link").symlink_to(outside)
        with pytest.raises(PathNotAllowedError):
            await executed(handler, "link/note.txt", content="x")
        assert content_of(outside) == {"note.txt": b"as it was"}

    async def test_through_a_link_that_stays_inside(self, handler: WriteFileHandler, root: Path) -> None:
        (root / "link").symlink_to(root / "sub")
        await executed(handler, "link/note.txt", content="x")
        assert content_of(root / "sub") == {"note.txt": b"x"}

    @pytest.mark.parametrize("path", ["sub/note.txt", "sub/deep/note.txt"])
    async def test_a_folder_exchanged_for_a_link_after_the_check(
        self, handler: WriteFileHandler, root: Path, outside: Path, monkeypatch: pytest.MonkeyPatch, path: str
    ) -> None:
        (root / "sub" / "deep").mkdir()
        (outside / "deep").mkdir()
        assert handler._roots is not None
        checked = handler._roots.folder

        def exchanged_after(requested: str) -> Path:
            path = checked(requested)
            (root / "sub").rename(root / "moved")
            (root / "sub").symlink_to(outside)
            return path

        monkeypatch.setattr(handler._roots, "folder", exchanged_after)
        with pytest.raises(FileNotWrittenError):
            await executed(handler, path, content="x")
        assert content_of(outside) == {"note.txt": b"as it was"}

    @pytest.mark.parametrize("what", ["a link to a file outside", "a dangling link", "a folder", "a FIFO"])
    async def test_not_in_the_place_of_anything_else(
        self, handler: WriteFileHandler, root: Path, outside: Path, what: str
    ) -> None:
        place = root / "place"
        match what:
            case "a folder":
                place.mkdir()
            case "a FIFO":
                os.mkfifo(place)
            case "a dangling link":
                place.symlink_to(root / "missing")
            case _:
                place.symlink_to(outside / "note.txt")
        with pytest.raises(FileNotWrittenError, match="no regular file"):
            await executed(handler, "place", content="x")
        assert content_of(outside) == {"note.txt": b"as it was"}
        assert place.is_symlink() == ("link" in what)

    @pytest.mark.parametrize(
        ("path", "error"),
        [
            ("missing/note", PathUnusableError),
            ("sub/", PathUnusableError),
            ("sub/.", PathUnusableError),
            ("x" * 300, FileNotWrittenError),
            ("", InvalidStepError),
            ("a\x00b", InvalidStepError),
        ],
    )
    async def test_not_where_no_file_can_be(
        self, handler: WriteFileHandler, root: Path, path: str, error: type[ExecutionServiceError]
    ) -> None:
        with pytest.raises(error):
            await executed(handler, path, content="x")
        assert content_of(root) == {}


class TestRefusals:
    async def test_what_is_too_large(self, root: Path) -> None:
        handler = writing(root, steps_files_bytes=10)
        assert (await executed(handler, "note", content="x" * 10)).success
        packed = base64.b64encode(b"x" * 11).decode()
        too_large: list[dict[str, Any]] = [
            {"content": "ü" * 6},
            {"content": packed, "encoding": "base64"},
        ]
        for parameters in too_large:
            with pytest.raises(DocumentTooLargeError):
                await executed(handler, "note", **parameters)
        assert content_of(root) == {"note": b"x" * 10}

    @pytest.mark.parametrize(
        "parameters",
        [
            {},
            {"content": "x", "mode": "4755"},
            {"content": "x", "mode": "778"},
            {"content": "x", "mode": 420},
            {"content": "not base64!", "encoding": "base64"},
            {"content": "ü", "encoding": "base64"},
            {"content": "x", "owner": "root"},
        ],
    )
    async def test_parameters_that_do_not_fit(
        self, handler: WriteFileHandler, root: Path, parameters: dict[str, Any]
    ) -> None:
        with pytest.raises(InvalidStepError):
            await executed(handler, "note", **parameters)
        assert content_of(root) == {}

    async def test_a_write_that_fails_leaves_what_was_there(
        self, handler: WriteFileHandler, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (root / "note").write_text("before")

        def full_disk(_descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(FileNotWrittenError, match="no space left on device"):
            await executed(handler, "note", content="after")
        assert content_of(root) == {"note": b"before"}
