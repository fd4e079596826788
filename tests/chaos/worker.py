"""The real worker, whose engine dies at named points: ``celery -A tests.chaos.worker worker``."""

from __future__ import annotations

from functools import cached_property

from tests.chaos.failpoints import wrapped
from vault.engine.tools import Tools
from vault.wiring import Wiring
from worker import app

_real = Wiring.__dict__["_tools"].func


def _deadly(wiring: Wiring) -> Tools:
    return wrapped(_real(wiring))


_tools = cached_property(_deadly)
_tools.__set_name__(Wiring, "_tools")
Wiring._tools = _tools  # type: ignore[assignment]  # the one place where the wiring is cut open, for dying

__all__ = ["app"]
