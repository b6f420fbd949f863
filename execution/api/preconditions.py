"""Conditional requests (RFC 9110, section 13): a version is a strong entity tag, and a command may name it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Header, Request
from pydantic import WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from execution.api.door import OwnDoor
from execution.api.errors import PreconditionRequiredError
from execution.errors import VersionConflict
from execution.request_errors import MalformedRequestError, PreconditionFailedError
from execution.service import ExecutionService

_TAG = re.compile(r'(?P<weak>W/)?"(?P<opaque>[\x21\x23-\x7e\x80-\xff]*)"(?=[ \t]*(?:,|\Z))')
_TAG_PATTERN = r'(W/)?"[!#-~]*"'
_TAGS = Annotated[str, WithJsonSchema({"type": "string", "pattern": rf"^(\*|{_TAG_PATTERN}(, ?{_TAG_PATTERN})*)$"})]
"""For OpenAPI: the grammar without its liberties. What does not follow it at all is malformed, not invalid."""
_VERSION = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True, kw_only=True)
class EntityTags:
    """What a condition names: anything that exists, or some tags."""

    anything: bool = False
    strong: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()

    @classmethod
    def of(cls, request: Request, header: str) -> EntityTags | None:
        """The tags of a header, however many lines it has; None: there is no such header.

        Raises:
            MalformedRequestError: it is not a list of quoted tags.
        """
        lines = request.headers.getlist(header)
        return cls.parse(header, ",".join(lines)) if lines else None

    @classmethod
    def parse(cls, header: str, value: str) -> EntityTags:
        """The same of the header's value."""
        if value.strip() == "*":
            return cls(anything=True)
        strong: set[str] = set()
        weak: set[str] = set()
        position = 0
        while True:
            position = _skip_blanks_and_commas(value, position)
            if position == len(value):
                break
            tag = _TAG.match(value, position)
            if tag is None:
                raise MalformedRequestError(header, 'it must be * or quoted entity tags, such as "7"')
            (weak if tag["weak"] else strong).add(tag["opaque"])
            position = tag.end()
        if not strong and not weak:
            raise MalformedRequestError(header, "it names no entity tag")
        return cls(strong=frozenset(strong), weak=frozenset(weak))

    def match_weakly(self, version: int) -> bool:
        """Is one of them, weak or strong, the tag of that version? What `If-None-Match` asks."""
        return self.anything or str(version) in self.strong | self.weak

    def match_strongly(self, version: int) -> bool:
        """Is one of the strong ones? What `If-Match` asks."""
        return self.anything or str(version) in self.strong


@dataclass(frozen=True)
class IfMatch:
    """The condition of a command."""

    tags: EntityTags | None

    async def version(self, service: ExecutionService, execution_id: UUID) -> int | None:
        """The version that the command may apply to; None: any.

        One tag is checked by the write itself. Of several at most one can be current, so which one is looked up. If
        none is, it is left to the write to refuse that: it knows whether this command was what changed the version.

        Raises:
            ExecutionNotFoundError: nothing can match what does not exist.
            PreconditionFailedError: none of them can be one.
        """
        if self.tags is None or self.tags.anything:
            return None
        if len(self.tags.strong) == 1:
            (only,) = self.tags.strong
            if _VERSION.fullmatch(only):
                return int(only)
        execution = await service.get_execution(execution_id)
        if self.tags.match_strongly(execution.version):
            return execution.version
        named = [int(tag) for tag in self.tags.strong if _VERSION.fullmatch(tag)]
        if not named:
            raise PreconditionFailedError(execution_id)
        return max(named)

    @contextmanager
    def deciding(self, execution_id: UUID) -> Iterator[None]:
        """A conflict inside is a failed precondition, if there was one."""
        try:
            yield
        except VersionConflict:
            if self.tags is None or self.tags.anything:
                raise
            raise PreconditionFailedError(execution_id) from None


async def _if_match(
    request: Request,
    door: OwnDoor,
    _: Annotated[
        _TAGS | SkipJsonSchema[None],
        Header(
            alias="If-Match",
            description="Carry the command out only if the execution is still at this version: its ETag.",
            examples=['"2"'],
        ),
    ] = None,
) -> IfMatch:
    tags = EntityTags.of(request, "If-Match")
    if tags is None and door.settings.require_if_match:
        raise PreconditionRequiredError
    return IfMatch(tags)


async def _if_none_match(
    request: Request,
    _: Annotated[
        _TAGS | SkipJsonSchema[None],
        Header(
            alias="If-None-Match", description="The ETag of what you have: 304 if it is unchanged.", examples=['"2"']
        ),
    ] = None,
) -> EntityTags | None:
    return EntityTags.of(request, "If-None-Match")


OwnIfMatch = Annotated[IfMatch, Depends(_if_match)]
IfNoneMatch = Annotated[EntityTags | None, Depends(_if_none_match)]


def _skip_blanks_and_commas(value: str, position: int) -> int:
    while position < len(value) and value[position] in " \t,":
        position += 1
    return position
