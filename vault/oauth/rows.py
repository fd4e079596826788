"""One table of a provider file: its schema, and the provider it makes. Durations are in seconds, as their names say."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vault.dialect import (
    AnswerStyle,
    Assertion,
    Body,
    Clock,
    ErrorPattern,
    ErrorStyle,
    FurtherGrant,
    Meaning,
    RequestStyle,
    Variable,
)
from vault.provider import ADDRESSES, PLAIN_REQUEST, Client, ClientAuth, Provider, Rotation, Strategy

LONGEST_S = 100 * 366 * 24 * 3600
SIGNED = frozenset({"ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"})
STANDARD_PARAMETERS = frozenset(
    {"grant_type", "client_id", "client_secret", "code", "code_verifier", "redirect_uri", "refresh_token", "scope"}
    | {"assertion", "client_assertion", "client_assertion_type", "token", "token_type_hint"}
)
STANDARD_MEMBERS = frozenset(
    {"access_token", "refresh_token", "token_type", "scope", "expires_in", "expires_at"}
    | {"refresh_token_expires_in", "refresh_token_expires_at", "grant_expires_in", "grant_expires_at"}
)
_UNITS = {"seconds": timedelta(seconds=1), "milliseconds": timedelta(milliseconds=1)}
_OTHERS = frozenset({"refresh", "variables", "grants"})
"""Tables that are not one style each."""
_HEADER = re.compile(r"[A-Za-z0-9-]+")
_CONSENTED = frozenset({Strategy.REFRESH, Strategy.EXCHANGE, Strategy.EXTEND, Strategy.OAUTH1})
"""Strategies that begin with an owner's consent."""


def _expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression ({error})") from None
    return text


def _header(headers: Mapping[str, str]) -> Mapping[str, str]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not value.isascii() or not value.isprintable():
            raise ValueError(f"{name[:40]!r} is no header")
    return headers


def _only(known: frozenset[str]) -> AfterValidator:
    def check(names: Mapping[str, str]) -> Mapping[str, str]:
        unknown = sorted(names.keys() - known)
        if unknown:
            raise ValueError(f"{unknown[0][:40]!r} is none of {', '.join(sorted(known))}")
        return names

    return AfterValidator(check)


def _uri(text: str) -> str:
    """Check an address; which host it may name in the clear is the transport's to say."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(text) if name is not None]
    except ValueError:
        raise ValueError("is no address: its braces do not fit") from None
    is_address = text.startswith(("https://", "http://")) or fields
    if not is_address or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("is no address: it begins with https://")
    return text


Expression = Annotated[str, AfterValidator(_expression)]
Uri = Annotated[str, AfterValidator(_uri)]
GrantName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_S)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)


class RequestTable(_Table):
    """How requests are written."""

    body: Body = Body.FORM
    method: Literal["POST", "GET"] = "POST"
    grant_type: str = ""
    headers: Annotated[Mapping[str, str], AfterValidator(_header)] = Field(default_factory=dict)
    parameters: Mapping[str, str] = Field(default_factory=dict)
    names: Annotated[Mapping[str, str], _only(STANDARD_PARAMETERS)] = Field(default_factory=dict)

    def style(self) -> RequestStyle:
        """Return what adapters act on."""
        made = RequestStyle(**self.model_dump())
        return PLAIN_REQUEST if made == PLAIN_REQUEST else made


class AnswerTable(_Table):
    """Where in an answer what stands."""

    roots: tuple[str, ...] = Field(default=("",), min_length=1)
    names: Annotated[Mapping[str, str], _only(STANDARD_MEMBERS)] = Field(default_factory=dict)
    unit: Literal["seconds", "milliseconds"] = "seconds"
    refresh_clock: Clock = Clock.SLIDING
    account: str | None = None
    kept: tuple[str, ...] = ()

    def style(self) -> AnswerStyle:
        """Return what adapters act on."""
        return AnswerStyle(**{**self.model_dump(), "unit": _UNITS[self.unit]})


class ErrorTable(_Table):
    """How the provider says no."""

    members: tuple[str, ...] = Field(default=("error",), min_length=1)
    success: frozenset[str] = frozenset()
    transient: tuple[str, ...] = ()
    operator: tuple[str, ...] = ()
    dead: tuple[str, ...] = ()
    step: tuple[str, ...] = ()
    statuses: Mapping[int, Meaning] = Field(default_factory=dict)
    patterns: Mapping[Meaning, tuple[Expression, ...]] = Field(default_factory=dict)

    def style(self) -> ErrorStyle:
        """Return what adapters act on."""
        codes = {code: meaning for meaning in Meaning for code in getattr(self, meaning)}
        found = (ErrorPattern(m, re.compile(each)) for m, several in self.patterns.items() for each in several)
        return ErrorStyle(self.members, self.success, codes, dict(self.statuses), tuple(found))


class AssertionTable(_Table):
    """What is signed."""

    algorithm: str = "ES256"
    issuer: str = ""
    subject: str = ""
    audience: str = ""
    key_id: str = ""
    life_s: Seconds = 300
    claims: Mapping[str, str] = Field(default_factory=dict)
    names_scopes: bool = False

    @model_validator(mode="after")
    def _checked(self) -> AssertionTable:
        if self.algorithm not in SIGNED:
            raise ValueError(f"algorithm is none of {', '.join(sorted(SIGNED))}")
        return self

    def style(self) -> Assertion:
        """Return what adapters act on."""
        values = self.model_dump(exclude={"life_s"})
        return Assertion(**values, life=timedelta(seconds=self.life_s))


class VariableTable(_Table):
    """A part of the addresses."""

    pattern: Expression
    default: str | None = None
    parameter: str | None = None

    def style(self) -> Variable:
        """Return what adapters act on."""
        return Variable(re.compile(self.pattern), self.default, self.parameter)


class GrantTable(_Table):
    """Another grant that may come with a consent."""

    root: Annotated[str, Field(min_length=1)]
    account: str | None = None
    scope_parameter: str | None = None
    scopes: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _checked(self) -> GrantTable:
        if self.scopes and self.scope_parameter is None:
            raise ValueError("scope_parameter is missing: how are the scopes asked for?")
        return self

    def style(self) -> FurtherGrant:
        """Return what adapters act on."""
        return FurtherGrant(**self.model_dump())


TABLES: Mapping[str, type[BaseModel]] = {
    "request": RequestTable, "refresh": RequestTable, "lengthen": RequestTable, "answer": AnswerTable,
    "errors": ErrorTable, "assertion": AssertionTable, "variables": VariableTable,
    "grants": GrantTable,
}  # fmt: skip
"""Tables within a provider's: who overrides one of their fields leaves the others as they are."""


