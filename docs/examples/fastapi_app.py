"""FastAPI: owners connect their accounts, and a page speaks to the provider in their name. See docs/integrations.md."""

from __future__ import annotations

import logging
import math
import os
from datetime import timedelta
from secrets import compare_digest, token_urlsafe
from typing import Annotated
from urllib.parse import parse_qsl

import requests
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.sessions import SessionMiddleware

from vault import Connection, ConnectRefused, ReconnectRequired, Status, UnknownConnection, Vault, VaultError

PROVIDERS = dict(each.split("=", 1) for each in os.environ["APP_PROVIDERS"].split())
"""What can be connected, and where each provider says who somebody is: ``spotify=https://api.spotify.com/v1/me``."""

PAGE = Environment(autoescape=True).from_string("""<!doctype html><meta charset="utf-8"><title>Accounts</title>
<h1><a href="{{ url_for('home') }}">Accounts</a></h1>
<pre>{{ said }}</pre>
<form method="post"><input type="hidden" name="csrf" value="{{ session.csrf }}">
{% for each in connections %}
  <p><a href="{{ url_for('account', connection_id=each.id) }}">{{ each.account or each.provider }}</a> {{ each.status }}
  <button formaction="{{ url_for('connect', provider=each.provider) }}" name="reconnect" value="{{ each.id }}">
    Reconnect</button>
  <button formaction="{{ url_for('disconnect', connection_id=each.id) }}">Disconnect</button></p>
{% endfor %}
{% if session.user %}
  {% for each in providers %}<button formaction="{{ url_for('connect', provider=each) }}">Connect {{ each }}</button>
  {% endfor %}
{% else %}
  <input name="name" required><button formaction="{{ url_for('login') }}">Sign in</button>
{% endif %}
</form>
""")

app = FastAPI(openapi_url=None)
app.add_middleware(
    SessionMiddleware,
    secret_key=os.environ["APP_SECRET"],
    https_only=os.environ["VAULT_REDIRECT_URI"].startswith("https:"),
    same_site="lax",  # with "strict", owners would come back from the provider without their session
)
vault = Vault.from_env()  # one for the process; it connects at its first call, and anew after a fork
log = logging.getLogger("uvicorn.error")


async def form(request: Request) -> dict[str, str]:
    """Read a form, from this session's own pages only. All else here is sync: the vault's calls wait, in threads."""
    given = dict(parse_qsl((await request.body()).decode(errors="replace")))
    token = request.session.get("csrf", token_urlsafe())
    if not compare_digest(token.encode(), given.get("csrf", "").encode()):
        raise HTTPException(403, "This form is not from here, or too old: go back, reload, and try again.")
    return given


def user(request: Request) -> str:
    """Return who is signed in."""
    if "user" not in request.session:
        raise HTTPException(401, "Sign in first.")
    return str(request.session["user"])


def mine(connection_id: str, owner: Annotated[str, Depends(user)]) -> Connection:
    """Return a connection of whoever is signed in: anybody else's, and any other kind, is as good as none."""
    connection = vault.connection(connection_id)
    if connection.owner != owner or connection.provider not in PROVIDERS:
        raise UnknownConnection(connection_id)
    return connection


Form = Annotated[dict[str, str], Depends(form)]
User = Annotated[str, Depends(user)]
Mine = Annotated[Connection, Depends(mine)]


@app.post("/login")
def login(request: Request, given: Form) -> RedirectResponse:
    """Sign in. It asks for no password: your own login takes its place."""
    request.session.clear()  # also what binds flows to this browser: nobody ends what somebody else began
    request.session["user"] = given.get("name") or "guest"
    return RedirectResponse(app.url_path_for("home"), 303)


@app.get("/")
def home(request: Request) -> HTMLResponse:
    """Show whoever is signed in what they have connected."""
    if "user" not in request.session:
        return page(request, "Who are you?")
    found = vault.connections(owner=user(request))
    return page(request, "Your accounts", *filter(shown, found))


@app.post("/connect/{provider}")
def connect(request: Request, provider: str, given: Form, owner: User) -> RedirectResponse:
    """Send the owner to the provider: for a new connection, or for a new grant in the place of an old one."""
    if provider not in PROVIDERS:
        raise HTTPException(404)
    old = given.get("reconnect")
    start = vault.begin(
        provider,
        owner=owner,
        browser=request.session.setdefault("browser", token_urlsafe()),
        return_to=app.url_path_for("account", connection_id=mine(old, owner).id) if old else app.url_path_for("home"),
        reconnect=old,
    )
    return RedirectResponse(start.url, 303)


@app.get("/callback")
def callback(request: Request) -> RedirectResponse:
    """Receive the owner from the provider: ``VAULT_REDIRECT_URI`` leads here."""
    said = dict(request.query_params)
    connection = vault.complete(
        state=said.get("state", ""),
        code=said.get("code"),
        browser=request.session.get("browser"),
        error=said.get("error"),
        issuer=said.get("iss"),
        parameters=said,
    )
    return RedirectResponse(connection.return_to or app.url_path_for("home"), 303)


@app.get("/accounts/{connection_id}")
def account(request: Request, connection: Mine) -> HTMLResponse:
    """Ask the provider, in the owner's name, who they are there."""
    try:
        with vault.session(connection.id, PROVIDERS[connection.provider]) as api:
            answer = api.get(PROVIDERS[connection.provider])
            answer.raise_for_status()
    except ReconnectRequired as gone:
        said = f"{connection.provider} wants you to connect again ({gone.reason})."
        return page(request, said, connection, status=409)
    except requests.RequestException:
        said = f"{connection.provider} did not answer as it should: try again, or connect again."
        return page(request, said, connection, status=502)
    return page(request, answer.text, connection)


@app.post("/disconnect/{connection_id}")
def disconnect(_: Form, connection: Mine) -> RedirectResponse:
    """Take the owner's tokens away at once; a worker tells the provider."""
    vault.disconnect(connection.id)
    return RedirectResponse(app.url_path_for("home"), 303)


@app.exception_handler(VaultError)
def refused(request: Request, error: VaultError) -> HTMLResponse:
    """Say what went wrong: to the owner in plain words, to the log with the error's, which hold no secret."""
    if isinstance(error, ConnectRefused):
        return page(request, f"Nothing was connected ({error.reason}): please try again.", status=400)
    if isinstance(error, UnknownConnection):
        return page(request, "You have no such account here.", status=404)
    log.warning("%s: %s", type(error).__name__, error)
    if not error.transient:
        return page(request, "Something is wrong on our side.", status=500)
    answer = page(request, "Not at this moment: please try again soon.", status=503)
    wait = error.retry_after or timedelta(seconds=5)
    answer.headers["Retry-After"] = str(math.ceil(wait.total_seconds()))
    return answer


@app.exception_handler(StarletteHTTPException)
def wrong(request: Request, error: StarletteHTTPException) -> HTMLResponse:
    """Say so where a page is not there, or not for everybody."""
    return page(request, error.detail, status=error.status_code)


def shown(connection: Connection) -> bool:
    """Whether a connection belongs on the page: it has not ended, and this app knows its provider's API."""
    return connection.status is not Status.DISCONNECTED and connection.provider in PROVIDERS


def page(request: Request, said: str, *connections: Connection, status: int = 200) -> HTMLResponse:
    """Write a page; whatever it is told is escaped."""
    request.session.setdefault("csrf", token_urlsafe())
    words = {"said": said, "connections": connections, "providers": PROVIDERS}
    return HTMLResponse(PAGE.render(words, session=request.session, url_for=app.url_path_for), status)
