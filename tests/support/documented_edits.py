"""Reads the programs and the changes out of a document, and applies the changes to a copy of the packages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NEW_FILE = "/dev/null"


@dataclass(frozen=True, kw_only=True)
class Edit:
    """One hunk: what stands there, and what is to stand there. An empty `before` makes a new file."""

    path: str
    before: str
    after: str

    def apply(self, root: Path) -> None:
        """Edit the file below `root`; the place must be there exactly once."""
        file = root / self.path
        if not self.before:
            assert not file.exists(), f"{self.path} exists already"
            file.write_text(self.after, encoding="utf-8")
            return
        text = file.read_text(encoding="utf-8")
        assert text.count(self.before) == 1, (
            f"{self.path} has this place {text.count(self.before)} times:\n{self.before}"
        )
        file.write_text(text.replace(self.before, self.after), encoding="utf-8")


def programs(document: Path) -> dict[str, str]:
    """The Python blocks that begin with their file name as a comment, by that name."""
    blocks = (body for language, body in _blocks(document) if language == "python")
    return {body.partition("\n")[0].removeprefix("# "): body for body in blocks}


def edits(document: Path) -> list[Edit]:
    """The changes of the document, in its order."""
    return [edit for language, body in _blocks(document) if language == "diff" for edit in _edits_of(body)]


def _blocks(document: Path) -> list[tuple[str, str]]:
    return _FENCE.findall(document.read_text(encoding="utf-8"))


def _edits_of(diff: str) -> list[Edit]:
    head, *hunks = diff.split("@@\n")
    before_name, after_name = (line[4:] for line in head.splitlines())
    assert before_name in {after_name, _NEW_FILE}
    return [Edit(path=after_name, before=_side(hunk, " -"), after=_side(hunk, " +")) for hunk in hunks]


def _side(hunk: str, marks: str) -> str:
    lines = hunk.splitlines(keepends=True)
    assert all(line[0] in " +-\n" for line in lines), f"not a change:\n{hunk}"
    return "".join(line[1:] or line for line in lines if line[0] in marks)
