"""`make up`: the whole stack, running for a person until Ctrl-C; `make flower`: Flower alone, for a stack elsewhere."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from pathlib import Path
from typing import Final

from tests.demo import flower
from tests.demo.display import console
from tests.demo.evidence import Books
from tests.demo.flower import Flower
from tests.demo.owners import owner_count
from tests.demo.stack import PROVIDER, Scale, Stack, leave_on_signals
from tests.demo.webapp import read_entries
from vault import ConfigurationError
from vault.testing.servers import EmbeddedServer, ServerError

TICK: Final = 0.5


def main() -> int:
    """Run until Ctrl-C; returns the exit code."""
    given = _arguments()
    leave_on_signals()
    try:
        if given.only_flower:
            flower.run()
        with Stack(Scale(token_life=given.token_life)) as stack:
            _start(stack, given.owners)
            _keep_running(stack)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    except (ServerError, ConfigurationError) as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    return 0


def _start(stack: Stack, owners: int) -> None:
    out, access = console(stderr=True), Flower.new()
    with out.status("connecting owners, starting workers, beat and Flower …"):
        connections = str(stack.home.path / "connections.jsonl")
        stack.start_workers()
        stack.start("flower", "worker.flower", env=access.environment())
        stack.supervise()
        stack.run("owners", "tests.demo.owners", "--owners", str(owners), "--out", connections)
    print(_where_to_look(stack, access), flush=True)


def _keep_running(stack: Stack) -> None:
    """Restart what dies, say so, and show that the system lives."""
    out, restarts = console(stderr=True), 0
    with contextlib.closing(Books(stack.postgres.url)) as books, out.status("") as status:
        while stack.simulator.process.poll() is None:
            for server in (stack.postgres, stack.redis):
                _revive(server)
            if stack.supervisor.restarts > restarts:
                restarts = stack.supervisor.restarts
                out.print(f"a process had died and was started again ({restarts} in all)")
            counts = books.counts()
            status.update(
                f"{counts.connections:,} connections, {counts.refreshes:,} refreshes; Ctrl-C stops everything"
            )
            time.sleep(TICK)
    raise ServerError("the provider simulator has ended, and the grants with it")


def _revive(server: EmbeddedServer) -> None:
    if not server.running:
        server.restart()


def _where_to_look(stack: Stack, access: Flower) -> str:
    settings = stack.home.path / "settings.sh"
    settings.touch(mode=0o600)
    settings.write_text(f"{stack.exports()}\n")
    command, entries = _evergrant(), read_entries(stack.home.path / "connections.jsonl")
    return f"""
Flower    {access}
Provider  {stack.simulator.base_uri}/{PROVIDER}  a simulator; tokens live {stack.scale.token_life:g} s
Logs      {stack.home.path}/services/*/log
Workers   {" ".join(f"{name} {service.pid}" for name, service in stack.services.items())}  kill one: it is started again

In a second terminal, from this directory:

. {settings}   # or these:
{stack.exports()}

{command} list
{command} health
{command} get {entries[0].id}
{command} refresh --due
{command} rewrap
"""


def _evergrant() -> str:
    """The command as it is typed here."""
    command = Path(sys.executable).with_name("evergrant")
    with contextlib.suppress(ValueError):
        command = command.relative_to(Path.cwd())
    return str(command)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make up ARGS=…", description=__doc__)
    parser.add_argument("--owners", type=owner_count, default=12, help="how many connect first (default: %(default)s)")
    parser.add_argument(
        "--token-life", type=float, default=60.0, help="seconds an access token lives (default: %(default)s)"
    )
    parser.add_argument("--only-flower", action="store_true", help="nothing but Flower, against VAULT_REDIS_URL")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
