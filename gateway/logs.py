"""structlog, set up once a process. Inputs and outputs of models are never logged."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from gateway.config import LogSettings


def set_up(settings: LogSettings, role: str) -> None:
    """Lines to stderr: for people on a terminal, else JSON, one object a line, with the role of this process."""
    level = getattr(logging, settings.level.upper())
    human = settings.format == "console" or (settings.format == "auto" and sys.stderr.isatty())
    renderer: Any = structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.dict_tracebacks if not human else structlog.processors.StackInfoRenderer(),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(role=role)
