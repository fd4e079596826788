"""What is played in an Internet of a process's own: each way to send, to names that have changed their mind.

Everything here runs in a process that has left the network of this machine (``tests.support.own_internet``), against
the database outside, which is reached by its unix socket.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

from tests.integration.egress_hostile import NAMED, WAYS, urls
from tests.support.everybody import DOMAIN
from tests.support.own_internet import PUBLIC, PUBLIC_6, Internet, leave
from vault import ConnectRefused, EventType, Maintenance, Registry, Secret, ValidationUnavailable, Vault
from vault.egress.rules import Egress
from vault.events import Fact
from vault.store.engine import Database
from vault.store.telling import record

SECOND: Final = timedelta(seconds=1)
EVERYWHERE: Final = ("0.0.0.0/0", "::/0")
"""Networks to let through, for a look at what happens without a check."""
LATER: Final[dict[str, Sequence[str]]] = {
    "loopback": ("127.0.0.1",), "unspecified": ("0.0.0.0",), "network": ("10.0.0.1",), "home": ("192.168.0.1",),
    "metadata": ("169.254.169.254",), "carrier": ("100.100.100.200",), "oracle": ("192.0.0.192",),
    "azure": ("168.63.129.16",), "loopback6": ("::1",), "mapped": ("::ffff:127.0.0.1",), "local6": ("fd00:ec2::254",),
    "translated": ("64:ff9b::7f00:1",), "tunnelled": ("2002:a00:1::1",), "alias": ("localhost", "127.0.0.1", "::1"),
    "several": ("127.0.0.1", "10.0.0.1", "::1"),
}  # fmt: skip
"""What a name says later, when it first named a public address."""
MIXED: Final[dict[str, Sequence[str]]] = {
    "mixed": ("127.0.0.1", PUBLIC), "mixed6": ("::1", PUBLIC_6), "four of six": ("10.0.0.1", PUBLIC_6),
    "six of four": ("::1", PUBLIC), "mapped among": ("::ffff:10.0.0.1", "169.254.169.254", PUBLIC),
}  # fmt: skip
"""Answers with a public address among others: it is reached, and they are not."""

INSIDERS: Final = {
    "metadata.google.internal": "169.254.169.254", "kubernetes.default.svc": "10.96.0.1", "inside.example": "127.0.0.1",
    "127.0.0.1.words.example": "127.0.0.1", "169-254-169-254.words.example": "169.254.169.254", "router": "192.168.0.1",
    "xn--bcher-kva.example": "::1", "seven.example": "fd00:ec2::254", "mapped.example": "::ffff:169.254.169.254",
}  # fmt: skip
"""Names that have always said what they say."""


class Seen(NamedTuple):
    """What became of the second round, in which names had changed their mind."""

    first: dict[str, str]
    """Where each name led in the first round."""
    then: dict[str, str]
    """And where in the second; a name that led nowhere is not there."""
    said: dict[str, str]
    """Why that was, where whoever asked is told."""
    astray: dict[str, int]
    """Packets to addresses where none should go."""


_settled: list[Internet] = []


def settle(home: Path) -> None:
    """Leave for an Internet of this process's own. Raises ``CannotLeave``."""
    _settled.append(leave(home))


def rebound(sender: str, database_url: str, home: Path, networks: Sequence[str] = ()) -> Seen:
    """Have every name asked twice by one way to send, which lets these networks through."""
    internet = _settled[0]
    names = {kind: f"{kind.replace(' ', '')}{uuid4().hex[:8]}" for kind in (*LATER, *MIXED)}
    public = [[PUBLIC], [PUBLIC_6]]
    for number, (kind, name) in enumerate(names.items()):
        internet.nameserver.names[f"{name}.{DOMAIN}"] = [public[number % 2], {**LATER, **MIXED}[kind]]
    kinds = {f"{name}.{DOMAIN}": kind for kind, name in names.items()}
    with Play(internet, names, database_url, home, networks) as play:
        first, again = SENDERS[sender](play)
        first()
        before, _ = _led(internet, kinds), internet.packets.astray()
        said = again()
        return Seen(before, _led(internet, kinds), said, internet.packets.astray())


def approach(way: str, networks: Sequence[str] = ()) -> dict[str, dict[str, int]]:
    """Send to every hostile address, one by one, and to names of what is inside; return where packets went, if any."""
    internet, found = _settled[0], {}
    internet.nameserver.names |= {name: [[address]] for name, address in INSIDERS.items()}
    names = [f"https://{name}/" for name in INSIDERS]
    egress = Egress((NAMED,), networks, internet.everybody.authority)
    for url in (*urls(443), *names):
        WAYS[way](egress, [url])
        if astray := internet.packets.astray():
            found[url] = astray
    return found


def _led(internet: Internet, kinds: dict[str, str]) -> dict[str, str]:
    visits, internet.everybody.visits[:] = [*internet.everybody.visits], []
    return {kinds[visit.host]: visit.address for visit in visits}


