"""What can go wrong, as one tree.

VaultError
├── ConfigurationError
│   └── SchemaOutdated
├── UnknownConnection
├── UnknownProvider
├── UnknownClient
├── UnknownCredential
├── InvalidCredential
├── VersionConflict
├── RotationBusy
├── RotationFailed
├── UnknownEndpoint
├── UnknownEvent
├── UnknownApiKey
├── ApiKeyRefused
├── TokenUnavailable
│   ├── RefreshPending
│   └── ReconnectRequired
├── TokenRefused
├── ValidationUnavailable
├── UnknownSession
├── ConnectRefused
├── CannotOpen
├── KeyUnavailable
├── DestructionRefused
├── SignatureInvalid
├── StoreUnavailable
├── QueueUnavailable
├── SourceUnavailable
└── MigrationBusy

A message never contains a secret. ``transient`` says whether the same call may succeed later without anybody acting;
``retry_after`` says when to try. The drawing above is compared with the code by a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta


class VaultError(Exception):
    """Something Evergrant could not do; the subclass says what, the message says what to do next."""

    transient: bool = False
    retry_after: timedelta | None = None


class ConfigurationError(VaultError):
    """The settings cannot work. ``problems`` lists every one of them, so that one run is enough to mend them all."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(["Evergrant cannot start with these settings:", *(f"  - {p}" for p in problems)]))


class SchemaOutdated(ConfigurationError):
    """The database schema is not the one this version needs; ``evergrant db upgrade`` brings it there."""

    def __init__(self, found: str | None, needed: str) -> None:
        self.found, self.needed = found, needed
        state = f"is at revision {found}" if found else "has no Evergrant tables"
        super().__init__([f"the database {state}, this version needs {needed}: run 'evergrant db upgrade'"])


class UnknownConnection(VaultError):
    """No connection of this tenant has that id: check the id, or connect the account first."""

    def __init__(self, connection_id: object) -> None:
        self.connection_id = str(connection_id)[:64]
        super().__init__(
            f"no connection {self.connection_id!r} in this tenant: check the id, or connect the account first"
        )


class UnknownProvider(VaultError):
    """No provider of that name is registered: name a known one, or add a file to VAULT_PROVIDERS."""

    def __init__(self, provider: str, known: Sequence[str]) -> None:
        self.provider = provider
        listing = ", ".join(sorted(known)) or "none"
        super().__init__(
            f"unknown provider {provider[:64]!r}; known: {listing}. Add yours with VAULT_PROVIDERS=FILE.toml"
        )


class UnknownClient(VaultError):
    """The store holds no registration of that client id: ``evergrant client list`` shows those there are."""

    def __init__(self, provider: str, client_id: str) -> None:
        self.provider, self.client_id = provider, client_id
        super().__init__(
            f"the store holds no registration {client_id[:128]!r} at {provider[:64]}: see 'evergrant client list'"
        )


class UnknownCredential(VaultError):
    """No credential of this tenant has that id, or not in the state that the call needs: check the id."""

    def __init__(self, credential_id: object, state: str = "") -> None:
        self.credential_id = str(credential_id)[:64]
        wanted = f" that is {state}" if state else ""
        super().__init__(f"no credential {self.credential_id!r}{wanted} in this tenant: check the id")


class InvalidCredential(VaultError):
    """A value is not what it is said to be; ``problem`` says why, never what it was."""

    def __init__(self, kind: str, problem: str) -> None:
        self.kind, self.problem = str(kind), problem
        super().__init__(f"not a {str(kind).replace('_', ' ')}: {problem}")


class VersionConflict(VaultError):
    """The credential is at another version than the caller has seen: read it again, and decide again."""

    def __init__(self, credential_id: object, expected: int, found: int) -> None:
        self.credential_id, self.expected, self.found = str(credential_id), expected, found
        super().__init__(f"credential {credential_id} is at version {found}, not {expected}: read it again")


