"""The format of the log: one JSON object per line, or plain text.

A request may contain keys and other people's data, so the log has no value that comes from one,
except its method and path. A traceback shows neither variables nor the message of an error that may
quote what it got.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
import traceback
from collections.abc import Iterator
from typing import Any

import structlog
from structlog.types import EventDict, ExcInfo

from app.service.settings import Settings

FRAMES = 20
"""How many frames of a traceback are logged: the last ones."""
# Their messages come from the system, or are fixed texts.
_TELLING = (OSError, sqlite3.Error, MemoryError, RuntimeError)

log = structlog.stdlib.get_logger("bitcell")


def configure(settings: Settings) -> None:
    """Send the records of structlog and of the standard library to stderr, in the same format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers = [structlog.processors.ExceptionRenderer(_exception), *_renderers(settings)]
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[*shared, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[remove_meta, *renderers]
        )
    )
    logging.getLogger().handlers = [handler]


def log_loop_failure(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log a failure that nobody handled; asyncio would also show the objects involved in it."""
    log.error(str(context.get("message")), exc_info=context.get("exception"))


def _renderers(settings: Settings) -> list[Any]:
    on_terminal = sys.stderr.isatty()
    if settings.log_format == "text" or (settings.log_format == "auto" and on_terminal):
        # The exception is text already.
        plain = structlog.dev.plain_traceback
        return [
            _escape,
            structlog.dev.ConsoleRenderer(colors=on_terminal, exception_formatter=plain),
        ]
    return [structlog.processors.JSONRenderer()]


def _escape(logger: Any, name: str, event: EventDict) -> EventDict:
    """Escape characters of a path that would control the terminal or start a new line."""
    path = event.get("path")
    if isinstance(path, str) and not path.isprintable():
        event["path"] = ascii(path)
    return event


def _exception(exc_info: ExcInfo) -> str:
    return "\n".join(_tracebacks(exc_info[1], set()))


def _tracebacks(error: BaseException | None, seen: set[int]) -> Iterator[str]:
    """Yield the traceback of an error after those of the errors that it came from."""
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    yield from _tracebacks(error.__cause__, seen)
    if not error.__suppress_context__:
        yield from _tracebacks(error.__context__, seen)
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _tracebacks(each, seen)
    kind = type(error).__qualname__
    message = str(error) if isinstance(error, _TELLING) else "(may quote a request: not logged)"
    frames = "".join(traceback.format_tb(error.__traceback__, -FRAMES))
    yield f"Traceback (most recent call last):\n{frames}{kind}: {message}"
