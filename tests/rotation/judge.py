"""Holds every value that is stored, and every token that was read, against what the provider gave."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from tests.rotation.scene import Grant, Scene
from vault.engine.sealing import ACCESS_TOKEN, REFRESH_TOKEN
from vault.envelope import context, open_envelope
from vault.errors import VaultError
from vault.ports import SealedValue
from vault.settings import load
from vault.store.key_ends import PostgresKeyEnds
from vault.wiring import Wiring

FIELDS = (ACCESS_TOKEN, REFRESH_TOKEN)
Issued = Mapping[UUID, Mapping[str, list[str]]]


@dataclass
class Verdict:
    """What the comparison gave."""

    values: int = 0
    undecryptable: int = 0
    wrong: int = 0
    """Values that open and are not what the provider gave last."""
    wrong_reads: int = 0
    """Tokens that were served and are another connection's, nobody's, or older than one served before."""
    refreshed: int = 0
    """Connections that were refreshed at least once."""
    problems: list[str] = field(default_factory=list)


def judge(scene: Scene, changes: Iterable[tuple[UUID, str]]) -> Verdict:
    """Open every value with the eyes of a process that has just started, and judge it and what was read."""
    found, issued = Verdict(), _issued(scene)
    found.refreshed = sum(len(tokens[ACCESS_TOKEN]) > 1 for tokens in issued.values())
    _judge_values(found, scene, issued)
    places = dict.fromkeys(issued, 0)
    for connection_id, token in changes:
        tokens = issued[connection_id][ACCESS_TOKEN]
        place = tokens.index(token) if token in tokens else -1
        if place <= places[connection_id]:
            found.wrong_reads += 1
            found.problems.append(f"{connection_id}: read token {place} after token {places[connection_id]}")
        places[connection_id] = place
    return found


def _issued(scene: Scene) -> Issued:
    """Every token the provider gave for each connection, oldest first."""
    by_account: dict[str, Grant] = {grant.account: grant for grant in scene.grants}
    issued: dict[UUID, dict[str, list[str]]] = {grant.id: defaultdict(list) for grant in scene.grants}
    for answer in scene.simulator.oracle().answers():
        tokens = issued[by_account[answer.origin.account].id]
        tokens[ACCESS_TOKEN].append(answer.access_token)
        tokens[REFRESH_TOKEN].append(answer.refresh_token or "")
    return issued


def _judge_values(found: Verdict, scene: Scene, issued: Issued) -> None:
    wiring = Wiring(load(scene.environment))
    store, last, seen = PostgresKeyEnds(wiring.database), None, set[tuple[UUID, str]]()
    while values := store.sealed_values(500, last):
        last = values[-1]
        for value in values:
            found.values += 1
            seen.add((value.subject, value.field))
            problem = _problem(wiring, value, issued)
            found.undecryptable += problem == "does not open"
            found.wrong += problem == "is not what the provider gave last"
            if problem:
                found.problems.append(f"{value.subject}: its {value.field} {problem}")
    missing = {(grant.id, name) for grant in scene.grants for name in FIELDS} - seen
    found.wrong += len(missing)
    found.problems += [f"{connection_id}: it has no {name}" for connection_id, name in missing]
    wiring.close()


def _problem(wiring: Wiring, value: SealedValue, issued: Issued) -> str:
    bound_to = context(value.tenant, value.subject, value.field)
    try:
        plain = open_envelope(wiring.keys.keyring.key(value.key), value.envelope, bound_to, value.version).decode()
    except VaultError:
        return "does not open"
    return "" if plain == issued[value.subject][value.field][-1] else "is not what the provider gave last"
