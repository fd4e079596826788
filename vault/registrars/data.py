"""Registrars read from data files, ours first, then the user's, who may override any field."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from vault.credentials.rules import read_tables
from vault.errors import ConfigurationError
from vault.registrars.template import Template, parse

BUILT_IN: Final = Path(__file__).with_name("registrars.toml")
CONNECTION: Final = "connection"
CREDENTIAL: Final = "credential:"
AUTHORIZATION: Final = "authorization"
CALLS: Final = ("create", "find", "set", "test", "retire", "undo")
_VALUES: Final[Mapping[str, frozenset[str]]] = {
    "create": frozenset({"old"}), "find": frozenset(), "set": frozenset({"new", "old"}), "test": frozenset({"new"}),
    "retire": frozenset({"old"}), "undo": frozenset({"new", "old"}),
}  # fmt: skip
"""Which secrets a call is given, for its body."""
_BEFORE_THERE_IS_A_NEW_ONE: Final = ("create", "find")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_BASE = re.compile(r"[!-z]+", re.ASCII)
_PATH = re.compile(r"/[!-~]*", re.ASCII)
_OURS: Final = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type"})
Json = Template | list[Any] | dict[str, Any] | bool | int | float | None


class _Call(BaseModel):
    """One request, as it stands in a file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True, populate_by_name=True)

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    headers: dict[str, str] = Field(default_factory=dict)
    json_body: dict[str, Any] | None = Field(default=None, alias="json")
    form: dict[str, str] | None = None
    expect: dict[str, str] = Field(default_factory=dict)


class _Create(_Call):
    secret: str
    facts: dict[str, str] = Field(default_factory=dict)


class _Find(_Call):
    items: str
    request: str


class _Row(BaseModel):
    """One table of a registrar file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, defer_build=True)

    base: str
    authorization: str = ""
    headers: dict[str, str] = Field(default_factory=dict)
    create: _Create | None = None
    find: _Find | None = None
    set: _Call | None = None
    test: _Call | None = None
    retire: _Call | None = None
    undo: _Call | None = None


class Call(NamedTuple):
    """One request, ready to be filled in."""

    name: str
    method: str
    path: Template
    headers: tuple[tuple[str, Template], ...]
    json: Json = None
    form: tuple[tuple[str, Template], ...] | None = None
    expect: tuple[tuple[str, Template], ...] = ()
    """What must stand where in the answer."""

    @property
    def templates(self) -> Iterator[Template]:
        """Every template in it."""
        yield self.path
        yield from (template for _, template in (*self.headers, *(self.form or ()), *self.expect))
        yield from _leaves(self.json)


class Recipe(NamedTuple):
    """How the registration of a webhook's secret is changed at one kind of provider."""

    name: str
    base: str
    authorization: Template | None
    """What authorises calls: the id of a credential; None: the token of the connection."""
    calls: Mapping[str, Call]
    secret: str
    """Where the secret stands in what ``create`` is answered; empty: we make secrets."""
    facts: Mapping[str, str]
    """Where what is to be kept of it stands."""
    items: str
    """Where the registrations stand in what ``find`` is answered, and in each the request it was made for."""
    request: str


def read_recipes(files: Sequence[Path], insecure_hosts: Iterable[str]) -> dict[str, Recipe]:
    """Read registrars. Raises ``ConfigurationError`` with every problem at once, by file, registrar and field."""
    rows: dict[str, dict[str, Any]] = {}
    origins: dict[str, dict[str, Path]] = {}
    wrong: list[str] = []
    for file in (BUILT_IN, *files):
        for name, fields in read_tables("registrar", file, wrong).items():
            rows.setdefault(name, {}).update(fields)
            origins.setdefault(name, {}).update(dict.fromkeys(["", *fields], file))
    allowed, recipes = frozenset(insecure_hosts), {}
    for name, fields in rows.items():
        reader = _Reader(name, allowed)
        recipe = reader.read(fields)
        for field, problem in reader.wrong:
            file = origins[name].get(field.partition(".")[0], origins[name][""])
            wrong.append(f"registrar file {file}: {name}: {field}: {problem}")
        if recipe is not None:
            recipes[name] = recipe
    if wrong:
        raise ConfigurationError(wrong)
    return recipes


