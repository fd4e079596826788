"""Django: owners connect their accounts, and a page speaks to the provider in their name. See docs/integrations.md."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from secrets import token_urlsafe

import requests
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.management import execute_from_command_line
from django.core.wsgi import get_wsgi_application
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template import engines
from django.urls import path, reverse
from django.views.decorators.http import require_GET, require_POST

from vault import Connection, ConnectRefused, ReconnectRequired, Status, UnknownConnection, Vault, VaultError

PROVIDERS = dict(each.split("=", 1) for each in os.environ["APP_PROVIDERS"].split())
"""What can be connected, and where each provider says who somebody is: ``spotify=https://api.spotify.com/v1/me``."""

PAGE = """<!doctype html><meta charset="utf-8"><title>Accounts</title>
<h1><a href="{% url 'home' %}">Accounts</a></h1>
<pre>{{ said }}</pre>
<form method="post">{% csrf_token %}
{% for each in connections %}
  <p><a href="{% url 'account' each.id %}">{{ each.account|default:each.provider }}</a> {{ each.status }}
  <button formaction="{% url 'connect' each.provider %}" name="reconnect" value="{{ each.id }}">
    Reconnect</button>
  <button formaction="{% url 'disconnect' each.id %}">Disconnect</button></p>
{% endfor %}
{% if request.session.user %}
  {% for each in providers %}<button formaction="{% url 'connect' each %}">Connect {{ each }}</button>
  {% endfor %}
{% else %}
  <input name="name" required><button formaction="{% url 'login' %}">Sign in</button>
{% endif %}
</form>
"""

tls = os.environ["VAULT_REDIRECT_URI"].startswith("https:")
settings.configure(
    SECRET_KEY=os.environ["APP_SECRET"],
    ALLOWED_HOSTS=os.environ.get("APP_HOSTS", "127.0.0.1 localhost").split(),
    ROOT_URLCONF=__name__,
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        f"{__name__}.Refusals",
    ],
    TEMPLATES=[
        {
            "BACKEND": "django.template.backends.django.DjangoTemplates",
            "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
        }
    ],
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",  # so that this needs no database of its own
    SESSION_COOKIE_SAMESITE="Lax",  # with Strict, owners would come back from the provider without their session
    SESSION_COOKIE_SECURE=tls,
    CSRF_COOKIE_SECURE=tls,
    CSRF_FAILURE_VIEW=f"{__name__}.not_from_here",
)
vault = Vault.from_env()  # one for the process; it connects at its first call, and anew after a fork
log = logging.getLogger("django.request")


@require_POST
def login(request: HttpRequest) -> HttpResponse:
    """Sign in. It asks for no password: your own login takes its place."""
    request.session.flush()  # also what binds flows to this browser: nobody ends what somebody else began
    request.session["user"] = request.POST.get("name") or "guest"
    return redirect("home")


@require_GET
def home(request: HttpRequest) -> HttpResponse:
    """Show whoever is signed in what they have connected."""
    if "user" not in request.session:
        return page(request, "Who are you?")
    found = vault.connections(owner=user(request))
    return page(request, "Your accounts", *filter(shown, found))


@require_POST
def connect(request: HttpRequest, provider: str) -> HttpResponse:
    """Send the owner to the provider: for a new connection, or for a new grant in the place of an old one."""
    if provider not in PROVIDERS:
        raise Http404
    old = request.POST.get("reconnect")
    start = vault.begin(
        provider,
        owner=user(request),
        browser=request.session.setdefault("browser", token_urlsafe()),
        return_to=reverse("account", args=[mine(request, old).id]) if old else reverse("home"),
        reconnect=old,
    )
    return redirect(start.url)


@require_GET
def callback(request: HttpRequest) -> HttpResponse:
    """Receive the owner from the provider: ``VAULT_REDIRECT_URI`` leads here."""
    said = request.GET.dict()
    connection = vault.complete(
        state=said.get("state", ""),
        code=said.get("code"),
        browser=request.session.get("browser"),
        error=said.get("error"),
        issuer=said.get("iss"),
        parameters=said,
    )
    return redirect(connection.return_to or "home")


@require_GET
def account(request: HttpRequest, connection_id: str) -> HttpResponse:
    """Ask the provider, in the owner's name, who they are there."""
    connection = mine(request, connection_id)
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


@require_POST
def disconnect(request: HttpRequest, connection_id: str) -> HttpResponse:
    """Take the owner's tokens away at once; a worker tells the provider."""
    vault.disconnect(mine(request, connection_id).id)
    return redirect("home")


class Refusals:
    """Says what went wrong: to the owner in plain words, to the log with the error's, which hold no secret."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer a request, or leave that to the next one."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer in the place of a view that raised an error."""
        if not isinstance(error, VaultError):
            return None
        if isinstance(error, ConnectRefused):
            return page(request, f"Nothing was connected ({error.reason}): please try again.", status=400)
        if isinstance(error, UnknownConnection):
            return page(request, "You have no such account here.", status=404)
        log.warning("%s: %s", type(error).__name__, error)
        if not error.transient:
            return page(request, "Something is wrong on our side.", status=500)
        answer = page(request, "Not at this moment: please try again soon.", status=503)
        wait = error.retry_after or timedelta(seconds=5)
        answer["Retry-After"] = str(math.ceil(wait.total_seconds()))
        return answer


def not_from_here(request: HttpRequest, **_: str) -> HttpResponse:
    """Refuse a form that came without its token."""
    return page(request, "This form is not from here, or too old: go back, reload, and try again.", status=403)


def user(request: HttpRequest) -> str:
    """Return who is signed in."""
    if "user" not in request.session:
        raise PermissionDenied
    return str(request.session["user"])


def mine(request: HttpRequest, connection_id: str) -> Connection:
    """Return a connection of whoever is signed in: anybody else's, and any other kind, is as good as none."""
    connection = vault.connection(connection_id)
    if connection.owner != user(request) or connection.provider not in PROVIDERS:
        raise UnknownConnection(connection_id)
    return connection


def shown(connection: Connection) -> bool:
    """Whether a connection belongs on the page: it has not ended, and this app knows its provider's API."""
    return connection.status is not Status.DISCONNECTED and connection.provider in PROVIDERS


def page(request: HttpRequest, said: str, *connections: Connection, status: int = 200) -> HttpResponse:
    """Write a page; whatever it is told is escaped."""
    words = {"said": said, "connections": connections, "providers": PROVIDERS}
    return HttpResponse(engines["django"].from_string(PAGE).render(words, request), status=status)


urlpatterns = [
    path("", home, name="home"),
    path("login", login, name="login"),
    path("connect/<provider>", connect, name="connect"),
    path("callback", callback, name="callback"),
    path("accounts/<connection_id>", account, name="account"),
    path("disconnect/<connection_id>", disconnect, name="disconnect"),
]
application = get_wsgi_application()
if __name__ == "__main__":
    execute_from_command_line(sys.argv)
