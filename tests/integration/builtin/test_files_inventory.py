"""Kind `files.inventory`, on real folders."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from execution.builtin.files_inventory import FilesInventory, InventoryParameters
from execution.builtin.fingerprint import PIECE_BYTES
from execution.builtin.inventory import Inventory
from execution.domain.outcome import PartialSuccess, StopRequested
from execution.files_roots import FilesRoots, PathNotAllowedError
from tests.support.recording_context import RecordingContext

PROJECT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def run(folder: Path, context: RecordingContext | None = None, **parameters: object) -> Inventory | PartialSuccess:
    handler = FilesInventory(FilesRoots([folder]))
    return handler.run(context or RecordingContext(), InventoryParameters.model_validate(parameters))


def complete(folder: Path, **parameters: object) -> Inventory:
    inventory = run(folder, None, **parameters)
    assert isinstance(inventory, Inventory)
    return inventory


def partial(folder: Path, context: RecordingContext | None = None, **parameters: object) -> tuple[Inventory, str]:
    outcome = run(folder, context, **parameters)
    assert isinstance(outcome, PartialSuccess)
    assert isinstance(outcome.result, Inventory)
    assert outcome.missing is not None
    return outcome.result, outcome.missing


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_it_counts_by_language_and_digests_what_is_there(folder: Path) -> None:
    files = {
        "a.py": b"one\ntwo\n",
        "b/c.py": b"no line end",
        "b/Makefile": b"all:\n\ttrue\n",
        "data.bin": b"\0\n\n" * 100_000,
        "empty.txt": b"",
    }
    write(folder, files)

    inventory = complete(folder)

    by_language = {one.language: (one.files, one.lines, one.bytes) for one in inventory.languages}
    assert by_language == {
        "Other": (1, 0, 300_000),
        "Python": (2, 3, 19),
        "Makefile": (1, 2, 11),
        "Text": (1, 0, 0),
    }
    assert inventory.total.model_dump() == {"files": 5, "lines": 5, "bytes": 300_030}
    listing = b"".join(b"%b\0%b\n" % (name.encode(), sha256(files[name]).encode()) for name in sorted(files))
    assert inventory.digest == sha256(listing)
    assert [(one.path, one.bytes, one.sha256) for one in inventory.largest][:2] == [
        ("data.bin", 300_000, sha256(files["data.bin"])),
        ("b/Makefile", 11, sha256(files["b/Makefile"])),
    ]


def test_equal_folders_have_equal_digests_and_a_changed_byte_another(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / name, {"x/1.txt": b"1", "2.txt": b"2"})
    assert complete(tmp_path / "first").digest == complete(tmp_path / "second").digest
    (tmp_path / "second" / "2.txt").write_bytes(b"3")
    assert complete(tmp_path / "first").digest != complete(tmp_path / "second").digest


def test_it_groups_duplicates_but_not_empty_files(folder: Path) -> None:
    large, small = b"x" * PIECE_BYTES * 2, b"same"
    write(folder, {"1": small, "2": small, "3": small, "4": large, "deep/5": large, "6": b"", "7": b"", "8": b"alone"})

    inventory = complete(folder)

    assert inventory.duplicate_group_count == 2
    assert [(one.sha256, one.bytes, one.count, one.paths) for one in inventory.duplicates] == [
        (sha256(large), len(large), 2, ["4", "deep/5"]),
        (sha256(small), 4, 3, ["1", "2", "3"]),
    ]


def test_ignored_folders_are_left_out_but_files_of_that_name_are_not(folder: Path) -> None:
    write(folder, {".git/config": b"1", "a/node_modules/b.js": b"2", "a/build/c": b"3", "build": b"4"})
    assert complete(folder).total.files == 2
    assert complete(folder, ignore=["build"]).total.files == 3
    assert complete(folder, ignore=[]).total.files == 4


def test_progress_never_goes_back_and_ends_at_100(folder: Path) -> None:
    write(folder, {f"{number}.txt": b"x" * number * 1000 for number in range(300)})
    context = RecordingContext()
    run(folder, context)
    assert context.percentages == sorted(context.percentages)
    assert (context.percentages[0], context.percentages[-1]) == (0, 100)
    assert context.percentages.count(100) == 1
    assert 50 < len(context.percentages) <= 101


def test_an_empty_folder_is_an_inventory_too(folder: Path) -> None:
    context = RecordingContext()
    inventory = run(folder, context)
    assert isinstance(inventory, Inventory)
    assert (inventory.total.files, inventory.digest) == (0, sha256(b""))
    assert context.percentages == [0, 100]


@pytest.mark.parametrize("content", [b"x", b""])
@pytest.mark.parametrize("reports", [1, 2, 40])
def test_a_request_to_stop_is_obeyed_before_the_next_report(folder: Path, reports: int, content: bytes) -> None:
    write(folder, {f"{number}.txt": content for number in range(200)})
    context = RecordingContext(cancel_after=reports)
    with pytest.raises(StopRequested):
        run(folder, context)
    assert len(context.percentages) == reports


def test_a_request_to_stop_is_obeyed_within_a_large_file(folder: Path) -> None:
    write(folder, {"large": b"x" * PIECE_BYTES * 40})
    context = RecordingContext(cancel_after=3)
    with pytest.raises(StopRequested):
        run(folder, context)
    assert context.percentages[-1] < 10


def test_special_files_are_skipped_and_never_opened(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, {"a.txt": b"a"})
    os.mkfifo(folder / "fifo")
    (folder / "to-fifo").symlink_to("fifo")
    monkeypatch.chdir(folder)  # a socket's path may have about 100 characters only
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        inventory = complete(folder)
    assert (inventory.total.files, inventory.special_files) == (1, 3)


def test_links_count_only_files_below_the_roots_not_met_otherwise(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "root" / "folder", tmp_path / "root" / "elsewhere"
    write(tmp_path, {"root/folder/real.txt": b"real", "root/elsewhere/once.txt": b"once!", "secret.txt": b"secret"})
    (folder / "a-real").symlink_to("real.txt")
    (folder / "a-once").symlink_to(elsewhere / "once.txt")
    (folder / "b-once").symlink_to(elsewhere / "once.txt")
    (folder / "c-folder").symlink_to(elsewhere)
    (folder / "d-up").symlink_to("..")
    (folder / "e-secret").symlink_to(tmp_path / "secret.txt")
    (folder / "f-nothing").symlink_to(tmp_path / "nothing.txt")

    inventory = complete(tmp_path / "root", path="folder")

    assert {one.path: one.bytes for one in inventory.largest} == {"real.txt": 4, "a-once": 5}
    assert inventory.links_not_followed == 6


def test_broken_links_make_the_success_partial_and_are_named(folder: Path) -> None:
    write(folder, {"good.txt": b"good"})
    (folder / "dangling").symlink_to("gone")
    (folder / "loop").symlink_to("loop")

    inventory, missing = partial(folder)

    assert inventory.total.files == 1
    assert inventory.unreadable_count == 2
    assert [one.path for one in inventory.unreadable] == ["dangling", "loop"]
    assert "symbolic links" in inventory.unreadable[1].problem
    assert missing == "2 unreadable, among them 'dangling' (no such file or directory)"


def removed(path: Path) -> None:
    path.unlink()


def exchanged_for_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


def exchanged_for_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def folder_exchanged_for_a_link(path: Path) -> None:
    path.parent.rename(path.parent.with_name("moved"))
    path.parent.symlink_to("/etc")


@pytest.mark.parametrize("change", [removed, exchanged_for_a_link, exchanged_for_a_fifo, folder_exchanged_for_a_link])
def test_a_file_that_changes_its_nature_after_it_was_found_is_named_not_followed(
    folder: Path, change: Callable[[Path], None]
) -> None:
    write(folder, {"a.bin": b"x" * PIECE_BYTES * 4, "sub/passwd": b"y" * 10})
    # The first report after the count comes from the first piece of a.bin, which is read before sub/passwd.
    context = ChangingContext(after=2, change=lambda: change(folder / "sub" / "passwd"))

    inventory, missing = partial(folder, context)

    assert inventory.total.files == 1
    assert [one.path for one in inventory.unreadable] == ["sub/passwd"]
    assert "1 unreadable" in missing
    assert context.percentages[-1] == 100


class ChangingContext(RecordingContext):
    """Changes something when a report of that number is made."""

    def __init__(self, *, after: int, change: Callable[[], None]) -> None:
        super().__init__()
        self._after = after
        self._change = change

    def progress(self, percentage: float, message: str | None = None, context: dict[str, object] | None = None) -> None:
        super().progress(percentage, message, context)
        if len(self.percentages) == self._after:
            self._change()


def test_a_file_that_grows_while_it_is_read_is_read_to_where_it_ended(folder: Path) -> None:
    path = folder / "growing.log"
    path.write_bytes(b"x" * (PIECE_BYTES * 3 + 1))

    def grow() -> None:
        with path.open("ab") as file:
            file.write(b"y" * PIECE_BYTES * 10)

    inventory = run(folder, ChangingContext(after=2, change=grow))
    assert isinstance(inventory, Inventory)
    assert inventory.total.bytes == PIECE_BYTES * 3 + 1


def test_more_files_than_allowed_are_said_to_be_missing(folder: Path) -> None:
    write(folder, {f"{number}.txt": b"x" for number in range(30)})
    inventory, missing = partial(folder, max_files=10)
    assert (inventory.total.files, inventory.truncated) == (10, True)
    assert "max_files" in missing
    assert not complete(folder, max_files=30).truncated


def test_the_result_stays_far_below_the_inline_bound(folder: Path) -> None:
    # Names of control characters take most room as JSON: six bytes for each one.
    deep = folder / ("\x01" * 240) / ("\x02" * 240)
    for group in range(25):
        content = b"%d" % group * 100
        write(deep, {f"{group:03}{number}" + "\x03" * 200: content for number in range(12)})
    for number in range(100):
        (folder / (f"{number}" + "\x04" * 200)).symlink_to("gone")

    inventory, missing = partial(folder, largest=50)

    assert (inventory.duplicate_group_count, inventory.unreadable_count) == (25, 100)
    assert (len(inventory.duplicates), len(inventory.unreadable), len(inventory.largest)) == (20, 20, 50)
    assert {one.count for one in inventory.duplicates} == {12}
    assert len(orjson.dumps(inventory.model_dump())) < 200 * 1024
    assert len(missing) < 2000


def test_names_that_are_not_utf_8_are_shown_escaped(folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9.txt")).write_bytes(b"x")
    inventory = complete(folder)
    assert inventory.largest[0].path == "caf\\xe9.txt"
    assert inventory.digest == sha256(b"caf\xe9.txt\0" + sha256(b"x").encode() + b"\n")


def test_a_folder_outside_the_roots_is_refused(folder: Path) -> None:
    with pytest.raises(PathNotAllowedError):
        run(folder, path="..")


def test_on_the_projects_own_packages_it_agrees_with_an_independent_count() -> None:
    inventory = run(PROJECT, path="execution/domain")
    assert isinstance(inventory, Inventory)
    sources = [path for path in (PROJECT / "execution" / "domain").rglob("*.py") if path.is_file()]
    python = next(one for one in inventory.languages if one.language == "Python")
    assert python.files == len(sources) > 3
    assert python.bytes == sum(path.stat().st_size for path in sources)
    assert python.lines == sum(len(path.read_text().splitlines()) for path in sources)