class RotationBusy(VaultError):
    """A rotation of this credential is not over: wait for its end, or force another one."""

    def __init__(self, credential_id: object, step: str) -> None:
        self.credential_id, self.step = str(credential_id), step
        super().__init__(f"a rotation of {credential_id} is at step {step!r}: wait for its end, or force another one")


class RotationFailed(VaultError):
    """A rotator could not do its step; ``reason`` is a word or two for the audit, never a value.

    ``retry_after``: the far side would rather not be asked before that.
    """

    def __init__(self, reason: str, *, permanent: bool = False, retry_after: timedelta | None = None) -> None:
        self.reason, self.transient, self.retry_after = reason[:200], not permanent, retry_after
        super().__init__(f"the rotator could not do its step: {self.reason}")


class UnknownEndpoint(VaultError):
    """No endpoint has that id: ``evergrant endpoint list`` shows those there are."""

    def __init__(self, endpoint_id: object) -> None:
        self.endpoint_id = str(endpoint_id)[:64]
        super().__init__(f"no endpoint {self.endpoint_id!r}: see 'evergrant endpoint list'")


class UnknownEvent(VaultError):
    """No event has that id, or not any more: ``evergrant event list`` shows those there are."""

    def __init__(self, event_id: object) -> None:
        self.event_id = str(event_id)[:64]
        super().__init__(f"no event {self.event_id!r}, or not any more: see 'evergrant event list'")


class UnknownApiKey(VaultError):
    """No API key has that id: ``evergrant api-key list`` shows those there are."""

    def __init__(self, key_id: object) -> None:
        self.key_id = str(key_id)[:64]
        super().__init__(f"no API key {self.key_id!r}: see 'evergrant api-key list'")


class ApiKeyRefused(VaultError):
    """An API key does not open anything: have another one made with ``evergrant api-key create``.

    ``reason`` is ``unknown``, ``expired`` or ``revoked``; ``missing`` where none was brought (docs/http.md).
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"the API key is refused ({reason}): have another one made with 'evergrant api-key create'")


class TokenUnavailable(VaultError):
    """There is no usable access token for this connection right now."""

    def __init__(self, connection_id: object, reason: str, message: str) -> None:
        self.connection_id = str(connection_id)
        self.reason = reason
        super().__init__(message)


class RefreshPending(TokenUnavailable):
    """A new token is on its way: ask again after ``retry_after``."""

    transient = True

    def __init__(self, connection_id: object, reason: str, retry_after: timedelta) -> None:
        seconds = retry_after.total_seconds()
        super().__init__(connection_id, reason, f"no live token yet ({reason}): ask again in {seconds:.0f} s")
        self.retry_after = retry_after


class ReconnectRequired(TokenUnavailable):
    """The grant is gone and only its owner can give a new one: send them through ``vault.begin()`` again."""

    def __init__(self, connection_id: object, reason: str) -> None:
        super().__init__(
            connection_id, reason, f"the owner must connect again ({reason}): call vault.begin() for this connection"
        )


class ConnectRefused(VaultError):
    """A connect flow was not completed: start the flow again.

    ``reason`` is one of the documented words, never text from outside. ``client_refused``: the provider would not have
    us, and has not looked at the code.
    """

    def __init__(self, reason: str, message: str, *, client_refused: bool = False) -> None:
        self.reason, self.client_refused = reason, client_refused
        super().__init__(f"connect refused ({reason}): {message}")


class CannotOpen(VaultError):
    """A sealed value could not be opened: restore it and its key from one backup, or ask its owner again.

    It is damaged, moved, rolled back or sealed under another key. One error for every cause, on purpose: whoever can
    tell the causes apart has an oracle.
    """

    def __init__(self) -> None:
        super().__init__(
            "a sealed value could not be opened: restore it and its key from one backup, or ask its owner again"
        )


class KeyUnavailable(VaultError):
    """The key that guards a value cannot be had from its KMS.

    ``transient`` tells an outage, which passes, from a refusal: check the key and the rights on it.
    """

    def __init__(self, key_id: str, reason: str, *, transient: bool) -> None:
        self.key_id = key_id
        self.reason = reason
        self.transient = transient
        hint = "it will be tried again" if transient else "check the key and the rights on it"
        super().__init__(f"key {key_id} is unavailable ({reason}): {hint}")


class DestructionRefused(VaultError):
    """A key, or a registration of ours, is not destroyed while anybody might need it: do what the message says."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"nothing was destroyed: {reason}")


