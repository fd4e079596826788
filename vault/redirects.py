"""What a browser brings back, and where it may be sent: checked as text, before anything acts on it. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from vault.errors import ConnectRefused
from vault.provider import Provider

LONGEST: Final = 2048
"""Characters of an address, and of a parameter that is kept."""
LONGEST_CODE: Final = 8192
LONGEST_WORD: Final = 1024
"""Characters of a label, and bytes of an owner's id: PostgreSQL indexes it with others, and refuses what is long."""
MOST_LABELS: Final = 64
MOST_DECODINGS: Final = 3
"""What is encoded more often than that is made to be misread."""
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_CODE = re.compile(r"[\x20-\x7e]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_UNKEPT = re.compile("[\x00\ud800-\udfff]")
"""Characters that PostgreSQL does not take."""


class Returned(NamedTuple):
    """What a redirect said that decides: each member once, whoever it was told by."""

    code: str | None
    error: str | None
    issuer: str | None


def returned(code: str | None, error: str | None, issuer: str | None, parameters: Mapping[str, str]) -> Returned:
    """Hold what an app picked out of a redirect against all that the redirect said.

    Raises:
        ConnectRefused: ``malformed``: they differ, or the code is none (RFC 6749, appendix A.11).
    """
    for name, value in {"code": code, "error": error, "iss": issuer}.items():
        said = parameters.get(name)
        if value is not None and said is not None and value != said:
            raise ConnectRefused("malformed", f"the redirect says two things in {name!r}")
    code = code or parameters.get("code") or parameters.get("oauth_verifier")
    if code and (len(code) > LONGEST_CODE or not _CODE.fullmatch(code)):
        raise ConnectRefused("malformed", "what came back is no authorization code")
    found_error = error if error is not None else parameters.get("error")
    return Returned(code, found_error, issuer if issuer is not None else parameters.get("iss"))


def check_issuer(provider: Provider, issuer: str | None) -> None:
    """Hold who answered against who was asked (RFC 9207, section 2.4). Raises ``ConnectRefused``: ``other_issuer``."""
    if provider.issuer is None or (issuer is None and not provider.iss_required):
        return
    if issuer != provider.issuer:
        raise ConnectRefused("other_issuer", "the answer came from another provider than the one asked (RFC 9207)")


def variables_named(provider: Provider, begun: Mapping[str, str], parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the variables a flow was begun with, or those that the redirect names instead."""
    named = {name: each.parameter for name, each in provider.variables.items() if each.parameter}
    found = {name: parameters.get(parameter) for name, parameter in named.items()}
    return {**begun, **{name: value for name, value in found.items() if value}}


def worth_keeping(provider: Provider, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return what the redirect said that its provider's row says to keep."""
    found = {name: parameters.get(name, "") for name in provider.callback_parameters}
    return {name: value for name, value in found.items() if value and value.isprintable() and len(value) <= LONGEST}


# ----------------------------------------------------------------------------------------------- what a flow is made of


def check_words(owner: str, labels: Mapping[str, str], browser: str | None) -> None:
    """Check what an app says of a flow. Raises ``ConnectRefused``: ``malformed``, ``browser``."""
    if browser is not None and not browser.strip():
        raise ConnectRefused("browser", "it is empty, and would bind the flow to nobody: give None if you mean that")
    if not _is_kept(owner) or not 0 < len(owner.encode()) <= LONGEST_WORD:
        raise ConnectRefused("malformed", "the owner's id is empty, too long, or holds what cannot be stored")
    if len(labels) > MOST_LABELS or not all(_is_kept(part) for pair in labels.items() for part in pair):
        raise ConnectRefused("malformed", "labels are text by text, at most 64, without what cannot be stored")


def check_scopes(provider: Provider, scopes: Sequence[str], grants: Mapping[str, Sequence[str]]) -> None:
    """Check what is asked for: one scope must not be several. Raises ``ConnectRefused``: ``scopes``, ``grants``."""
    for name in grants:
        if name not in provider.grants or provider.grants[name].scope_parameter is None:
            known = ", ".join(each for each, style in provider.grants.items() if style.scope_parameter) or "none"
            raise ConnectRefused("grants", f"further grants that can be asked {provider.name} for: {known}")
    mark = provider.scope_separator.strip()
    for scope in (*scopes, *(each for several in grants.values() for each in several)):
        if not _SCOPE.fullmatch(scope) or len(scope) > LONGEST_WORD or (mark and mark in scope):
            raise ConnectRefused("scopes", "one of them is no scope (RFC 6749, section 3.3)")


def _is_kept(text: object) -> bool:
    return isinstance(text, str) and len(text) <= LONGEST_WORD and not _UNKEPT.search(text)


# -------------------------------------------------------------------------------------------------- where browsers go


def check_redirect_uri(uri: str, allowed: Collection[str]) -> None:
    """Compare an app's own redirect URI, character by character (RFC 9700, section 2.1), where any are named.

    Raises:
        ConnectRefused: ``redirect_uri``: it is none of them, or no URI.
    """
    if (allowed and uri not in allowed) or not is_redirect_uri(uri):
        raise ConnectRefused("redirect_uri", "it is neither VAULT_REDIRECT_URI nor one of VAULT_REDIRECT_URIS")


def is_redirect_uri(uri: str) -> bool:
    """Whether a provider may be told it: absolute, and without a fragment (RFC 6749, section 3.1.2)."""
    parts = _split(uri)
    return parts is not None and bool(parts.scheme) and bool(parts.netloc or parts.path) and "#" not in uri


def is_place(uri: str) -> bool:
    """Whether it names an origin, or what is below a path there."""
    parts = _split(uri)
    return (
        parts is not None and parts.scheme in ("https", "http") and bool(parts.hostname)
        and "@" not in parts.netloc and not parts.query and not parts.fragment and _is_straight(parts.path)
    )  # fmt: skip


def check_return_to(uri: str, allowed: Collection[str]) -> None:
    """Check where an owner wants to go afterwards: on this site, or to a place that the operator named.

    Browsers take a backslash for a slash, leave out tabs and line ends, and resolve dots; whoever sits in between may
    decode once more than they do. All of that is refused, not understood.

    Raises:
        ConnectRefused: ``return_to``.
    """
    parts = _split(uri)
    if parts is None or not _is_straight(parts.path):
        raise ConnectRefused(
            "return_to", "it is no plain address: ASCII, without backslashes, '//' or dots in its path"
        )
    if not parts.scheme and not parts.netloc:
        if not uri.startswith("/") or uri.startswith("//"):
            raise ConnectRefused("return_to", "it must be a path on this site, beginning with one slash")
    elif not any(_is_below(parts, urlsplit(place)) for place in allowed):
        raise ConnectRefused("return_to", "it leads away from this site, to where VAULT_RETURN_TO does not")


def _split(uri: str) -> SplitResult | None:
    if len(uri) > LONGEST or not _VISIBLE.fullmatch(uri) or "\\" in uri:
        return None
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError:
        return None
    return parts


def _is_straight(path: str) -> bool:
    """Whether a path means what it says, however often whoever passes it on decodes it."""
    for _ in range(MOST_DECODINGS):
        plain = not any(c in path for c in "\\") and all(c >= " " and c != "\x7f" for c in path)
        if not plain or "//" in path or {".", ".."} & set(path.split("/")):
            return False
        decoded = unquote(path)
        if decoded == path:
            return True
        path = decoded
    return False


def _is_below(parts: SplitResult, place: SplitResult) -> bool:
    if (parts.scheme, parts.netloc) != (place.scheme, place.netloc):
        return False
    root = place.path.rstrip("/")
    return parts.path == place.path or parts.path.startswith(f"{root}/") or (not root and not parts.path)
