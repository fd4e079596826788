"""Celery as a doorbell: ``celery -A worker worker``, ``celery -A worker beat``, ``celery -A worker flower``."""

from worker import flower_guard, process, pulse, sign, tasks
from worker.app import app

flower_guard.install()

__all__ = ["app", "process", "pulse", "sign", "tasks"]
