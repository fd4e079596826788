"""The OAuth endpoints: authorize, token, revoke, introspect, and the resources that show whether an access token lives.

Each endpoint takes a `Call` and returns the honest answer and the id of the event whose loss would matter.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from urllib.parse import unquote_plus, urlencode, urlsplit

from tests.simulator import dialects, signed
from tests.simulator.answers import error_answer, token_answer
from tests.simulator.calls import Call, Endpoint, Honest
from tests.simulator.config import Dialect
from tests.simulator.grants import Family, Pair
from tests.simulator.provider import CODE_LIFE, Code
from tests.simulator.wire import HTML, JSON, write_answer

STANDARD = Dialect()
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def authorize(call: Call) -> Honest:
    """Grant consent at once and send the browser back (RFC 6749, section 4.1.1; RFC 7636; RFC 9207)."""
    provider, form, config = call.provider, call.form, call.provider.config
    dialects.rename(config.dialect, form)
    redirect_uri = form.get("redirect_uri", "")
    if not config.secrets_of(form.get("client_id", "")) or not _registered(redirect_uri, config.redirect_uris):
        return Honest(write_answer(400, b"unknown client or redirect_uri", HTML))
    back = {"state": form["state"]} if "state" in form else {}
    back |= {"iss": f"{call.base_uri}/{provider.name}", **config.dialect.callback}
    error = ""
    if form.get("response_type") != "code":
        error = "unsupported_response_type"
    elif config.require_pkce and (not form.get("code_challenge") or form.get("code_challenge_method") != "S256"):
        error = "invalid_request"
    elif form.get("deny"):
        error = "access_denied"
    if error:
        back["error"] = error
    else:
        offline = all(form.get(name) == value for name, value in config.offline_parameters.items())
        account = form.get("login_hint") or f"account-{len(provider.codes) + 1}"
        scope = form.get("scope") or config.default_scope
        asked = {name: form.get(parameter, "") for name, parameter in config.answer.beside.items()}
        back["code"] = provider.new_code(
            Code(
                account,
                redirect_uri,
                form.get("code_challenge"),
                scope,
                offline,
                call.now + CODE_LIFE,
                form.get("client_id"),
                {name: further.replace(",", " ") for name, further in asked.items() if further},
            )
        )
    joint = "&" if urlsplit(redirect_uri).query else "?"
    return Honest(write_answer(302, b"", HTML, f"Location: {redirect_uri}{joint}{urlencode(back)}\r\n".encode()))


def _registered(redirect_uri: str, allowed: list[str]) -> bool:
    if allowed:
        return redirect_uri in allowed
    return urlsplit(redirect_uri).hostname in LOOPBACK


def token(call: Call) -> Honest:
    """The token endpoint: authorization_code, refresh_token, client_credentials (RFC 6749), and others' ways."""
    if call.provider.config.rate_limit and not call.provider.admits(call.now):
        call.provider.journal.event("throttled", provider=call.provider.name, request=call.number)
        return Honest(write_answer(429, b'{"error":"rate_limited"}', JSON, b"Retry-After: 1\r\n"))
    if call.provider.config.dialect != STANDARD:
        trouble = dialects.understand(call.provider.config.dialect, call.head, call.body, call.form)
        if trouble:
            return _refuse(call, 400, "invalid_request", trouble, "dialect")
    if call.provider.config.invalid_client or client_of(call) is None:
        return _refuse(call, 401, "invalid_client", "client authentication failed", "invalid_client")
    grant = _GRANT_TYPES.get(call.form.get("grant_type", ""))
    if grant is None:
        return _refuse(call, 400, "unsupported_grant_type", "no such grant type here", "unsupported_grant_type")
    return grant(call)


