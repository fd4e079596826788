"""What becomes of grants, of other providers and of requests on a bad day, in figures and a verdict."""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from uuid import UUID

from rich.console import Console
from rich.table import Table

from tests.outages.scene import DAY, FAR, HOUR, NEAR, Scene, scene
from tests.support import stack
from vault import Maintenance
from vault.limits.gate import LONGEST_PAUSE_S, OPERATOR_PAUSE_S, TRIP_AFTER

STEP = timedelta(minutes=5)
Say = Callable[[str], None]


@dataclass(frozen=True)
class Plan:
    """How many connections, for how long, and against which rate."""

    connections: int
    beside: int = 0
    lasts: timedelta = timedelta(0)
    rate: int = 0
    workers: int = 1
    throttled: float = 0.02
    """The share of requests that may be answered 429."""


@dataclass(frozen=True)
class Report:
    """Figures by what they are of, and what was promised and not kept."""

    name: str
    figures: Mapping[str, object]
    broken: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken


def show(console: Console, report: Report) -> None:
    """Print what came of it."""
    table = Table("what", "figure", title=report.name)
    for what, figure in report.figures.items():
        table.add_row(what, f"{figure:,}" if isinstance(figure, int) else str(figure))
    console.print(table)
    for each in report.broken:
        console.print(f"broken: {each}", style="red")


def _verdict(name: str, figures: Mapping[str, object], **promises: bool) -> Report:
    return Report(name, figures, tuple(words.replace("_", " ") for words, kept in promises.items() if not kept))


# ---------------------------------------------------------------------------------------------------------- an outage


