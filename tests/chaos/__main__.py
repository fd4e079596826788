"""``make chaos``: the long campaigns, and a table of what came of them. Exit code 0 only if every promise held."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from tests.chaos import outbox
from tests.chaos import plan as plans
from tests.chaos.campaign import Report, run
from tests.outages import campaign as outages
from tests.rotation import campaign as rotations
from tests.rotation import plan as rotation_plans
from tests.rotation.display import show as show_rotation
from tests.tenants import campaign as tenants
from tests.tenants.display import show as show_tenants
from tests.webhooks import campaign as webhooks
from tests.webhooks import plan as webhook_plans

CAMPAIGNS: dict[str, Callable[[], plans.Plan]] = {
    "grace": lambda: plans.long(plans.GRACE, 120),
    "strict": lambda: plans.long(plans.STRICT, 300),
    "postgres": plans.postgres,
    "short-grace": lambda: plans.short(plans.ROOMY),
    "short-strict": lambda: plans.short(plans.STRICT),
}
ROTATIONS: dict[str, Callable[[], rotation_plans.Plan]] = {
    "rotation": rotation_plans.long,
    "short-rotation": rotation_plans.short,
}
WEBHOOKS: dict[str, Callable[[], webhook_plans.Plan]] = {
    "webhooks": webhook_plans.long,
    "short-webhooks": webhook_plans.short,
}
EVENTS: dict[str, Callable[[], outbox.Plan]] = {"events": outbox.long, "short-events": outbox.short}
TENANTS: dict[str, Callable[[], Sequence[tenants.Plan]]] = {"tenants": tenants.long, "short-tenants": tenants.short}
OUTAGES = {**outages.LONG, **outages.SHORT}
DEFAULT = ("grace", "strict", "postgres", "rotation", "webhooks", "events", "tenants", *outages.LONG)


def main() -> int:
    """Run the campaigns that were named."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    known = [*CAMPAIGNS, *ROTATIONS, *WEBHOOKS, *EVENTS, *TENANTS, *OUTAGES]
    parser.add_argument("names", nargs="*", choices=[*known, []], help=f"default: {' '.join(DEFAULT)}")
    names = parser.parse_args().names or DEFAULT
    console = Console(stderr=True)
    reports, passed = [], True

    def say(words: str) -> None:
        console.print(words, highlight=False)

    for name in names:
        if name in ROTATIONS:
            rotation = rotations.run(ROTATIONS[name](), say)
            show_rotation(Console(), rotation)
            passed = passed and rotation.passed
        elif name in WEBHOOKS:
            hooks = webhooks.run(WEBHOOKS[name](), say)
            webhooks.show(Console(), hooks)
            passed = passed and hooks.passed
        elif name in EVENTS:
            events = outbox.run(EVENTS[name](), say)
            outbox.show(Console(), events)
            passed = passed and events.passed
        elif name in OUTAGES:
            day = outages.run(name, say)
            outages.show(Console(), day)
            passed = passed and day.passed
        elif name in TENANTS:
            asked = tenants.run(TENANTS[name](), say)
            show_tenants(Console(), asked)
            passed = passed and all(report.passed for report in asked)
        else:
            reports.append(run(CAMPAIGNS[name](), say))
            show(Console(), reports[-1:])
    if len(reports) > 1:
        show(Console(), reports)
    return 0 if passed and all(report.passed for report in reports) else 1


Figure = tuple[str, Callable[[Report], object]]


def show(console: Console, reports: list[Report]) -> None:
    """Print what came of it."""
    table = Table("", *(report.plan.name for report in reports), title="Chaos")
    figures: tuple[Figure, ...] = (
        ("seconds", lambda r: f"{r.seconds:.0f}"),
        ("connections", lambda r: r.findings.connections),
        ("refreshes", lambda r: r.findings.refreshes),
        ("processes killed", lambda r: r.kills),
        ("  at named points", lambda r: r.deaths.total()),
        ("other acts", lambda r: ", ".join(f"{n} {c}" for n, c in sorted(r.acts.items()) if not n.startswith("kill"))),
        ("tokens served", lambda r: r.served),
        ("  dead at the provider", lambda r: r.served_dead),
        ("get() errors", lambda r: ", ".join(f"{n} {c}" for n, c in sorted(r.errors.items())) or "none"),
        ("consents lost, all flagged", lambda r: r.findings.lost),
        ("  answers never stored", lambda r: r.findings.lost_answers),
        ("statuses", lambda r: ", ".join(f"{n} {c}" for n, c in sorted(r.findings.statuses.items()))),
        ("Redis commands searched", lambda r: r.monitored),
        ("bytes of Flower searched", lambda r: r.shown),
        ("leaks", lambda r: len(r.leaks)),
        ("problems", lambda r: len(r.findings.problems) + len(r.unsettled)),
        ("passed", lambda r: "yes" if r.passed else "NO"),
    )
    for name, value in figures:
        table.add_row(name, *(str(value(report)) for report in reports))
    console.print(table)
    for report in reports:
        deaths = ", ".join(f"{name} {count}" for name, count in sorted(report.deaths.items()))
        console.print(f"{report.plan.name}: deaths at points: {deaths or 'none'}", highlight=False)
        for problem in (*report.findings.problems, *report.unsettled, *report.leaks):
            console.print(f"{report.plan.name}: {problem}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