class SignatureInvalid(VaultError):
    """A webhook's signature does not fit its body and our secrets, or is not of these minutes: do not act on it.

    One error for every cause, on purpose.
    """

    def __init__(self) -> None:
        super().__init__("the signature does not fit, or is not of these minutes: do not act on this message")


class StoreUnavailable(VaultError):
    """PostgreSQL cannot be reached: is it running, is VAULT_DATABASE_URL right?

    ``where`` names the server without its password.
    """

    transient = True

    def __init__(self, where: str, cause: str) -> None:
        self.where = where
        super().__init__(f"PostgreSQL at {where} cannot be used ({cause}): is it running, is VAULT_DATABASE_URL right?")


class QueueUnavailable(VaultError):
    """Redis cannot be reached: is it running, is VAULT_REDIS_URL right?

    Refreshes go on meanwhile: every obligation is a row in PostgreSQL.
    """

    transient = True

    def __init__(self, where: str, cause: str) -> None:
        self.where = where
        super().__init__(f"Redis at {where} cannot be used ({cause}): is it running, is VAULT_REDIS_URL right?")


class SourceUnavailable(VaultError):
    """The system that grants are moved out of cannot be read: is it running, are the URL and the rights right?

    ``where`` names it without its password. What was moved stays moved; the next run goes on.
    """

    transient = True

    def __init__(self, where: str, cause: str) -> None:
        self.where = where
        super().__init__(
            f"the source {where} cannot be used ({cause}): is it running, are the URL and the rights right?"
        )


class MigrationBusy(VaultError):
    """Another run of this migration is at work: wait for its end, or end it."""

    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__(f"another run moves {source} at this moment: wait for its end, or end it")


class UnknownSession(VaultError):
    """No session of this tenant has that id, or not any more: ``evergrant session list`` shows those there are."""

    def __init__(self, session_id: object) -> None:
        self.session_id = str(session_id)[:64]
        super().__init__(
            f"no session {self.session_id!r} in this tenant, or not any more: see 'evergrant session list'"
        )


class TokenRefused(VaultError):
    """A token that was presented is not good for what was asked; ``reason`` is a documented word, never the token.

    ``code`` is what a resource server answers with (RFC 6750, section 3.1); ``who`` must act: ``user``, ``caller`` or
    ``operator``; ``missing`` names scopes.
    """

    def __init__(self, reason: str, message: str, *, who: str, code: str, missing: Sequence[str] = ()) -> None:
        self.reason, self.who, self.code, self.missing = reason, who, code, tuple(missing)
        super().__init__(f"the token is refused ({reason}): {message}")


class ValidationUnavailable(VaultError):
    """Nobody can say now whether a token is good, which does not make it a bad one: ask again after ``retry_after``.

    Where ``transient`` is False, an operator must act first: ``reason`` says about what.
    """

    def __init__(self, issuer: str, reason: str, retry_after: timedelta, *, transient: bool) -> None:
        self.issuer, self.reason = issuer, reason
        self.transient, self.retry_after = transient, retry_after
        hint = f"ask again in {retry_after.total_seconds():.0f} s"
        if not transient:
            hint = "look at its row in the registry and at our registration there"
        super().__init__(f"{issuer[:64]} does not say whether the token is good ({reason}): {hint}")
