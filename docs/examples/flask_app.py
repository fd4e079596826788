"""Flask: owners connect their accounts, and a page speaks to the provider in their name. See docs/integrations.md."""

from __future__ import annotations

import math
import os
from datetime import timedelta
from secrets import compare_digest, token_urlsafe

import requests
from flask import Flask, abort, redirect, render_template_string, request, session, url_for
from flask.typing import ResponseReturnValue

from vault import Connection, ConnectRefused, ReconnectRequired, Status, UnknownConnection, Vault, VaultError

PROVIDERS = dict(each.split("=", 1) for each in os.environ["APP_PROVIDERS"].split())
"""What can be connected, and where each provider says who somebody is: ``spotify=https://api.spotify.com/v1/me``."""

PAGE = """<!doctype html><meta charset="utf-8"><title>Accounts</title>
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
"""

app = Flask(__name__)
app.config.update(
    SECRET_KEY=os.environ["APP_SECRET"],
    SESSION_COOKIE_SECURE=os.environ["VAULT_REDIRECT_URI"].startswith("https:"),
    SESSION_COOKIE_SAMESITE="Lax",  # with Strict, owners would come back from the provider without their session
)
vault = Vault.from_env()  # one for the process; it connects at its first call, and anew after a fork


@app.before_request
def check_form() -> None:
    """Take forms from this session's own pages only."""
    token = session.setdefault("csrf", token_urlsafe())
    if request.method == "POST" and not compare_digest(token.encode(), request.form.get("csrf", "").encode()):
        abort(403, "This form is not from here, or too old: go back, reload, and try again.")


@app.post("/login")
def login() -> ResponseReturnValue:
    """Sign in. It asks for no password: your own login takes its place."""
    session.clear()  # also what binds flows to this browser: nobody ends what somebody else began
    session["user"] = request.form["name"]
    return redirect(url_for("home"), 303)


@app.get("/")
def home() -> ResponseReturnValue:
    """Show whoever is signed in what they have connected."""
    if "user" not in session:
        return page("Who are you?")
    found = vault.connections(owner=user())
    return page("Your accounts", *filter(shown, found))


@app.post("/connect/<provider>")
def connect(provider: str) -> ResponseReturnValue:
    """Send the owner to the provider: for a new connection, or for a new grant in the place of an old one."""
    if provider not in PROVIDERS:
        abort(404)
    old = request.form.get("reconnect")
    start = vault.begin(
        provider,
        owner=user(),
        browser=session.setdefault("browser", token_urlsafe()),
        return_to=url_for("account", connection_id=mine(old).id) if old else url_for("home"),
        reconnect=old,
    )
    return redirect(start.url, 303)


@app.get("/callback")
def callback() -> ResponseReturnValue:
    """Receive the owner from the provider: ``VAULT_REDIRECT_URI`` leads here."""
    said = request.args.to_dict()
    connection = vault.complete(
        state=said.get("state", ""),
        code=said.get("code"),
        browser=session.get("browser"),
        error=said.get("error"),
        issuer=said.get("iss"),
        parameters=said,
    )
    return redirect(connection.return_to or url_for("home"), 303)


@app.get("/accounts/<connection_id>")
def account(connection_id: str) -> ResponseReturnValue:
    """Ask the provider, in the owner's name, who they are there."""
    connection = mine(connection_id)
    try:
        with vault.session(connection.id, PROVIDERS[connection.provider]) as api:
            answer = api.get(PROVIDERS[connection.provider])
            answer.raise_for_status()
    except ReconnectRequired as gone:
        return page(f"{connection.provider} wants you to connect again ({gone.reason}).", connection), 409
    except requests.RequestException:
        return page(f"{connection.provider} did not answer as it should: try again, or connect again.", connection), 502
    return page(answer.text, connection)


@app.post("/disconnect/<connection_id>")
def disconnect(connection_id: str) -> ResponseReturnValue:
    """Take the owner's tokens away at once; a worker tells the provider."""
    vault.disconnect(mine(connection_id).id)
    return redirect(url_for("home"), 303)


@app.errorhandler(VaultError)
def refused(error: VaultError) -> ResponseReturnValue:
    """Say what went wrong: to the owner in plain words, to the log with the error's, which hold no secret."""
    if isinstance(error, ConnectRefused):
        return page(f"Nothing was connected ({error.reason}): please try again."), 400
    if isinstance(error, UnknownConnection):
        return page("You have no such account here."), 404
    app.logger.warning("%s: %s", type(error).__name__, error)
    if not error.transient:
        return page("Something is wrong on our side."), 500
    wait = error.retry_after or timedelta(seconds=5)
    headers = {"Retry-After": str(math.ceil(wait.total_seconds()))}
    return page("Not at this moment: please try again soon."), 503, headers


def user() -> str:
    """Return who is signed in."""
    name: str = session.get("user") or abort(401, "Sign in first.")
    return name


def mine(connection_id: str) -> Connection:
    """Return a connection of whoever is signed in: anybody else's, and any other kind, is as good as none."""
    connection = vault.connection(connection_id)
    if connection.owner != user() or connection.provider not in PROVIDERS:
        raise UnknownConnection(connection_id)
    return connection


def shown(connection: Connection) -> bool:
    """Whether a connection belongs on the page: it has not ended, and this app knows its provider's API."""
    return connection.status is not Status.DISCONNECTED and connection.provider in PROVIDERS


def page(said: str, *connections: Connection) -> str:
    """Write a page; whatever it is told is escaped."""
    return render_template_string(PAGE, said=said, connections=connections, providers=PROVIDERS)
