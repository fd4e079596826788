"""A rotator made of data: what each step says to a provider over HTTP, and what it makes of the answer.

2xx is done; 401, 408, 409, 423, 425, 429, 5xx, a spent allowance and no answer at all pass; another 3xx or 4xx will
not, and undoes the rotation. What is to be taken away and is not there (404, 410) is away; where taking away is
refused, the right to do so may yet come back, so that is tried for days before it is given up.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import quote, urlencode
from uuid import UUID

from vault.credentials.rotators import Made, RotationRequest
from vault.egress.once import Heard, Sent
from vault.errors import RotationFailed, TokenUnavailable, UnknownConnection, UnknownCredential
from vault.registrars.data import AUTHORIZATION, Call, Json, Recipe
from vault.registrars.template import Lookup, Missing, Slot, Template
from vault.secret import Secret
from vault.webhooks import generate

PASSING: Final = frozenset({401, 408, 409, 423, 425, 429})
GONE: Final = frozenset({404, 410})
LONGEST_FACT: Final = 500
_NOT_A_SEGMENT: Final = ("", ".", "..")


class Authority(Protocol):
    """What may authorise calls, of any tenant."""

    def access_token(self, tenant: str, connection_id: UUID) -> Secret:
        """The token of a connection. Raises ``TokenUnavailable``, ``UnknownConnection``."""

    def credential(self, tenant: str, credential_id: UUID, reason: str) -> Secret:
        """The value of a credential. Raises ``UnknownCredential``."""


class Sender(Protocol):
    """Sends requests."""

    def send(self, request: Sent) -> Heard:
        """Send one once, and wait for its answer."""


class _Given(NamedTuple):
    """What slots are filled from."""

    request: RotationRequest
    new: Secret | None = None
    old: Secret | None = None

    def lookup(self, slot: Slot) -> str | None:
        request, field = self.request, slot.field
        match slot.root:
            case "tag":
                return request.tags.get(field) or None
            case "request":
                return str(request.id)
            case "credential":
                return str(request.credential_id)
            case "old" if field:  # the first registration is the owner's: only the tags know of it
                return request.facts.get(field) or request.tags.get(field) or None
            case "new" if field:
                return request.new_facts.get(field) or None
            case "old":
                return None if self.old is None else self.old.reveal()
            case "new":
                return None if self.new is None else self.new.reveal()
            case _:
                return None


class Registrar:
    """``Rotator`` for webhook secrets, by a recipe."""

    def __init__(self, recipe: Recipe, sender: Sender, authority: Authority, random: Callable[[int], bytes]) -> None:
        self._recipe, self._sender, self._authority, self._random = recipe, sender, authority, random

    def create(self, request: RotationRequest, current: Secret) -> Secret | Made:
        """See ``Rotator.create``."""
        self._check(request)
        call = self._recipe.calls.get("create")
        if call is None:
            return generate(self._random)
        there = self._there(request)
        made = next((each for each in there if each.value), None)
        try:
            made = made or self._made(self._json(call, self._call(call, _Given(request, old=current))))
        except RotationFailed as failure:
            if not failure.transient:
                self._take_away(request, there)
            raise
        self._take_away(request, [each for each in there if each.facts != made.facts])
        if not made.value:
            self._take_away(request, [made])
            raise RotationFailed("create: no secret in the answer", permanent=True)
        return made

    def set(self, request: RotationRequest, new: Secret, current: Secret) -> None:
        """See ``Rotator.set``."""
        self._do("set", _Given(request, new, current))

    def test(self, request: RotationRequest, new: Secret) -> None:
        """See ``Rotator.test``."""
        self._do("test", _Given(request, new))

    def finish(self, request: RotationRequest, new: Secret, old: Secret) -> None:
        """See ``Rotator.finish``."""

    def retire(self, request: RotationRequest, old: Secret) -> None:
        """See ``Rotator.retire``."""
        self._do("retire", _Given(request, old=old), away=True)

    def undo(self, request: RotationRequest, new: Secret, current: Secret) -> None:
        """See ``Rotator.undo``."""
        self._do("undo", _Given(request, new, current), away=True)
        self._take_away(request, self._there(request))

    # ------------------------------------------------------------------------------------------------------------ calls

    def _check(self, request: RotationRequest) -> None:
        """Refuse to begin what could not be ended, as a tag is missing that taking the old one away will need."""
        given = _Given(request)
        for call in self._recipe.calls.values():
            for template in call.templates:
                for slot in template.slots:
                    known = slot.root == "tag" or (slot.root == "old" and slot.field)
                    if known and not slot.how == "optional" and given.lookup(slot) is None:
                        raise RotationFailed(f"{call.name}: there is no {slot}", permanent=True)

    def _do(self, name: str, given: _Given, *, away: bool = False) -> None:
        call = self._recipe.calls.get(name)
        if call is None:
            return
        heard = self._call(call, given, away=away)
        if not call.expect:
            return
        answer = self._json(call, heard)
        for pointer, template in call.expect:
            if _at(answer, pointer) != _filled(call, template, given.lookup):
                raise RotationFailed(f"{name}: another {pointer} than expected")

    def _call(self, call: Call, given: _Given, *, away: bool = False) -> Heard:
        request = self._written(call, given)
        heard = self._sender.send(request)
        if 200 <= heard.status < 300 or (away and heard.status in GONE):
            return heard
        if not heard.status:
            raise RotationFailed(f"{call.name}: {heard.failure or 'no_answer'}")
        passing = heard.status in PASSING or heard.status >= 500 or heard.retry_after is not None
        raise RotationFailed(
            f"{call.name}: http_{heard.status}", permanent=not (passing or away), retry_after=heard.retry_after
        )

    def _there(self, request: RotationRequest) -> list[Made]:
        """Find what was made for a request, by somebody who died perhaps."""
        call = self._recipe.calls.get("find")
        if call is None:
            return []
        items = _at(self._json(call, self._call(call, _Given(request))), self._recipe.items)
        if not isinstance(items, list):
            raise RotationFailed("find: the answer is no list of registrations")
        return [self._made(item) for item in items if _at(item, self._recipe.request) == str(request.id)]

    def _take_away(self, request: RotationRequest, made: list[Made]) -> None:
        for each in made:
            if all(each.facts.values()):
                self._do("undo", _Given(request._replace(new_facts=each.facts)), away=True)

    def _made(self, answer: Any) -> Made:
        facts = {name: _fact(_at(answer, pointer)) for name, pointer in self._recipe.facts.items()}
        secret = _at(answer, self._recipe.secret)
        if not all(facts.values()):
            raise RotationFailed("create: what is to be kept is not in the answer")
        return Made(Secret(secret if isinstance(secret, str) else ""), facts)

    # --------------------------------------------------------------------------------------------------------- requests

    def _written(self, call: Call, given: _Given) -> Sent:
        lookup = self._authorised(given)
        try:
            path = call.path.fill(given.lookup, _segment)
            headers = [f"{name}: {template.fill(lookup, _in_header)}" for name, template in call.headers]
            kind, body = _body(call, given.lookup)
        except Missing as missing:
            raise RotationFailed(f"{call.name}: there is no {missing}", permanent=True) from None
        except _Unfit as unfit:
            raise RotationFailed(f"{call.name}: {unfit}", permanent=True) from None
        headers += ["User-Agent: evergrant", *([f"Content-Type: {kind}"] if kind else [])]
        return Sent(call.method, f"{self._recipe.base}{path}", tuple(headers), body)

    def _authorised(self, given: _Given) -> Lookup:
        def lookup(slot: Slot) -> str | None:
            return self._authorization(given).reveal() if slot.root == AUTHORIZATION else given.lookup(slot)

        return lookup

    def _authorization(self, given: _Given) -> Secret:
        request, template = given.request, self._recipe.authorization
        try:
            if template is not None:
                named = UUID(template.fill(given.lookup) or "")
                return self._authority.credential(request.tenant, named, f"rotation {request.id}")
            if request.connection_id is None:
                raise RotationFailed("authorization: it belongs to no connection", permanent=True)
            return self._authority.access_token(request.tenant, request.connection_id)
        except (UnknownConnection, UnknownCredential, Missing, ValueError):
            raise RotationFailed("authorization: there is no such connection or credential", permanent=True) from None
        except TokenUnavailable as error:
            raise RotationFailed(f"authorization: {error.reason}", retry_after=error.retry_after) from None

    def _json(self, call: Call, heard: Heard) -> Any:
        try:
            return json.loads(heard.body)
        except (ValueError, RecursionError):
            raise RotationFailed(f"{call.name}: the answer is not JSON") from None


class _Unfit(Exception):
    """A value cannot stand where it is to; says where, never what it is."""


def _segment(slot: Slot, text: str) -> str:
    if text in _NOT_A_SEGMENT:
        raise _Unfit(f"{slot} cannot stand in an address")
    return quote(text, safe="")


def _in_header(slot: Slot, text: str) -> str:
    if not text.isascii() or not text.isprintable():
        raise _Unfit(f"{slot} cannot stand in a header")
    return text


def _filled(call: Call, template: Template, lookup: Lookup) -> str | None:
    try:
        return template.fill(lookup)
    except Missing as missing:
        raise RotationFailed(f"{call.name}: there is no {missing}", permanent=True) from None


def _body(call: Call, lookup: Lookup) -> tuple[str, bytes | None]:
    if call.form is not None:
        fields = [(name, template.values(lookup)) for name, template in call.form]
        return "application/x-www-form-urlencoded", urlencode(
            [f for f in fields if f[1] is not None], doseq=True
        ).encode()
    if call.json is not None:
        return "application/json", json.dumps(_filled_json(call.json, lookup)).encode()
    return "", None


def _filled_json(value: Json, lookup: Lookup) -> Any:
    """Fill a tree: each text by itself, so that no value can be anything but a text."""
    if isinstance(value, Template):
        return value.values(lookup)
    if isinstance(value, dict):
        filled = {name: (each, _filled_json(each, lookup)) for name, each in value.items()}
        return {name: found for name, (each, found) in filled.items() if found is not None or each is None}
    if isinstance(value, list):
        return [_filled_json(each, lookup) for each in value]
    return value


def _at(document: Any, pointer: str) -> Any:
    """Return what a JSON pointer points at (RFC 6901); None: nothing is there."""
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(document, Mapping):
            document = document.get(name)
        elif isinstance(document, list) and name.isdigit() and int(name) < len(document):
            document = document[int(name)]
        else:
            return None
    return document


def _fact(value: Any) -> str:
    """Return an id as it is kept; empty: it is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = str(value)
    return text if len(text) <= LONGEST_FACT and text.isprintable() else ""
