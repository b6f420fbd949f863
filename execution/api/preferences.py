"""`Prefer: wait=n` (RFC 7240): how long a submitter wants to wait for the end before it is told of the beginning."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated

from fastapi import Depends, Header, Request

MAX_WAIT_SECONDS = 60
_WAIT = re.compile(r'wait\s*=\s*"?(?P<seconds>[0-9]{1,9})"?', re.IGNORECASE)


async def _wait(
    request: Request,
    _: Annotated[
        str | None,
        Header(
            alias="Prefer",
            description=f"`wait=n`: answer 200 with the ended execution if it ends within n seconds, at most "
            f"{MAX_WAIT_SECONDS}; otherwise 202 as without.",
            examples=["wait=10"],
        ),
    ] = None,
) -> int | None:
    """Seconds; None where nothing is preferred."""
    return preferred_wait(request.headers.getlist("prefer"))


def preferred_wait(headers: Iterable[str]) -> int | None:
    """The seconds that `Prefer` headers ask for; None where nothing, or nothing understood, is preferred: preferences
    never make a request fail.
    """
    for preference in re.split(r"[,;]", ",".join(headers)):
        wait = _WAIT.fullmatch(preference.strip())
        if wait is not None:
            return min(int(wait["seconds"]), MAX_WAIT_SECONDS)
    return None


WaitSeconds = Annotated[int | None, Depends(_wait)]
