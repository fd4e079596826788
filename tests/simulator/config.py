"""How one simulated provider is set up. Everything can be given as JSON and changed while it runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar, get_args

from tests.simulator.faults import Fault
from tests.simulator.grants import RotationMode, RotationProfile
from tests.simulator.tokens import CLIENT_SECRET_PREFIX

Outage = Literal["off", "error", "drop", "hang"]
ClientAuth = Literal["any", "basic", "post", "none"]


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """How a token answer is dressed; the default is RFC 6749, section 5.1.

    Args:
        nest: put the members under this name (`data`, `authed_user`).
        rename: standard member name to the provider's name.
        omit: standard members that are never sent.
        extra: further members, sent as they are (`instance_url`, `ok`).
        expires_in: `seconds`, `string`, `milliseconds`, `clock` (D:HH:MM), or for an `expires_at` `at` in seconds of
            the epoch, `at_ms` in milliseconds, `iso`.
        refresh_token_expires_in: name of the member that tells the refresh token's life; empty for none.
        scope_separator: between two scopes.
        beside: member to the authorization parameter whose scopes are another grant of the account: it comes under that
            member of the answer to a code, with tokens of its own (`authed_user`).
        form: answer urlencoded instead of JSON, unless the client accepts only JSON.
    """

    nest: str = ""
    rename: dict[str, str] = field(default_factory=dict)
    omit: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    expires_in: Literal["seconds", "string", "milliseconds", "clock", "at", "at_ms", "iso"] = "seconds"
    refresh_token_expires_in: str = ""
    scope_separator: str = " "
    beside: dict[str, str] = field(default_factory=dict)
    form: bool = False


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a provider wants of token requests and how it refuses; the default is RFC 6749.

    Args:
        body: `form`, `json` or `query`: parameters anywhere else are not seen; empty takes all.
        method: of renewals, where it is not POST.
        names: standard parameter name to the provider's; the standard one is then not known.
        grant_types: the provider's grant type to the standard one, or to `exchange`, `extend`.
        headers: what a request must carry, names in lower case.
        parameters: what it must say; only of code exchanges with `code:` before the name, only of renewals with
            `refresh:`.
        earliest: a renewal sooner than this after the last one is refused.
        keys: public keys, PEM, by client id: who asks shows it by a signed assertion.
        audience: whom assertions must name; empty: any.
        error: member path to text, with `{code}` and `{text}` in it; empty for the standard answer.
        error_status: of refusals; 0 for the standard one.
        error_codes: standard code to the provider's.
        callback: further parameters of the redirect.
    """

    body: str = ""
    method: str = "POST"
    names: dict[str, str] = field(default_factory=dict)
    grant_types: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)
    earliest: float = 0.0
    keys: dict[str, str] = field(default_factory=dict)
    audience: str = ""
    error: dict[str, Any] = field(default_factory=dict)
    error_status: int = 0
    error_codes: dict[str, str] = field(default_factory=dict)
    callback: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """One provider. Durations are seconds.

    Args:
        client_id: the client this provider knows.
        client_secret: its secret; ignored when `client_auth` is `none`.
        other_secrets: further secrets of it that are valid too.
        other_clients: further clients, each with its one secret; a grant belongs to the client that got it.
        client_auth: which way the client must authenticate at the token endpoint.
        redirect_uris: exact URIs that are registered; empty allows any loopback URI.
        require_pkce: refuse an authorization request without an S256 challenge.
        offline_parameters: authorization parameters without which no refresh token is issued.
        default_scope: granted when none is asked for.
        rotation: what becomes of refresh tokens, and the lives of all tokens.
        latency: every answer is held back so long.
        jitter: plus a random part of so long.
        token_size: random characters in a token; a few thousand is legal.
        outage: `error` 503, `drop` closes connections, `hang` never answers; for all endpoints.
        invalid_client: the token endpoint refuses the client whatever it sends.
        errors_as_200: errors of the token endpoint come with status 200, and `invalid_grant` is `bad_refresh_token`.
        faults: rules in the order in which they are tried.
        answer: the dress of token answers.
        dialect: what it wants of requests.
        rate_limit: token requests in any second; the next is answered 429. 0: as many as come.
        undescribed: it says nothing of itself where others look for that.
    """

    client_id: str = "evergrant"
    client_secret: str = CLIENT_SECRET_PREFIX + "simulator"
    other_secrets: list[str] = field(default_factory=list)
    other_clients: dict[str, str] = field(default_factory=dict)
    client_auth: ClientAuth = "any"
    redirect_uris: list[str] = field(default_factory=list)
    require_pkce: bool = True
    offline_parameters: dict[str, str] = field(default_factory=dict)
    default_scope: str = "read"
    rotation: RotationProfile = field(default_factory=RotationProfile)
    latency: float = 0.0
    jitter: float = 0.0
    token_size: int = 64
    outage: Outage = "off"
    invalid_client: bool = False
    errors_as_200: bool = False
    faults: list[Fault] = field(default_factory=list)
    answer: AnswerShape = field(default_factory=AnswerShape)
    dialect: Dialect = field(default_factory=Dialect)
    undescribed: bool = False
    rate_limit: int = 0

    def secrets_of(self, client_id: str) -> list[str]:
        """The secrets that show a client; none when it is not known."""
        if client_id == self.client_id:
            return [self.client_secret, *self.other_secrets]
        return [self.other_clients[client_id]] if client_id in self.other_clients else []

    def patched(self, changes: dict[str, Any]) -> ProviderConfig:
        """A copy with the given members changed; `rotation`, `answer` and `dialect` are merged, lists are replaced.

        Raises:
            ValueError: unknown member or value.
        """
        changes = dict(changes)
        unknown = changes.keys() - {item.name for item in fields(self)}
        if unknown:
            raise ValueError(f"a provider knows nothing of {sorted(unknown)}")
        if "rotation" in changes:
            changes["rotation"] = _merged(self.rotation, changes["rotation"])
        if "answer" in changes:
            changes["answer"] = _merged(self.answer, changes["answer"])
        if "dialect" in changes:
            changes["dialect"] = _merged(self.dialect, changes["dialect"])
        if "faults" in changes:
            changes["faults"] = [Fault.from_dict(rule) for rule in changes["faults"]]
        if isinstance(changes.get("outage"), bool):
            changes["outage"] = "error" if changes["outage"] else "off"
        config = replace(self, **changes)
        config._check()
        return config

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON members."""
        return asdict(self)

    def _check(self) -> None:
        for value, allowed in (
            (self.rotation.mode, get_args(RotationMode)),
            (self.outage, get_args(Outage)),
            (self.client_auth, get_args(ClientAuth)),
        ):
            if value not in allowed:
                raise ValueError(f"{value!r} is none of {', '.join(allowed)}")


Part = TypeVar("Part", RotationProfile, AnswerShape, Dialect)


def _merged(current: Part, changes: dict[str, Any]) -> Part:
    unknown = changes.keys() - {item.name for item in fields(current)}
    if unknown:
        raise ValueError(f"{type(current).__name__} knows nothing of {sorted(unknown)}")
    return replace(current, **changes)
