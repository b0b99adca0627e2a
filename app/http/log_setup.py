"""The format of the log: one JSON object per line, or plain text."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from app.service.settings import Settings


def configure(settings: Settings) -> None:
    """Send the records of structlog and of uvicorn to stderr, in the same format."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderers = _renderers(settings)
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
    uvicorn = logging.getLogger("uvicorn")
    uvicorn.handlers = [handler]
    uvicorn.propagate = False


def _renderers(settings: Settings) -> list[Any]:
    on_terminal = sys.stderr.isatty()
    if settings.log_format == "text" or (settings.log_format == "auto" and on_terminal):
        return [structlog.dev.ConsoleRenderer(colors=on_terminal)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
