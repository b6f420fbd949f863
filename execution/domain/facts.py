"""Facts: what is said of an execution in its log without changing it, such as `step.started` or `scope.refused`."""

from __future__ import annotations

import re
from typing import Any

from execution.domain.commands import Record
from execution.domain.documents import DEFAULT_LIMIT, to_document
from execution.errors import InvalidDocumentError

_NAME = re.compile(r"(?=.{3,100}\Z)[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")


def checked_fact(name: str, data: Any = None, limit: int = DEFAULT_LIMIT) -> Record:
    """The command that records a fact.

    Raises:
        InvalidDocumentError: the name is not dotted and lower case, or the data are no JSON object.
        DocumentTooLargeError: the data have more than `limit` bytes.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        expected = "it must be words of a-z, 0-9 and _ with dots between, such as step.started, in 100 characters"
        raise InvalidDocumentError(f"The fact's name {str(name)[:100]!r}", expected)
    return Record(fact=name, data=to_document(data, f"the data of the fact {name}", limit))
