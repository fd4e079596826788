"""Statements signed with a private key of ours: who we are (RFC 7523), or a token by itself (Apple Music)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

from vault.dialect import Assertion


class BadKey(Exception):
    """A text is no private key of the kind that its algorithm signs with."""


class SigningKey(NamedTuple):
    """A private key, with what its text says about it."""

    key: Any
    key_id: str
    issuer: str
    """Who signs with it; empty: the text does not say."""


def signing_key(text: str) -> SigningKey:
    """Read a private key: PEM, a JWK, or the JSON file of a service account as Google hands it out.

    Raises:
        BadKey: It is none of these; the text is not shown.
    """
    from joserfc.jwk import import_key

    try:
        document = json.loads(text) if text.lstrip().startswith("{") else None
        if document is None:
            return SigningKey(_private(_from_pem(text)), "", "")
        if "private_key" in document:
            found = _from_pem(str(document["private_key"]))
            return SigningKey(
                _private(found), str(document.get("private_key_id", "")), str(document.get("client_email", ""))
            )
        return SigningKey(_private(import_key(document)), str(document.get("kid", "")), "")
    except BadKey:
        raise
    except Exception:  # noqa: BLE001  # whatever a parser says of a key may quote it
        raise BadKey from None


def _from_pem(text: str) -> Any:
    from joserfc.jwk import ECKey, OKPKey, RSAKey

    for kind in (ECKey, RSAKey, OKPKey):
        try:
            return kind.import_key(text)
        except Exception:  # noqa: BLE001, S112  # of another kind, or none
            continue
    raise BadKey


def _private(key: Any) -> Any:
    if not getattr(key, "is_private", False):
        raise BadKey
    return key


def sign(
    assertion: Assertion,
    key: SigningKey,
    *,
    client_id: str,
    subject: str,
    audience: str,
    scopes: str,
    now: datetime,
    new_id: Callable[[], str],
) -> str:
    """Return a signed statement, compact (RFC 7515, section 3.1).

    Args:
        assertion: What the provider's row says of it.
        key: With what.
        client_id: Who we are there.
        subject: For whom we speak; empty: as the row says.
        audience: Who is to believe it, unless the row says otherwise; empty: nobody in particular.
        scopes: What is asked for, where it is claimed.
        now: When it is made.
        new_id: Makes one that no other statement has.

    Raises:
        BadKey: The key does not fit the algorithm.
    """
    from joserfc import jwt
    from joserfc.errors import JoseError

    key_id = key.key_id or assertion.key_id
    issued_at = int(now.timestamp())
    claims: dict[str, Any] = {
        "iss": key.issuer or assertion.issuer or client_id,
        "sub": subject or assertion.subject,
        "aud": assertion.audience or audience,
        "iat": issued_at,
        "exp": issued_at + int(assertion.life.total_seconds()),
        "jti": new_id(),
        "scope": scopes if assertion.names_scopes else "",
        **assertion.claims,
    }
    header = {"alg": assertion.algorithm, "typ": "JWT", **({"kid": key_id} if key_id else {})}
    stated = {name: value for name, value in claims.items() if value != ""}
    try:
        return jwt.encode(header, stated, key.key, algorithms=[assertion.algorithm])
    except (JoseError, ValueError, TypeError, AttributeError):
        raise BadKey from None
