"""Runs one campaign from the first secret to the verdict."""

from __future__ import annotations

import re
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks.stage import server
from tests.simulator.hook_oracle import registered
from tests.webhooks.chain import Chain
from tests.webhooks.plan import Plan
from tests.webhooks.processes import Refused, Verified, processes, send, stopped, verify
from tests.webhooks.scene import Scene
from vault import Maintenance

Say = Callable[[str], object]
LATE_S = 0.1
"""What was verified so long after its signing was on its way when what it was signed with stopped counting."""
SECRETS = re.compile(rb"(?:whsec_|cnry-)[A-Za-z0-9+/=_-]{8,}")
TOLD = (
    "SELECT detail::text AS said FROM evergrant.audit UNION ALL SELECT reason FROM evergrant.credential_rotation"
    " UNION ALL SELECT body FROM evergrant.event UNION ALL SELECT facts::text FROM evergrant.credential_version"
)


@dataclass
class Report:
    """What a campaign came to."""

    plan: Plan
    chains: Sequence[Chain]
    verified: Verified
    wrongly: list[Refused]
    """Deliveries that were refused though what signed them counted."""
    rightly: int
    """Deliveries refused as what signed them did not count any more, or not since their signing."""
    problems: list[str]
    seconds: float
    points: list[tuple[str, str, int, int, int]] = field(default_factory=list)
    """Scene, failpoint, kills, verifications meanwhile, deliveries refused wrongly meanwhile."""

    @property
    def kills(self) -> int:
        """Processes killed, of all scenes."""
        return sum(len(chain.deaths) for chain in self.chains)

    @property
    def enough(self) -> bool:
        """Whether so many as planned died at every point."""
        return all(chain.deaths and min(chain.kills.values()) > 0 for chain in self.chains)

    @property
    def passed(self) -> bool:
        """Whether nothing was found that must not be."""
        return self.enough and not (self.wrongly or self.problems or self.verified.errors)


def run(plan: Plan, say: Say) -> Report:
    """Run a campaign; ``say`` is told how far it is."""
    with ExitStack() as stack:
        postgres, home = stack.enter_context(server())
        return play(plan, postgres.url, home, say)


def play(plan: Plan, database_url: str, home: Path, say: Say) -> Report:
    """Run a campaign on a database that is there."""
    began = time.monotonic()
    worker = Maintenance.from_env({"VAULT_DATABASE_URL": database_url, "VAULT_REDIS_URL": "redis://127.0.0.1:1/0"})
    worker.upgrade_schema()
    worker.close()
    scene = Scene(database_url, home)
    try:
        logs = home / "logs"
        logs.mkdir()
        chains = [Chain(scene, hook, plan, logs) for hook in scene.hooks]
        with _deliveries(scene, plan) as stop:
            for chain in chains:
                chain.start()
            _wait(chains, plan, say)
            verified = stop()
        return _judged(plan, scene, chains, verified, time.monotonic() - began)
    finally:
        scene.close()


@contextmanager
def _deliveries(scene: Scene, plan: Plan) -> Iterator[Callable[[], Verified]]:
    """Run one process that signs and one that verifies; gives what has them stop and tell."""
    stop, stopping = processes.Pipe()
    line, telling = processes.Pipe()
    into, out = processes.Pipe()
    environment, base = dict(scene.environment), (scene.simulator.base_uri, scene.far_side)
    running = [
        processes.Process(target=send, args=(stopping, out, environment, base, scene.hooks, plan.rate), daemon=True),
        processes.Process(target=verify, args=(telling, into, environment), daemon=True),
    ]
    for process in running:
        process.start()
    try:
        yield lambda: stopped(stop, line)
    finally:
        for process in running:
            process.kill()
            process.join(10)


def _wait(chains: Sequence[Chain], plan: Plan, say: Say) -> None:
    told_at = time.monotonic()
    while any(chain.is_alive() for chain in chains):
        for chain in chains:
            chain.join(0.2)
        if time.monotonic() - told_at > 15:
            told_at = time.monotonic()
            far = ", ".join(f"{c.name} {len(c.deaths)} at {len(c.kills)} points" for c in chains)
            say(f"{plan.name}: {far}")


def _judged(plan: Plan, scene: Scene, chains: Sequence[Chain], verified: Verified, seconds: float) -> Report:
    served = {chain.name: chain.served for chain in chains}
    ends = {each.secret: each.until for each in registered(_lines(scene), scene.far_side)}
    wrongly = [
        each
        for each in verified.refused
        if not _rightly(each, served[each.scene].get(each.secret), ends.get(each.secret), plan)
    ]
    problems = [problem for chain in chains for problem in (*chain.problems, *chain.left())]
    problems += _leaks(scene, chains)
    report = Report(plan, chains, verified, wrongly, len(verified.refused) - len(wrongly), problems, seconds)
    report.points = [row for chain in chains for row in _points(chain, verified, wrongly)]
    return report


def _rightly(refused: Refused, served_until: float | None, forgotten_at: float | None, plan: Plan) -> bool:
    """Whether what a delivery was signed with did not count any more when it was refused.

    We sign with the current secret, among others: it counts for an overlap more at least.
    """
    late = refused.ended_at - refused.signed_at
    if not refused.secret:
        return late >= plan.overlap
    over = served_until is not None and served_until <= refused.ended_at
    undone = forgotten_at is not None and forgotten_at + plan.undone_life <= refused.ended_at
    return (over or undone) and (refused.heard or late > LATE_S)


def _lines(scene: Scene) -> list[str]:
    assert scene.simulator.log is not None
    return scene.simulator.log.read_text().splitlines()


def _leaks(scene: Scene, chains: Sequence[Chain]) -> list[str]:
    """Look for secrets wherever words are kept."""
    said = {str(chain.log): chain.log.read_bytes() for chain in chains if chain.log.exists()}
    said["the database"] = "\n".join(row["said"] for row in scene.house.sql(TOLD)).encode()
    return [f"a secret in {place}" for place, text in said.items() if SECRETS.search(text)]


def _points(chain: Chain, verified: Verified, wrongly: Sequence[Refused]) -> Iterator[tuple[str, str, int, int, int]]:
    at = verified.at.get(chain.name, [])
    refused = sorted(each.ended_at for each in wrongly if each.scene == chain.name)
    for point, kills in chain.kills.items():
        spans = [(death.began_at, death.ended_at) for death in chain.deaths if death.point == point]
        verifications, wrong = (sum(_between(span, each) for span in spans) for each in (at, refused))
        yield chain.name, point, kills, verifications, wrong


def _between(span: tuple[float, float], at: Sequence[float]) -> int:
    return bisect_right(at, span[1]) - bisect_left(at, span[0])


def show(console: Console, report: Report) -> None:
    """Print what came of it."""
    table = Table(
        "scene", "failpoint", "kills", "verifications", "refused", title=f"Secrets of webhooks: {report.plan.name}"
    )
    for scene, point, *numbers in report.points:
        table.add_row(scene, point, *(f"{number:,}" for number in numbers))
    console.print(table)
    verifications = sum(len(at) for at in report.verified.at.values())
    console.print(
        f"{report.seconds:.0f} s: {report.kills:,} killed at {len(report.points)} failpoints;"
        f" {sum(chain.through for chain in report.chains):,} came through;"
        f" {verifications:,} deliveries verified, {len(report.wrongly)} refused that counted,"
        f" {report.rightly:,} refused that did not count any more; {'passed' if report.passed else 'FAILED'}",
        highlight=False,
    )
    for problem in [*report.problems, *report.verified.errors, *report.wrongly][:20]:
        console.print(str(problem), highlight=False, markup=False)
