"""Whether a token that was presented to another service of yours is good, and for what."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends

from vault import ConfigurationError, TokenRefused, UnknownProvider, ValidationUnavailable
from vault.web.guard import Caller, Guard
from vault.web.problems import Problem
from vault.web.routing import answers, router
from vault.web.shapes import Introspection, IntrospectionRequest

introspection = router("tokens")


@introspection.post(
    "/introspect",
    response_model=Introspection,
    responses=answers(UnknownProvider, ValidationUnavailable, "provider_not_ready", body=True),
)
def introspect(
    caller: Annotated[Caller, Depends(Guard("tokens:introspect", "introspections"))], asked: IntrospectionRequest
) -> Introspection:
    """Say whether a token is good: a session's, or one of a provider that describes its tokens (RFC 7662).

    Scope: `tokens:introspect`.
    """
    try:
        found = caller.vault.validate(
            asked.token.get_secret_value(), method=asked.method, provider=asked.provider, audience=asked.audience
        )
    except TokenRefused as refused:
        return Introspection.refused(refused)
    except ConfigurationError:
        raise Problem("provider_not_ready", "nobody can be asked about its tokens") from None
    return Introspection.of(found)
