"""The rows that come with us, each pointed at the simulator, which is told to speak as that provider does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

HOUR, DAY = 3600, 86_400


class Case(NamedTuple):
    """A built-in row, what it is told to leave the provider's own addresses for, and how the simulator speaks."""

    name: str
    speaks: Mapping[str, Any] = {}
    """The simulator's configuration."""
    row: str = ""
    """Further lines of the user's file."""
    metadata: Mapping[str, str] = {}
    """What is kept of answer and redirect."""
    account: str | None = None
    begin: Mapping[str, Any] = {}
    life: float | None = None
    """Of the access token, in seconds, where the answer does not say so plainly."""
    ends_in: float | None = None
    """The grant's end, in seconds."""
    dies: bool = True
    """Whether the owner's withdrawal is understood from the next refusal."""


def rotation(mode: str = "strict", **more: Any) -> dict[str, Any]:
    return {"rotation": {"mode": mode, **more}}


NON_ROTATING = rotation("non_rotating")
POST, BASIC, NO_LIFE = {"client_auth": "post"}, {"client_auth": "basic"}, {"answer": {"omit": ["expires_in"]}}
GRAPH = {
    "error": {"error": {"message": "{text}", "type": "OAuthException", "code": "{number}"}},
    "error_codes": {"invalid_grant": "190"},
}