Opened = TypeVar("Opened", Vault, Maintenance)


class Play:
    """An Evergrant with a provider for every name, and an endpoint of an app there."""

    def __init__(
        self, internet: Internet, names: dict[str, str], database_url: str, home: Path, networks: Sequence[str]
    ) -> None:
        self.names, self._stack = names, ExitStack()
        self.database_url = database_url
        self.environment = {
            "VAULT_DATABASE_URL": database_url, "VAULT_REDIS_URL": f"redis://{PUBLIC}:1/0", "VAULT_HOME": str(home),
            "VAULT_PROVIDERS": str(home / "providers.toml"), "VAULT_CA_FILE": str(internet.everybody.authority),
            "VAULT_PRIVATE_NETWORKS": ",".join(networks), "VAULT_REDIRECT_URI": "https://app.example/callback",
            "VAULT_REQUEST_DEADLINE_S": "5", "VAULT_INTROSPECTION_DEADLINE_S": "5",
        }  # fmt: skip
        rows = []
        for name in names.values():
            rows.append(f"[{name}]\n" + "".join(
                f'{each}_uri = "{self.url(name, f"/{path}")}"\n' for each, path in
                (("authorize", "authorize"), ("token", "token"), ("revoke", "revoke"), ("introspect", "introspect"))
            ))  # fmt: skip
            variable = f"VAULT_CLIENT_{name.upper()}"
            self.environment |= {f"{variable}_ID": "evergrant", f"{variable}_SECRET": "cnry-cs-rebound"}
        (home / "providers.toml").write_text("".join(rows))

    def __enter__(self) -> Play:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def url(self, name: str, path: str = "") -> str:
        return f"https://{name}.{DOMAIN}{path}"

    def vault(self) -> Vault:
        return self._kept(Vault.from_env(self.environment))

    def worker(self) -> Maintenance:
        """As after a restart: nothing it may remember of a name is there."""
        return self._kept(Maintenance.from_env(self.environment))

    def _kept(self, made: Opened) -> Opened:
        self._stack.callback(made.close)
        return made

    def each(self, ask: Callable[[str], object]) -> dict[str, str]:
        """Ask of every name; what is refused is told by its kind."""
        said = {}
        for kind, name in self.names.items():
            try:
                ask(name)
            except (ConnectRefused, ValidationUnavailable) as refused:
                said[kind] = f"{refused.reason}: {refused}"
        return said

    def connect(self, name: str, vault: Vault) -> Any:
        state = parse_qs(urlsplit(vault.begin(name, owner="olga", browser="hers").url).query)["state"][0]
        return vault.complete(state=state, code="a code", browser="hers").id


# ------------------------------------------------------------------------------------------------------- ways to send

Rounds = tuple[Callable[[], object], Callable[[], dict[str, str]]]


def _exchange(play: Play) -> Rounds:
    vault = play.vault()
    return (lambda: play.each(lambda name: play.connect(name, vault))), (
        lambda: play.each(lambda name: play.connect(name, vault))
    )


def _refresh(play: Play) -> Rounds:
    vault, made = play.vault(), dict[str, Any]()

    def connect() -> None:
        made.update({name: play.connect(name, vault) for name in play.names.values()})

    def refresh() -> dict[str, str]:
        worker = play.worker()
        for each in made.values():
            worker.refresh(each)
        return {}

    return connect, refresh


def _revoke(play: Play) -> Rounds:
    connect, _ = _refresh(play)

    def revoke() -> dict[str, str]:
        vault = play.vault()
        for each in vault.connections():
            vault.disconnect(each.id)
        play.worker().refresh_scan()
        return {}

    return connect, revoke


def _introspect(play: Play) -> Rounds:
    vault = play.vault()

    def look(token: str) -> dict[str, str]:
        return play.each(lambda name: vault.validate(token, provider=name))

    return (lambda: look("one-token")), (lambda: look("another"))


def _deliver(play: Play) -> Rounds:
    database = Database(Secret(play.database_url))

    def tell() -> dict[str, str]:
        worker = play.worker()
        with database.begin() as transaction:
            record(transaction, Fact("default", EventType.QUARANTINED, str(uuid4()), {}))
        worker.deliver(20 * SECOND)
        return {}

    def begin() -> None:
        events = play.worker().events
        for name in play.names.values():
            events.add_endpoint("default", play.url(name, "/hook"), ())
        tell()

    return begin, tell


def _discover(play: Play) -> Rounds:
    registry = Registry.from_env(play.environment)

    def look() -> dict[str, str]:
        return play.each(lambda name: registry.discover(play.url(name)))

    return look, look


SENDERS: Final[dict[str, Callable[[Play], Rounds]]] = {
    "exchange": _exchange, "refresh": _refresh, "revoke": _revoke, "introspect": _introspect, "deliver": _deliver,
    "discover": _discover,
}  # fmt: skip
