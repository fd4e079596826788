"""Metrics of the worker itself."""

from __future__ import annotations

from typing import Final

from prometheus_client import Histogram

task_seconds: Final = Histogram("evergrant_task_seconds", "How long tasks took.", ["task", "outcome"])
"""outcome: done, retried, failed."""
