"""Celery as a doorbell: ``celery -A worker worker``, ``celery -A worker beat``, ``celery -A worker flower``."""

from worker import process, pulse, tasks
from worker.app import app

__all__ = ["app", "process", "pulse", "tasks"]