class _Reader:
    """Turns one table into a recipe, or into everything that is wrong with it."""

    def __init__(self, name: str, insecure_hosts: frozenset[str]) -> None:
        self._name, self._insecure_hosts = name, insecure_hosts
        self._facts: frozenset[str] = frozenset()
        self.wrong: list[tuple[str, str]] = []

    def read(self, fields: Mapping[str, Any]) -> Recipe | None:
        try:
            row = _Row.model_validate(fields)
        except ValidationError as error:
            for detail in error.errors(include_input=False, include_url=False):
                self.wrong.append((".".join(str(part) for part in detail["loc"]), str(detail["msg"])))
            return None
        self._facts = frozenset(row.create.facts) if row.create else frozenset()
        self._check_base(row.base)
        self._check_whole(row)
        given: dict[str, _Call] = {name: call for name in CALLS if (call := getattr(row, name)) is not None}
        authorization = self._authorization(row)
        calls = {name: self._call(name, call, row) for name, call in given.items()}
        return self._recipe(row, authorization, calls)

    def _recipe(self, row: _Row, authorization: Template | None, calls: Mapping[str, Call]) -> Recipe:
        create, find = row.create, row.find
        kept = create.facts if create else {}
        return Recipe(
            self._name, row.base.rstrip("/"), authorization, calls,
            self._pointer("create.secret", create.secret) if create else "",
            {fact: self._pointer(f"create.facts.{fact}", where) for fact, where in kept.items()},
            self._pointer("find.items", find.items) if find else "",
            self._pointer("find.request", find.request) if find else "",
        )  # fmt: skip

    def _check_base(self, base: str) -> None:
        try:
            parts = urlsplit(base)
            _ = parts.port
        except ValueError:
            self.wrong.append(("base", "is no address"))
            return
        if (
            not parts.hostname
            or parts.scheme not in ("https", "http")
            or "{" in base
            or not _PATH.fullmatch("/" + base)
        ):
            self.wrong.append(("base", "must be https://host, perhaps with a path, and has no slots"))
        elif parts.scheme != "https" and parts.hostname not in self._insecure_hosts:
            self.wrong.append(("base", "is not https, and its host is not in VAULT_INSECURE_HOSTS"))
        if parts.query or parts.fragment or "@" in parts.netloc:
            self.wrong.append(("base", "has a query, a fragment or a user"))

    def _check_whole(self, row: _Row) -> None:
        if not _NAME.fullmatch(self._name):
            self.wrong.append(("", "its name must be letters, digits, _ and -"))
        if row.create is None and row.set is None:
            self.wrong.append(("set", "is required without create: nobody would be told of the new secret"))
        if row.set is not None and row.undo is None and row.create is None:
            self.wrong.append(("undo", "is required with set: what was told must be taken back when it does not work"))
        if row.create is not None and row.undo is None:
            self.wrong.append(("undo", "is required with create: what was made must be taken away again"))
        if row.find is not None and row.create is None:
            self.wrong.append(("find", "looks for what create has made, and there is no create"))

    def _authorization(self, row: _Row) -> Template | None:
        said = row.authorization
        if said in ("", CONNECTION):
            return None
        if not said.startswith(CREDENTIAL):
            self.wrong.append((AUTHORIZATION, f"must be {CONNECTION!r}, or {CREDENTIAL!r} with an id or a {{tag.…}}"))
            return None
        template = self._parsed(AUTHORIZATION, said.removeprefix(CREDENTIAL))
        if any(slot.root != "tag" or not slot.field or slot.how for slot in template.slots) or not template.parts:
            self.wrong.append((AUTHORIZATION, "the id of a credential stands there, or in a {tag.…}"))
        return template

    def _call(self, name: str, call: _Call, row: _Row) -> Call:
        path = self._template(f"{name}.path", call.path, name)
        if not _PATH.fullmatch(call.path) or "#" in call.path:
            self.wrong.append((f"{name}.path", "must begin with /, of printable ASCII characters"))
        headers = [self._header(name, *each, row) for each in {**row.headers, **call.headers}.items()]
        if call.json_body is not None and call.form is not None:
            self.wrong.append((f"{name}.form", "there is json as well: one of them"))
        if call.method == "GET" and (call.json_body is not None or call.form is not None):
            self.wrong.append((f"{name}.method", "GET has no body"))
        json = None if call.json_body is None else self._json(f"{name}.json", call.json_body, name)
        form = None if call.form is None else self._form(f"{name}.form", call.form, name)
        expect = tuple(
            (self._pointer(f"{name}.expect", where), self._template(f"{name}.expect.{where}", text, name))
            for where, text in call.expect.items()
        )
        ready = Call(name, call.method, path, tuple(headers), json, form, expect)
        slots = [slot for template in ready.templates for slot in template.slots]
        if name == "undo" and row.create is not None and any(slot.root == "new" and not slot.field for slot in slots):
            self.wrong.append((name, "with create, {new} may be known to nobody any more: use {new.…}"))
        return ready

    def _header(self, call: str, name: str, text: str, row: _Row) -> tuple[str, Template]:
        field = f"{call}.headers.{name}" if name in getattr(row, call).headers else f"headers.{name}"
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            self.wrong.append((field, "is no header that can be set"))
        if not text.isascii() or not text.isprintable():
            self.wrong.append((field, "must be printable ASCII characters"))
        template = self._template(field, text, call, header=True)
        if not row.authorization and any(slot.root == AUTHORIZATION for slot in template.slots):
            self.wrong.append((field, "there is an {authorization} only if the registrar says which: authorization"))
        return name, template

    def _form(self, field: str, given: Mapping[str, str], call: str) -> tuple[tuple[str, Template], ...]:
        return tuple((key, self._template(f"{field}.{key}", text, call, body=True)) for key, text in given.items())

    def _json(self, field: str, value: Any, call: str) -> Json:
        if isinstance(value, str):
            return self._template(field, value, call, body=True)
        if isinstance(value, dict):
            return {name: self._json(f"{field}.{name}", each, call) for name, each in value.items()}
        if isinstance(value, list):
            return [self._json(f"{field}.{at}", each, call) for at, each in enumerate(value)]
        if isinstance(value, bool | int | float):
            return value
        self.wrong.append((field, "dates are written as text"))
        return None

    def _template(self, field: str, text: str, call: str, *, body: bool = False, header: bool = False) -> Template:
        template = self._parsed(field, text)
        for slot in template.slots:
            problem = self._problem(slot.root, slot.field, call, body=body, header=header)
            if not body and slot.how:
                problem = f"|{slot.how} is for bodies"
            if problem:
                self.wrong.append((field, f"{{{slot}}}: {problem}"))
        return template

    def _problem(self, root: str, field: str, call: str, *, body: bool, header: bool) -> str:
        if root in ("new", "old") and not field:
            if not body:
                return "secrets stand in bodies only"
            return "" if root in _VALUES[call] else f"{call} is not given it"
        if root == "new":
            if call in _BEFORE_THERE_IS_A_NEW_ONE:
                return "there is no new one yet"
            return "" if field in self._facts else "create.facts does not say where it comes from"
        if root in ("tag", "old") and field:
            return ""
        if root in ("request", "credential") and not field:
            return ""
        if root == AUTHORIZATION and not field:
            return "" if header else "it stands in headers only"
        return "there is no such thing: these are {tag.…}, {old}, {old.…}, {new}, {new.…}, {request}, {credential}"

    def _parsed(self, field: str, text: str) -> Template:
        try:
            return parse(text)
        except ValueError as error:
            self.wrong.append((field, str(error)))
            return Template(())

    def _pointer(self, field: str, text: str) -> str:
        if not _POINTER.fullmatch(text):
            self.wrong.append((field, "must be a JSON pointer, as /data/secret"))
        return text


def _leaves(value: Json) -> Iterator[Template]:
    if isinstance(value, Template):
        yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