def outage(at: Scene, plan: Plan, say: Say) -> Report:
    """One provider answers 503 for days, the other does what it always does."""
    ours, beside = at.connect(FAR, plan.connections), at.connect(NEAR, plan.beside)
    at.step(STEP)
    calm = [_late_after_scan(at) for _ in range(6)]
    at.simulator.configure(FAR, outage="error")
    before, lateness, steps = at.requests(FAR), [], plan.lasts // STEP
    for number in range(steps):
        lateness.append(_late_after_scan(at))
        if number % max(1, steps // 10) == 0:
            say(f"outage: {at.passed / 86_400:.1f} days passed")
    tried = at.requests(FAR)["unprocessed"] - before["unprocessed"]
    during = at.statuses(ours)
    at.simulator.configure(FAR, outage="off")
    recovered_in = _recover(at, len(ours))
    after, others = at.statuses(ours), at.statuses(beside)
    bound = int(plan.lasts.total_seconds() / LONGEST_PAUSE_S) + 2 * TRIP_AFTER + len(ours) // 20
    figures = {
        "connections of the provider that was away": len(ours), "simulated days": round(plan.lasts / DAY, 2),
        "requests made to it meanwhile": tried, "… at most, one probe in five minutes": bound,
        "lost": during["needs_reconnect"] + after["needs_reconnect"], "active afterwards": after["active"],
        "simulated minutes until all were": round(recovered_in / timedelta(minutes=1)),
        "the other provider's worst lateness after a scan before, s": max(calm),
        "… meanwhile, s": max(lateness), "connections of it that are well": others["active"],
    }  # fmt: skip
    return _verdict(
        "Outage", figures, none_is_lost=not during["needs_reconnect"] and not after["needs_reconnect"],
        all_come_back=after["active"] == len(ours), attempts_are_bounded=tried <= bound,
        the_other_is_as_punctual=max(lateness) <= max(calm) + 1.0, the_other_s_are_well=others["active"] == len(beside),
    )  # fmt: skip


def _late_after_scan(at: Scene) -> float:
    at.step(STEP)
    return at.late(NEAR).total_seconds()


def _recover(at: Scene, count: int) -> timedelta:
    began, at_most = at.passed, at.passed + DAY.total_seconds()
    while at.passed < at_most:
        at.step(STEP)
        if not at.house.finds("SELECT 1 FROM evergrant.schedule WHERE client = 'far' AND next_at <= now()"):
            [row] = at.house.sql(
                "SELECT count(*) AS n FROM evergrant.oauth_grant g JOIN evergrant.schedule s USING (connection_id)"
                " WHERE s.client = 'far' AND g.status = 'active' AND g.expires_at > now()"
            )
            if row["n"] == count:
                break
    return timedelta(seconds=at.passed - began)


# ----------------------------------------------------------------------------------------------------- a wrong secret


def wrong_secret(at: Scene, plan: Plan, say: Say) -> Report:
    """A provider refuses our secret for a day, until an operator mends it."""
    ours = at.connect(FAR, plan.connections)
    at.simulator.configure(FAR, invalid_client=True)
    steps = plan.lasts // STEP
    for number in range(steps):
        at.step(STEP)
        if number % max(1, steps // 5) == 0:
            say(f"secret: {at.passed / 3600:.0f} hours passed")
    told = at.house.sql("SELECT count(*) AS n FROM evergrant.event WHERE type = 'client.secret_refused'")[0]["n"]
    tried, during = at.requests(FAR)["refused"], at.statuses(ours)
    at.simulator.configure(FAR, invalid_client=False)
    _recover(at, len(ours))
    after = at.statuses(ours)
    bound = int(plan.lasts.total_seconds() / OPERATOR_PAUSE_S) + 600
    figures = {
        "connections": len(ours), "simulated hours": round(plan.lasts / HOUR), "requests refused": tried,
        "alerts": told, "lost": during["needs_reconnect"] + after["needs_reconnect"],
        "active once it was mended": after["active"],
    }  # fmt: skip
    return _verdict(
        "Wrong client secret", figures, none_is_lost=not during["needs_reconnect"] and not after["needs_reconnect"],
        one_alert=told == 1, attempts_are_bounded=tried <= bound, all_come_back=after["active"] == len(ours),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------- more work than a rate has


def recovery(at: Scene, plan: Plan, say: Say) -> Report:
    """Everything is overdue, the provider takes so many requests a second, and several processes are at it."""
    file = at.house.home / "providers.toml"
    file.write_text(file.read_text().replace("[far]\n", f"[far]\nrate_per_second = {plan.rate}\n"))
    ours = at.connect(FAR, plan.connections)
    at.house.sql(
        "UPDATE evergrant.schedule s SET next_at = now() - interval '2 hours' + r.n * interval '100 milliseconds'"
        "  FROM unnest(%s::uuid[]) WITH ORDINALITY AS r(id, n) WHERE s.connection_id = r.id", (ours,),
    )  # fmt: skip
    at.house.sql(
        "UPDATE evergrant.oauth_grant g SET expires_at = now() + interval '1 hour' + r.n * interval '100 milliseconds'"
        "  FROM unnest(%s::uuid[]) WITH ORDINALITY AS r(id, n) WHERE g.connection_id = r.id", (ours,),
    )  # fmt: skip
    at.simulator.configure(FAR, rate_limit=plan.rate)
    began, spawn = time.monotonic(), multiprocessing.get_context("spawn")
    stop = spawn.Event()
    workers = [spawn.Process(target=_work, args=(dict(at.house.environment), stop)) for _ in range(plan.workers)]
    for each in workers:
        each.start()
    at_most = began + 120 + 2 * len(ours) / plan.rate
    while (done := at.requests(FAR)["spent"]) < len(ours) and time.monotonic() < at_most:
        time.sleep(1)
        say(f"recovery: {done:,} of {len(ours):,}")
    seconds = time.monotonic() - began
    stop.set()
    for each in workers:
        each.join(60)
    counted = at.requests(FAR)
    answered, throttled = counted["spent"], counted["throttled"]
    order = _order(at, ours)
    share = throttled / max(1, answered + throttled)
    figures = {
        "connections overdue": len(ours), "requests a second that it takes": plan.rate, "processes": plan.workers,
        "refreshed": answered, "answered 429": throttled, "share of 429": f"{share:.2%}",
        "seconds": round(seconds), "refreshed a second": round(answered / seconds, 1),
        "places out of order, median": statistics.median(order),
        "… of 98 in a hundred, at most": order[len(order) * 98 // 100],
        "… of those that were answered 429 as well, at most": order[-1],
    }  # fmt: skip
    return _verdict(
        "Recovery", figures, all_are_refreshed=answered == len(ours), few_are_answered_429=share < plan.throttled,
        soonest_to_expire_first=order[len(order) * 98 // 100] <= max(20, 2 * plan.rate),
    )  # fmt: skip


def _order(at: Scene, ours: list[UUID]) -> list[int]:
    """How far from its place each refresh came, the soonest to expire having the first; sorted."""
    rows = at.house.sql(
        "SELECT connection_id FROM evergrant.oauth_grant WHERE connection_id = ANY(%s) ORDER BY refreshed_at", (ours,)
    )
    place = {connection_id: number for number, connection_id in enumerate(ours)}
    return sorted(abs(number - place[row["connection_id"]]) for number, row in enumerate(rows))


def _work(environment: Mapping[str, str], stop: Event) -> None:
    worker = Maintenance.from_env(environment)
    while not stop.is_set():
        if not worker.refresh_scan().claimed:
            time.sleep(0.2)
    worker.close()


# ------------------------------------------------------------------------------------------------------------- running

Campaign = Callable[[Scene, Plan, Say], Report]
LONG: Mapping[str, tuple[Campaign, Plan]] = {
    "outage": (outage, Plan(10_000, beside=1_000, lasts=4 * DAY)),
    "secret": (wrong_secret, Plan(10_000, lasts=DAY)),
    "recovery": (recovery, Plan(20_000, rate=20, workers=2)),
}
SHORT: Mapping[str, tuple[Campaign, Plan]] = {
    "short-outage": (outage, Plan(60, beside=20, lasts=6 * HOUR)),
    "short-secret": (wrong_secret, Plan(60, lasts=3 * HOUR)),
    "short-recovery": (recovery, Plan(300, rate=60, workers=2, throttled=0.1)),  # a busy machine bunches requests
}


def run(name: str, say: Say) -> Report:
    """Run a campaign on servers of its own."""
    campaign, plan = {**LONG, **SHORT}[name]
    with (
        stack.database_server() as postgres,
        stack.template_database(postgres) as template,
        stack.new_database(postgres, template) as url,
        tempfile.TemporaryDirectory(prefix="evergrant-outages-") as home,
        stack.redis_server() as redis,
    ):
        # Days that pass in minutes are not Redis's: only what takes its real time is shared through it.
        shared = {"redis_url": redis.url} if campaign is recovery else {}
        with scene(url, Path(home), **shared) as at:
            return campaign(at, plan, say)
