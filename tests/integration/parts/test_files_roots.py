"""What may be read, and that nothing else is, even when files change under the reader."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from execution.files_roots import FilesRoots, PathNotAllowedError, PathUnusableError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "note.txt").write_text("inside")
    return root


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "note.txt").write_text("secret")
    return outside


@pytest.fixture
def roots(root: Path) -> FilesRoots:
    return FilesRoots([root])


def read(roots: FilesRoots, requested: str) -> bytes:
    with roots.open_requested(requested) as file:
        return file.read()


def test_relative_and_absolute_paths_below_a_root_are_read(roots: FilesRoots, root: Path) -> None:
    assert read(roots, "sub/note.txt") == b"inside"
    assert read(roots, str(root / "sub" / ".." / "sub" / "note.txt")) == b"inside"
    assert roots.folder(".") == roots.folder("sub/..") == root


def test_relative_paths_belong_to_the_first_root_and_absolute_ones_to_any(root: Path, outside: Path) -> None:
    both = FilesRoots([root, outside])
    assert read(both, str(outside / "note.txt")) == b"secret"
    with pytest.raises(PathUnusableError, match="no such file"):
        both.open_requested("note.txt")


def test_links_that_stay_below_the_roots_are_resolved(roots: FilesRoots, root: Path) -> None:
    (root / "link.txt").symlink_to("sub/note.txt")
    (root / "folder").symlink_to("sub")
    assert read(roots, "link.txt") == read(roots, "folder/note.txt") == b"inside"


def test_a_root_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(root)
    assert read(FilesRoots([tmp_path / "alias"]), "sub/note.txt") == b"inside"


@pytest.mark.parametrize(
    "requested", ["..", "../outside/note.txt", "sub/../../outside/note.txt", "/", "out/note.txt", "out.txt", "out/none"]
)
def test_what_leads_out_of_the_roots_is_refused(roots: FilesRoots, root: Path, outside: Path, requested: str) -> None:
    (root / "out").symlink_to(outside)
    (root / "out.txt").symlink_to(outside / "note.txt")
    with pytest.raises(PathNotAllowedError, match="EXECUTION_FILES_ROOTS") as refused:
        roots.open_requested(requested)
    assert (refused.value.code, refused.value.status) == ("path_not_allowed", 422)
    assert str(outside) not in str(refused.value)


def test_a_neighbour_whose_name_begins_like_the_root_is_outside(roots: FilesRoots, root: Path) -> None:
    neighbour = root.with_name("rooted")
    neighbour.mkdir()
    with pytest.raises(PathNotAllowedError):
        roots.folder(str(neighbour))


@pytest.mark.parametrize(
    ("requested", "problem"),
    [
        ("none.txt", "no such file"),
        ("sub", "it is a folder"),
        ("sub/note.txt/deeper", "not a directory"),
        ("loop", "symbolic links"),
        ("dangling", "no such file"),
        ("fifo", "no regular file"),
        ("nul\0", "null"),
        ("half\ud800", "surrogates"),
        ("n" * 300, "name too long"),
    ],
)
def test_what_cannot_be_read_is_refused_readably(roots: FilesRoots, root: Path, requested: str, problem: str) -> None:
    (root / "loop").symlink_to("loop")
    (root / "dangling").symlink_to("gone")
    os.mkfifo(root / "fifo")
    with pytest.raises(PathUnusableError, match=problem):
        roots.open_requested(requested)


def test_a_file_is_no_folder(roots: FilesRoots) -> None:
    with pytest.raises(PathUnusableError, match="not a folder"):
        roots.folder("sub/note.txt")


def test_a_file_exchanged_for_a_link_after_the_check_is_not_followed(
    roots: FilesRoots, root: Path, outside: Path
) -> None:
    checked = root / "sub" / "note.txt"
    checked.unlink()
    checked.symlink_to(outside / "note.txt")
    with pytest.raises(OSError, match="symbolic links"):
        roots.open_file(checked)


def test_a_folder_exchanged_for_a_link_after_the_check_is_not_followed(
    roots: FilesRoots, root: Path, outside: Path
) -> None:
    (root / "sub").rename(root / "moved")
    (root / "sub").symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        roots.open_file(root / "sub" / "note.txt")
    with pytest.raises(NotADirectoryError), roots.open_folder(root / "sub"):
        pass


def test_a_file_exchanged_for_a_fifo_after_the_check_does_not_hang(roots: FilesRoots, root: Path) -> None:
    os.mkfifo(root / "fifo")
    with pytest.raises(OSError, match="no longer a regular file"):
        roots.open_file(root / "fifo")


def test_no_descriptor_is_left_open(roots: FilesRoots, root: Path) -> None:
    os.mkfifo(root / "fifo")
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208 - nothing else counts descriptors
    for path in (root / "sub" / "note.txt", root / "fifo", root / "none" / "deep"):
        try:
            roots.open_file(path).close()
        except OSError:
            continue
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208


def test_without_any_root_nothing_starts() -> None:
    with pytest.raises(ValueError, match="EXECUTION_FILES_ROOTS"):
        FilesRoots([])
