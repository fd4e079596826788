"""Flower behind a password: ``python -m worker.flower`` is ``celery -A worker flower`` under a shorter name."""

from __future__ import annotations

import flower.command  # type: ignore[import-untyped]  # noqa: F401  # Flower has no annotations; loaded to be guarded

from worker import app, flower_guard


def main() -> None:
    """Run Flower on our app, with safe options."""
    flower_guard.install()
    app.start(["flower"])


if __name__ == "__main__":
    main()