class Row(_Table):
    """One provider, as files have it."""

    authorize_uri: Uri | None = None
    token_uri: Uri | None = None
    issuer: str | None = None
    iss_required: bool = False
    discover: bool = False
    revoke_uri: Uri | None = None
    revoke_ends_all: bool = False
    refresh_uri: Uri | None = None
    introspect_uri: Uri | None = None
    request_token_uri: Uri | None = None
    lengthen_uri: Uri | None = None
    strategy: Strategy = Strategy.REFRESH
    rotation: Rotation = Rotation.STRICT
    replay_window_s: float = Field(default=0, ge=0, le=LONGEST_S)
    client_auth: ClientAuth = ClientAuth.BASIC
    scopes: tuple[str, ...] = ()
    scope_separator: str = Field(default=" ", min_length=1)
    scope_on_refresh: bool = False
    pkce: bool = True
    authorize_parameters: Mapping[str, str] = Field(default_factory=dict)
    default_life_s: Seconds = 3600
    earliest_refresh_s: float = Field(default=0, ge=0, le=LONGEST_S)
    grant_life_s: Seconds | None = None
    idle_life_s: Seconds | None = None
    proactive: bool = True
    request: RequestTable = Field(default_factory=RequestTable)
    refresh: RequestTable | None = None
    lengthen: RequestTable = Field(default_factory=RequestTable)
    answer: AnswerTable = Field(default_factory=AnswerTable)
    errors: ErrorTable = Field(default_factory=ErrorTable)
    assertion: AssertionTable = Field(default_factory=AssertionTable)
    variables: Mapping[str, VariableTable] = Field(default_factory=dict)
    grants: Mapping[GrantName, GrantTable] = Field(default_factory=dict)
    callback_parameters: tuple[str, ...] = ()
    max_in_flight: int = Field(default=512, ge=1)
    rate_per_second: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _complete(self) -> Row:
        """Check what one field says against another."""
        wanted = []
        if not self.discover:
            wanted += ["authorize_uri"] if self.strategy in _CONSENTED else []
            wanted += [] if self.strategy in (Strategy.MINTED, Strategy.NONE) else ["token_uri"]
        wanted += ["issuer"] if self.discover or self.iss_required else []
        wanted += ["request_token_uri"] if self.strategy is Strategy.OAUTH1 else []
        missing = [name for name in wanted if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
        if self.rotation is Rotation.GRACE and not self.replay_window_s:
            raise ValueError("replay_window_s is missing: for how long does grace last?")
        if self.strategy not in (Strategy.REFRESH, Strategy.EXTEND) and self.rotation is not Rotation.NONE:
            raise ValueError(f'rotation is of refresh tokens; for the strategy {self.strategy} it is "none"')
        if self.grants and self.strategy is not Strategy.REFRESH:
            raise ValueError('further grants are renewed by refresh tokens: the strategy is "refresh"')
        self._check_variables()
        return self

    def _check_variables(self) -> None:
        for name in ADDRESSES:
            for _, field, _, _ in string.Formatter().parse(getattr(self, name) or ""):
                if field is not None and field not in self.variables:
                    raise ValueError(f"{name} wants a variable {field[:40]!r} that is not described")
        for name, variable in self.variables.items():
            if variable.default is not None and not re.fullmatch(variable.pattern, variable.default):
                raise ValueError(f"the default of the variable {name} does not fit its pattern")

    def provider(self, name: str, client: Client | None, certificate: UUID | None) -> Provider:
        """Turn the row into a provider; this is where seconds become durations."""
        values: dict[str, Any] = self.model_dump(exclude=set(TABLES))
        for field in ("replay_window", "default_life", "earliest_refresh", "grant_life", "idle_life"):
            seconds = values.pop(f"{field}_s")
            values[field] = None if seconds is None else timedelta(seconds=seconds)
        for field in ("authorize_uri", "token_uri"):
            values[field] = values[field] or ""
        styles = {each: getattr(self, each).style() for each in TABLES if each not in _OTHERS}
        styles["refresh"] = (self.refresh or self.request).style()
        for several in ("variables", "grants"):
            styles[several] = {key: each.style() for key, each in getattr(self, several).items()}
        return Provider(name=name, client=client, certificate=certificate, **styles, **values)
