"""OAuth 1.0a (RFC 5849): three endpoints and a resource; signatures are checked with oauthlib's own arithmetic."""

from __future__ import annotations

from typing import Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from oauthlib.oauth1.rfc5849 import signature

from tests.simulator.calls import Call, Honest
from tests.simulator.wire import FORM, HTML, JSON, write_answer


class Request(NamedTuple):
    """A request token, and what its owner makes of it."""

    secret: str
    callback: str
    account: str = ""
    verifier: str = ""


def request_token(call: Call) -> Honest:
    """Where it begins: the client shows itself and says where the owner comes back."""
    said = _header(call)
    if not _is_signed(call, said, ""):
        return _refused(call, "request_token")
    requests = call.provider.signed_requests
    token = call.provider.mint.token("rq-", 20)
    requests[token] = Request(call.provider.mint.token("cnry-rs-", 32), unquote(said["oauth_callback"]))
    members = {"oauth_token": token, "oauth_token_secret": requests[token].secret, "oauth_callback_confirmed": "true"}
    return Honest(write_answer(200, urlencode(members).encode(), FORM))


def consent(call: Call) -> Honest:
    """The owner agrees at once and is sent back."""
    token = call.form.get("oauth_token", "")
    request = call.provider.signed_requests.get(token)
    if request is None:
        return Honest(write_answer(400, b"unknown request", HTML))
    account = call.form.get("login_hint") or f"account-{len(call.provider.signed_requests)}"
    verifier = call.provider.mint.token("cnry-code-", 20)
    call.provider.signed_requests[token] = request._replace(account=account, verifier=verifier)
    joint = "&" if urlsplit(request.callback).query else "?"
    back = urlencode({"oauth_token": token, "oauth_verifier": verifier})
    return Honest(write_answer(302, b"", HTML, f"Location: {request.callback}{joint}{back}\r\n".encode()))


def access_token(call: Call) -> Honest:
    """The request token is exchanged, once."""
    said = _header(call)
    token = said.get("oauth_token", "")
    request = call.provider.signed_requests.get(token)
    if (
        request is None
        or not request.verifier
        or unquote(said.get("oauth_verifier", "")) != request.verifier
        or not _is_signed(call, said, request.secret)
    ):
        return _refused(call, "access_token")
    del call.provider.signed_requests[token]
    made, secret = call.provider.mint.token("cnry-at-", 32), call.provider.mint.token("cnry-as-", 32)
    call.provider.signed_tokens[made] = (secret, request.account)
    members = {"oauth_token": made, "oauth_token_secret": secret, "user_id": request.account}
    return Honest(write_answer(200, urlencode(members).encode(), FORM))


def resource(call: Call) -> Honest:
    """What a signed request gets."""
    said = _header(call)
    secret, account = call.provider.signed_tokens.get(said.get("oauth_token", ""), ("", ""))
    if not account or not _is_signed(call, said, secret):
        return Honest(write_answer(401, b"{}"))
    return Honest(write_answer(200, f'{{"account":"{account}"}}'.encode(), JSON))


def _header(call: Call) -> dict[str, str]:
    scheme, _, rest = call.head.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "oauth":
        return {}
    parts = (each.strip().partition("=") for each in rest.split(","))
    return {name: value.strip('"') for name, _, value in parts}


def _is_signed(call: Call, said: dict[str, str], token_secret: str) -> bool:
    config = call.provider.config
    secrets = config.secrets_of(unquote(said.get("oauth_consumer_key", "")))
    given = unquote(said.get("oauth_signature", ""))
    pairs = [(name, unquote(value)) for name, value in said.items() if name not in ("oauth_signature", "realm")]
    pairs += parse_qsl(call.head.query, keep_blank_values=True)
    uri = f"{call.base_uri}/{'/'.join(call.head.path)}"
    normal = signature.normalize_parameters(pairs)  # type: ignore[arg-type]  # pairs are what it takes
    method: Literal["POST", "GET"] = "POST" if call.head.method == "POST" else "GET"
    base = signature.signature_base_string(method, signature.base_string_uri(uri), normal)
    return any(signature.sign_hmac_sha1(base, secret, token_secret) == given for secret in secrets)


def _refused(call: Call, what: str) -> Honest:
    call.provider.journal.event("refused_signed", provider=call.provider.name, what=what)
    return Honest(write_answer(401, b"signature or token refused", HTML))
