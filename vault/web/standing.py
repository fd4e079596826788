"""How things stand: figures of a tenant, health of the system, metrics of the process."""

from __future__ import annotations

import time
from threading import Lock
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.responses import JSONResponse
from starlette.responses import Response

from vault import Health, Serving, metrics_text
from vault.web.guard import Caller, Guard
from vault.web.routing import answers, router
from vault.web.shapes import StatisticsShape, SystemHealth

LOOK_S: Final = 5.0
"""The system is looked at no more often, however many ask."""
TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"

standing = router("standing")
outside = router("system")


@standing.get("/statistics", response_model=StatisticsShape, responses=answers())
def statistics(caller: Annotated[Caller, Depends(Guard("statistics:read"))]) -> StatisticsShape:
    """Count what this tenant has. Scope: `statistics:read`."""
    return StatisticsShape.of(caller.vault.statistics())


class Looking:
    """Looks at the system, one at a time and not too often."""

    def __init__(self, serving: Serving) -> None:
        self._serving, self._lock = serving, Lock()
        self._last: tuple[float, Health] | None = None

    def health(self) -> Health:
        """Return the last look, or take another."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last[0] > LOOK_S:
                found = self._serving.health()
                self._last = (time.monotonic(), found)  # by then: whoever waited for a slow look takes no other
            return self._last[1]


@outside.get(
    "/health",
    response_model=SystemHealth,
    responses={503: {"model": SystemHealth, "description": "The database is away: nothing can be served."}},
)
def health(request: Request) -> Response:
    """Say how everything stands, in words that give nothing away. Needs no key."""
    found = request.app.state.looking.health()
    said = SystemHealth(
        status=found.status, parts=found.told, lag_s=found.lag, audit_lag_s=found.audit_lag, workers=len(found.workers),
        checked_at=found.checked_at,
    )  # fmt: skip
    return JSONResponse(said.model_dump(mode="json"), 200 if found.told["database"] == "ok" else 503)


@outside.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **answers()},
)
def metrics(caller: Annotated[Caller, Depends(Guard("metrics:read"))]) -> Response:  # noqa: ARG001  # it is asked for
    """Return all metrics in Prometheus's text format. Scope: `metrics:read`."""
    return Response(metrics_text(), media_type=TEXT)
