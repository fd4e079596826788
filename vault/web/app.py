"""The application: everything under one roof, to stand alone or be mounted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from vault import Vault, VaultError
from vault.web import problems
from vault.web.asgi import Surroundings
from vault.web.connecting import callbacks, connecting
from vault.web.connections import connections
from vault.web.credentials import credentials
from vault.web.guard import House
from vault.web.introspection import introspection
from vault.web.shapes import Callback
from vault.web.standing import Looking, outside, standing

API: Final = "/api/v1"
UNTOLD: Final[Any] = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI would tell OpenTelemetry of addresses with all that stands in them: codes, states, tickets."""
ROUTERS: Final = (
    connections,
    credentials,
    standing,
    introspection,  # before those whose paths begin with a provider's name
    callbacks,
    connecting,
)
"""What stands under ``API``, in the order in which paths are compared."""


def create_app(vault: Vault | None = None) -> FastAPI:
    """Make the application.

    Args:
        vault: What to serve; its tenant does not matter, as each key has its own. None: one from the environment,
            which is closed when the application ends.

    Raises:
        ConfigurationError: The environment is not enough.
    """
    served = Vault.from_env() if vault is None else vault

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        if vault is None:
            await run_in_threadpool(served.close)

    app = FastAPI(
        title="Evergrant", version=version("evergrant"), lifespan=life, docs_url=None, redoc_url=None,
        openapi_url=f"{API}/openapi.json", redirect_slashes=False, telemetry=UNTOLD,
    )  # fmt: skip
    app.state.house, app.state.looking, app.state.api = House(served), Looking(served.serving), API
    for router in ROUTERS:
        app.include_router(router, prefix=API)
    app.include_router(outside)
    app.add_middleware(Surroundings, access_log=served.serving.access_log)
    app.add_exception_handler(VaultError, problems.on_vault_error)
    app.add_exception_handler(problems.Problem, problems.on_problem)
    app.add_exception_handler(HTTPException, problems.on_http_exception)
    app.add_exception_handler(RequestValidationError, problems.on_invalid)
    app.openapi = _described(app)  # type: ignore[method-assign]  # FastAPI's way of saying more
    return app


def from_env(environ: Mapping[str, str] | None = None, **overrides: Any) -> FastAPI:
    """Make the application with a vault from the ``VAULT_*`` environment; see ``Vault.from_env``.

    It is the caller's to close: ``app.state.house.vault.close()``.
    """
    return create_app(Vault.from_env(environ, **overrides))


def _described(app: FastAPI) -> Any:
    """Make the description, with the models that no endpoint names by itself; FastAPI's own 422 is not ours."""
    made: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not made:
            made.update(get_openapi(title=app.title, version=app.version, routes=app.routes))
            schemas = made.setdefault("components", {}).setdefault("schemas", {})
            for model in (problems.ProblemDocument, Callback):
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                schemas[schema["title"]] = schema
            for word in ("HTTPValidationError", "ValidationError"):
                schemas.pop(word, None)
        return made

    return openapi