def client_of(call: Call) -> str | None:
    """Tell which client asks, by client_secret_basic or client_secret_post, whichever the provider allows.

    RFC 6749, section 2.3.1. None: none that is known here, or it does not prove it.
    """
    config = call.provider.config
    if config.dialect.keys:
        return dialects.signer(config.dialect, call.form, call.now)
    if config.client_auth == "none":
        given = call.form.get("client_id", "")
        return given if config.secrets_of(given) else None
    header = call.head.headers.get("authorization", "")
    if header[:6].lower() == "basic ":
        try:
            given, _, secret = base64.b64decode(header[6:], validate=True).decode().partition(":")
        except ValueError:
            return None
        # Whether the two halves are form-encoded first, as the RFC wants, differs between clients.
        for client_id, shown in ((given, secret), (unquote_plus(given), unquote_plus(secret))):
            if shown in config.secrets_of(client_id):
                return client_id if config.client_auth in ("any", "basic") else None
        return None
    given, secret = call.form.get("client_id", ""), call.form.get("client_secret", "")
    return given if secret in config.secrets_of(given) and config.client_auth in ("any", "post") else None


def _is_of_another(call: Call, family: Family) -> bool:
    """Whether a grant belongs to another client than the one that asks (RFC 6749, section 6; RFC 7009, section 2.1)."""
    return family.client_id is not None and family.client_id != client_of(call)


def _refuse(call: Call, status: int, error: str, description: str, reason: str) -> Honest:
    provider, presented = call.provider, call.form.get("refresh_token")
    family = provider.by_refresh_token.get(presented) if presented else None
    more = f',"reason":"{reason}","error":"{error}"'
    provider.record("refused", call.now, call.number, family, presented, None, call.fault, more)
    accept = call.head.headers.get("accept", "")
    if provider.config.dialect.error:
        return Honest(dialects.refusal(provider.config.dialect, status, error, description))
    return Honest(error_answer(status, error, description, provider.config.errors_as_200, accept))


def _grant_answer(
    call: Call, family: Family, pair: Pair, event: int, beside: Mapping[str, tuple[Family, Pair]] | None = None
) -> Honest:
    missing = call.fault.fields if call.fault is not None and call.fault.kind == "missing" else ()
    accept = call.head.headers.get("accept", "")
    return Honest(token_answer(family, pair, call.now, call.provider.config.answer, missing, accept, beside), event)


def _refresh(call: Call) -> Honest:
    provider = call.provider
    presented = call.form.get("refresh_token")
    if not presented:
        return _refuse(call, 400, "invalid_request", "refresh_token is missing", "missing parameter")
    family = provider.by_refresh_token.get(presented)
    if family is None:
        return _refuse(call, 400, "invalid_grant", "unknown refresh token", "unknown")
    if _is_of_another(call, family):
        return _refuse(call, 400, "invalid_grant", "of another client", "client")
    asked = call.form.get("scope")
    if asked and not set(asked.split()) <= set(family.scope.split()):
        return _refuse(call, 400, "invalid_scope", "more than was granted", "scope")
    family.profile = provider.config.rotation
    if call.now - _renewed_at(family) < provider.config.dialect.earliest:
        return _refuse(call, 400, "invalid_request", "too early", "early")
    outcome = family.present(presented, call.now, provider.new_pair())
    if outcome.pair is None:
        refusal = _refuse(call, 400, "invalid_grant", f"refresh token: {outcome.reason}", str(outcome.reason))
        if outcome.family_revoked:
            provider.record_revocation(family, "reuse")
        return refusal
    provider.index(family, outcome.pair)
    event = provider.record(outcome.verdict, call.now, call.number, family, presented, outcome.pair, call.fault)
    return _grant_answer(call, family, outcome.pair, event)


