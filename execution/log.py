"""Logging: one line per event on standard error, for people or as JSON, under a stable `action`.

What executions carry is not ours to publish: parameters, results and passwords in addresses never reach a line.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

WITHHELD = frozenset(
    {"parameters", "result", "data", "context", "payload", "headers", "password", "token", "authorization"}
)
"""Fields whose values are never written."""

_PASSWORD_IN_URL = re.compile(r"(?P<before>\w+://[^\s:/@]*):[^\s@/]+@")
_SECRET_OF_API_KEY = re.compile(r"(?P<before>exk_[0-9A-Za-z]{12}_)[0-9A-Za-z]+")


def configure_logging(level: str = "INFO", form: str = "console", stream: TextIO | None = None) -> None:
    """Write log lines of `level` and above to `stream` (default: standard error), as `console` text or as `json`."""
    stream = stream or sys.stderr
    number = logging.getLevelNamesMapping()[level]
    renderer = _renderer(form, colors=stream.isatty())
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, *_shared(), renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _take_over_libraries(max(number, logging.WARNING), renderer, stream)


def hand_to_host() -> None:
    """Unless the program has configured structlog, give our lines to its `logging`, which decides what is shown."""
    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, withhold, structlog.stdlib.render_to_log_kwargs],
            wrapper_class=structlog.stdlib.BoundLogger,
            logger_factory=structlog.stdlib.LoggerFactory(),
        )


def withhold(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Blank out what must not be logged."""
    for name, value in event.items():
        if name in WITHHELD:
            event[name] = "(withheld)"
        elif isinstance(value, str):
            event[name] = _without_secrets(value)
    return event


def _without_secrets(text: str) -> str:
    if "://" in text:
        text = _PASSWORD_IN_URL.sub(r"\g<before>:***@", text)
    if "exk_" in text:
        text = _SECRET_OF_API_KEY.sub(r"\g<before>***", text)
    return text


def _shared() -> list[Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.EventRenamer("action"),
        withhold,
    ]


def _renderer(form: str, *, colors: bool) -> Processor:
    if form == "json":
        return structlog.processors.JSONRenderer()
    # The plain traceback: the default one prints local variables, and with them what executions carry.
    return structlog.dev.ConsoleRenderer(
        colors=colors, event_key="action", exception_formatter=structlog.dev.plain_traceback
    )


def _take_over_libraries(level: int, renderer: Processor, stream: TextIO) -> None:
    """Lines of libraries that use `logging` look like ours, under the action `library.log`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, _name_action, *_shared()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _name_action(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["text"] = event["event"]
    event["event"] = "library.log"
    return event
