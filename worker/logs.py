"""Log lines of a worker: one form for ours and Celery's, as Celery's own options say where to and from which level."""

from __future__ import annotations

import structlog


def configure() -> None:
    """Send structlog's events through the standard library, as ``event=… key=value`` lines."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.contextvars.merge_contextvars,
            structlog.processors.LogfmtRenderer(key_order=["event"], bool_as_flag=False),
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