def _exchange_code(call: Call) -> Honest:
    provider, form = call.provider, call.form
    code = provider.codes.get(form.get("code", ""))
    if code is None or call.now >= code.expires_at:
        return _refuse(call, 400, "invalid_grant", "unknown or expired code", "code")
    if code.family is not None:  # RFC 6749, section 4.1.2: what the code gave is revoked when it comes again
        provider.revoke_family(code.family, call.now, "code used twice")
        return _refuse(call, 400, "invalid_grant", "code was used before", "code used twice")
    if code.client_id != client_of(call):
        return _refuse(call, 400, "invalid_grant", "code of another client", "client")
    if form.get("redirect_uri") != code.redirect_uri:
        return _refuse(call, 400, "invalid_grant", "redirect_uri differs", "redirect_uri")
    if code.challenge is not None and _challenge(form.get("code_verifier", "")) != code.challenge:
        return _refuse(call, 400, "invalid_grant", "code_verifier does not match", "code_verifier")
    family, pair, event = provider.new_family(
        code.account, code.scope, "authorization_code", call.now, code.offline, call.number, call.fault
    )
    code.family, family.client_id = family, code.client_id
    beside = {}
    for name, scope in code.beside.items():
        other, tokens, _ = provider.new_family(
            code.account, scope, "authorization_code", call.now, code.offline, call.number, call.fault
        )
        other.client_id = code.client_id
        beside[name] = (other, tokens)
    return _grant_answer(call, family, pair, event, beside)


def _challenge(verifier: str) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _client_credentials(call: Call) -> Honest:
    provider = call.provider
    scope = call.form.get("scope") or provider.config.default_scope
    family, pair, event = provider.new_family(
        provider.config.client_id, scope, "client_credentials", call.now, False, call.number, call.fault
    )
    return _grant_answer(call, family, pair, event)


def _renewed_at(family: Family) -> float:
    return max(token.issued_at for token in family.access_tokens.values())


def _exchange(call: Call) -> Honest:
    """An access token that lives is exchanged for another; the old one goes on until it ends."""
    provider = call.provider
    value = call.form.get("refresh_token", "")
    family = provider.by_access_token.get(value)
    if family is None or not family.access_token_live(value, call.now):
        return _refuse(call, 400, "invalid_grant", "the access token is not valid", "unknown")
    if call.now - family.access_tokens[value].issued_at < provider.config.dialect.earliest:
        return _refuse(call, 400, "invalid_request", "too early", "early")
    family.profile = provider.config.rotation
    pair = Pair(provider.new_pair().access_token, None)
    family.issue_access_token(pair.access_token, call.now)
    provider.index(family, pair)
    provider.journal.event("exchanged", provider=provider.name, account=family.account, access_token=pair.access_token)
    return _grant_answer(call, family, pair, 0)


def _extend(call: Call) -> Honest:
    """The token there is lives on from now."""
    provider = call.provider
    family = provider.by_refresh_token.get(call.form.get("refresh_token", ""))
    if family is None or family.revoked_at is not None:
        return _refuse(call, 400, "invalid_grant", "unknown refresh token", "unknown")
    family.profile = provider.config.rotation
    family.prolong(call.now)
    return Honest(write_answer(200, json.dumps(provider.config.answer.extra).encode()))


def _jwt_bearer(call: Call) -> Honest:
    """An assertion is exchanged (RFC 7523, section 2.1); its subject is the account."""
    provider = call.provider
    claims = dialects.claims(provider.config.dialect, call.form.get("assertion", ""), call.now)
    if claims is None:
        return _refuse(call, 400, "invalid_grant", "the assertion is not valid", "assertion")
    scope = str(claims.get("scope") or call.form.get("scope") or provider.config.default_scope)
    account = str(claims.get("sub") or claims["iss"])
    family, pair, event = provider.new_family(account, scope, "jwt", call.now, False, call.number, call.fault)
    return _grant_answer(call, family, pair, event)


_GRANT_TYPES: dict[str, Endpoint] = {
    "exchange": _exchange,
    "extend": _extend,
    dialects.JWT_BEARER: _jwt_bearer,
    "refresh_token": _refresh,
    "authorization_code": _exchange_code,
    "client_credentials": _client_credentials,
}