CASES: Sequence[Case] = [
    Case("spotify", {**BASIC, **NON_ROTATING}, ends_in=180 * DAY),
    Case(
        "tidal",
        {**BASIC, **NON_ROTATING, "dialect": {"parameters": {"refresh:scope": "playlists.read"}}},
        'scopes = ["playlists.read"]',
    ),
    Case(
        "google",
        {**POST, **NON_ROTATING, "offline_parameters": {"access_type": "offline", "prompt": "consent"}},
        ends_in=180 * DAY,
    ),
    Case("youtube_music", {**POST, **NON_ROTATING, "offline_parameters": {"access_type": "offline"}}),
    Case(
        "github", {**POST, **rotation(refresh_kills_access_token=True), "errors_as_200": True, "answer": {"form": True}}
    ),
    Case(
        "slack",
        {
            **POST,
            "require_pkce": False,
            "answer": {
                "scope_separator": ",",
                "extra": {
                    "ok": True,
                    "token_type": "bot",
                    "team": {"id": "T1", "name": "Acme"},
                    "authed_user": {"id": "U1"},
                },
            },
            "dialect": {
                "error": {"ok": False, "error": "{code}"},
                "error_status": 200,
                "error_codes": {"invalid_grant": "token_revoked"},
            },
        },
        metadata={"team.id": "T1", "team.name": "Acme", "authed_user.id": "U1"},
        account="T1",
    ),
    Case(
        "salesforce",
        {
            **POST,
            "answer": {
                "omit": ["expires_in"],
                "extra": {"instance_url": "https://acme.my.salesforce.com", "id": "https://id/1"},
            },
        },
        metadata={"instance_url": "https://acme.my.salesforce.com"},
        account="https://id/1",
        life=2 * HOUR,
    ),
    Case(
        "quickbooks",
        {
            **BASIC,
            "answer": {
                "refresh_token_expires_in": "x_refresh_token_expires_in",
                "extra": {"x_refresh_token_hard_expires_in": 1000 * DAY},
            },
            **rotation(refresh_token_life=100 * DAY),
            "dialect": {
                "headers": {"x-include-refresh-token-hard-expires-in": "true"},
                "callback": {"realmId": "9130"},
            },
        },
        metadata={"realmId": "9130"},
        ends_in=1000 * DAY,
    ),
    Case("xero", {**BASIC, **rotation("grace", replay_window=1800.0)}, ends_in=60 * DAY),
    Case(
        "atlassian",
        {**POST, **rotation("grace", replay_window=600.0), "offline_parameters": {"audience": "api.atlassian.com"}},
        ends_in=365 * DAY,
    ),
    Case("hubspot", {**POST, **NON_ROTATING, "token_size": 6000}),
    Case("zoom", {**BASIC, "dialect": {"body": "query"}}),
    Case(
        "linkedin",
        {
            **POST,
            **rotation(refresh_token_life=365 * DAY),
            "answer": {"refresh_token_expires_in": "refresh_token_expires_in"},
        },
        ends_in=365 * DAY,
    ),
    Case(
        "microsoft",
        {
            **POST,
            **NON_ROTATING,
            "dialect": {
                "error": {"error": "{code}", "error_description": "AADSTS700082: {text}", "error_codes": [700082]},
            },
        },
    ),
    Case(
        "shopify",
        {
            **POST,
            **rotation("previous_until_successor_used"),
            "dialect": {"parameters": {"code:expiring": "1"}},
            "answer": {"scope_separator": ","},
        },
        begin={"variables": {"shop": "shopify"}},
    ),
    Case(
        "zendesk",
        {**POST, "dialect": {"body": "json", "parameters": {"expires_in": "172800"}}},
        begin={"variables": {"subdomain": "zendesk"}},
    ),
    Case("x", {**BASIC, "offline_parameters": {"scope": "offline.access"}}),
    Case("box", {**POST}),
    Case(
        "tiktok",
        {
            **POST,
            "dialect": {"body": "form", "names": {"client_id": "client_key"}},
            "answer": {"extra": {"open_id": "o-1"}},
        },
        account="o-1",
    ),
    Case(
        "tiktok_business",
        {
            **POST,
            "answer": {"nest": "data", "extra": {"code": 0, "message": "OK"}},
            "dialect": {
                "body": "json",
                "names": {"client_id": "client_key", "code": "auth_code"},
                "error": {"code": "{number}", "message": "{text}"},
                "error_status": 200,
                "error_codes": {"invalid_grant": "40105"},
            },
        },
    ),
    Case(
        "coros",
        {
            **POST,
            **rotation("non_rotating", access_token_life=30 * DAY),
            "answer": {"extra": {"result": "0000"}},
            "dialect": {"grant_types": {"refresh_token": "extend"}, "error": {"result": "{code}"}, "error_status": 200},
        },
        life=30 * DAY,
    ),
    Case("stripe_apps", {**BASIC, **NO_LIFE, **rotation()}, life=HOUR),
    Case("jobber", {**POST, **NO_LIFE}, life=HOUR),
    Case(
        "workday",
        {**BASIC, **NO_LIFE},
        begin={"variables": {"host": "acme.workday.com", "tenant": "workday"}},
        life=HOUR,
    ),
    Case(
        "notion",
        {**BASIC, "dialect": {"body": "json"}, "answer": {"extra": {"workspace_id": "w", "bot_id": "b"}}},
        metadata={"workspace_id": "w", "bot_id": "b"},
        account="w",
    ),
    Case("figma", {**BASIC, "answer": {"scope_separator": ","}}),
    Case("reddit", {**BASIC, **NON_ROTATING, "offline_parameters": {"duration": "permanent"}}),
    Case("dropbox", {**POST, **NON_ROTATING, "offline_parameters": {"token_access_type": "offline"}}),
    Case("fortnox", {**BASIC, "offline_parameters": {"access_type": "offline"}}),
    Case(
        "gong",
        {
            **BASIC,
            "dialect": {"body": "query"},
            "answer": {"extra": {"api_base_url_for_customer": "https://acme.gong.io"}},
        },
        metadata={"api_base_url_for_customer": "https://acme.gong.io"},
    ),
    Case("ringcentral", {**BASIC, **rotation("idempotent"), "answer": {"extra": {"owner_id": "17"}}}, account="17"),
    Case(
        "zoho",
        {
            **POST,
            **NON_ROTATING,
            "dialect": {
                "error": {"error": "{code}"},
                "error_status": 200,
                "error_codes": {"invalid_grant": "invalid_code"},
            },
        },
    ),
    Case(
        "strava",
        {**POST, "answer": {"expires_in": "at", "scope_separator": ",", "extra": {"athlete": {"id": 7}}}},
        account="7",
    ),
    Case("gitlab", {**POST, "answer": {"expires_in": "string"}}),
    Case("docusign", {**BASIC, "answer": {"expires_in": "iso"}}),
    Case("asana", {**POST, "answer": {"expires_in": "clock"}}),
    Case(
        "pinterest",
        {**BASIC, "answer": {"expires_in": "milliseconds", "scope_separator": ","}},
        '[pinterest.answer]\nunit = "milliseconds"',
    ),
    Case("airtable", {**BASIC, "answer": {"expires_in": "at_ms"}}),
]
"""Rows 1, 2, 6 to 19, 21 to 23, 25 to 33, 37 and 38 of what is known about providers; the others stand in the tests."""

ADDRESSES = {
    "shopify": "{base}/{{shop}}", "zendesk": "{base}/{{subdomain}}", "workday": "{base}/{{tenant}}",
    "zoho": "{{server}}",
}  # fmt: skip
"""Where a row's addresses are made of variables, the simulator's are too."""


def registry(base: str, cases: Sequence[Case]) -> str:
    """A user's file that points rows at the simulator."""
    tables = []
    for case in cases:
        home = ADDRESSES.get(case.name, "{base}/" + case.name).format(base=base)
        tables.append(
            f'[{case.name}]\nauthorize_uri = "{home}/authorize"\ntoken_uri = "{home}/token"\n'
            f'refresh_uri = "{home}/refresh"\nrevoke_uri = "{home}/revoke"\nissuer = "{base}/{case.name}"\n{case.row}\n'
        )
    tables.append(
        f'[zoho.variables.server]\npattern = "{base}/zoho"\nparameter = "accounts-server"\ndefault = "{base}/zoho"\n'
    )
    return "\n".join(tables)