def revoke(call: Call) -> Honest:
    """Token revocation (RFC 7009): a refresh token takes its family with it, an access token goes alone."""
    provider = call.provider
    dialects.rename(provider.config.dialect, call.form)
    if provider.config.invalid_client or client_of(call) is None:
        return _refuse(call, 401, "invalid_client", "client authentication failed", "invalid_client")
    value = call.form.get("token", "")
    family = provider.by_refresh_token.get(value)
    if family is not None and _is_of_another(call, family):
        return _refuse(call, 400, "invalid_grant", "token of another client", "client")
    if family is not None:
        provider.revoke_family(family, call.now, "revocation endpoint")
    elif value in provider.by_access_token:
        family = provider.by_access_token[value]
        family.revoke_access_token(value, call.now)
        provider.record_revocation(family, "revocation endpoint", access_token=value)
    return Honest(write_answer(200, b""))


def introspect(call: Call) -> Honest:
    """Token introspection (RFC 7662), for either kind of token."""
    provider, value = call.provider, call.form.get("token", "")
    if provider.config.invalid_client or client_of(call) is None:
        return _refuse(call, 401, "invalid_client", "client authentication failed", "invalid_client")
    members: dict[str, object] = {"active": False}
    family = provider.by_access_token.get(value) or provider.by_refresh_token.get(value)
    if family is not None:
        family.profile = provider.config.rotation
        if value in family.accepted(call.now):
            members = {"active": True, "scope": family.scope, "sub": family.account}
        elif family.access_token_live(value, call.now):
            expires_at = int(family.access_tokens[value].expires_at)
            members = {"active": True, "scope": family.scope, "sub": family.account, "exp": expires_at}
    return Honest(write_answer(200, json.dumps(members).encode()))


def userinfo(call: Call) -> Honest:
    """Who the bearer is."""
    return _resource(call, lambda account: {"sub": account, "name": account, "email": f"{account}@example.test"})


def api(call: Call) -> Honest:
    """A protected resource: 200 while the bearer lives, else 401 (RFC 6750)."""
    return _resource(call, lambda account: {"account": account})


def _resource(call: Call, content: Callable[[str], dict[str, str]]) -> Honest:
    provider = call.provider
    scheme, _, value = call.head.headers.get("authorization", "").partition(" ")
    family = provider.by_access_token.get(value) if scheme.lower() == "bearer" else None
    live = family is not None and family.access_token_live(value, call.now)
    account = None if family is None else family.account
    status = 200 if live else 401
    provider.journal.event(
        "resource", request=call.number, provider=provider.name, account=account, access_token=value, status=status
    )
    if family is None or not live:
        return Honest(write_answer(401, b"{}", JSON, b'WWW-Authenticate: Bearer error="invalid_token"\r\n'))
    return Honest(write_answer(200, json.dumps(content(family.account)).encode()))


def describe(call: Call) -> Honest:
    """What the provider says of itself (RFC 8414, OpenID Connect Discovery); nothing while `undescribed`."""
    if call.head.path[2:] != ("openid-configuration",) or call.provider.config.undescribed:
        return Honest(write_answer(404, b"{}"))
    issuer = f"{call.base_uri}/{call.provider.name}"
    names = {"authorization": "authorize", "token": "token", "revocation": "revoke", "introspection": "introspect"}
    members = {"issuer": issuer, **{f"{name}_endpoint": f"{issuer}/{path}" for name, path in names.items()}}
    return Honest(write_answer(200, json.dumps(members).encode()))


ENDPOINTS: dict[str, Endpoint] = {
    ".well-known": describe,
    "authorize": authorize,
    "token": token,
    "refresh": token,
    "request_token": signed.request_token,
    "consent": signed.consent,
    "access_token": signed.access_token,
    "signed": signed.resource,
    "revoke": revoke,
    "introspect": introspect,
    "userinfo": userinfo,
    "api": api,
}
