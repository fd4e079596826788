"""The end of the demo: every number in one document, and whether it may end well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from tests.demo.evidence import Metrics, read_journal, read_metrics, read_report
from tests.demo.stack import REPLAY_WINDOW
from tests.demo.story import TENANTS, Happened, Story

SERVED = ("fresh", "stale", "waited")
"""Ends of `get()` that came with a token, as the metric names them."""
LOT = 256
"""Fresh tokens are added to the metric in lots of so many, for each tenant."""


class Check(NamedTuple):
    """One condition of a good end."""

    name: str
    ok: bool
    found: str


def judge(story: Story, owners: int, proof: dict[str, str], elapsed: Callable[[], float]) -> dict[str, Any]:
    """Count everything and judge.

    Args:
        story: What happened; its stack still runs.
        owners: How many were to connect.
        proof: What the fresh process found out about each owner.
        elapsed: How many seconds it has taken, from the start.
    """
    stack = story.stack
    states = story.books.states()
    stored = story.books.counts().refreshes  # before the journal is read: refreshes go on
    accounts = [state.owner for state in states]
    journal = read_journal(stack.simulator.oracle(), accounts, stack.simulator.now())
    metrics = read_metrics(stack.home.path / "metrics")
    gets = read_metrics(stack.home.path / "metrics", "webapp").gets
    unwell = {state.owner for state in states if state.status not in ("active", "in_doubt")}
    unproven = {owner: found for owner, found in proof.items() if found != "ok"}
    active = {state.owner for state in states if state.status == "active"}
    lost = journal.dead | unwell
    happened, web = story.happened, read_report(story.report)
    document: dict[str, Any] = {
        "provider": {
            "rotation": stack.scale.rotation,
            "replay_window_s": REPLAY_WINDOW if stack.scale.rotation == "grace" else None,
            "access_token_life_s": stack.scale.token_life,
        },
        "calm": story.calm,
        "seconds": round(elapsed(), 1),
        "connections": {
            "wanted": owners,
            "connected": len(states),
            "tenants": TENANTS,
            "alive": len(active - lost - unproven.keys()),
            "lost": len(lost),
            "refreshed_since_last_fault": happened.refreshed_since,
            "status": dict(Counter(state.status for state in states)),
            "lost_owners": sorted(lost)[:20],
            "unproven": dict(sorted(unproven.items())[:20]),
        },
        "refreshes": {
            "stored": stored,
            "answered_by_provider": journal.refreshes,
            "in_killed_workers_hands": len(happened.claims_at_kill),
            "died_with_worker": story.books.unsettled(happened.claims_at_kill),
            "refresh_tokens_sent_again": journal.sent_again,
        },
        "tokens": {**web, "metric": {name: gets.get(name, 0) for name in SERVED}},
        "kms_calls": {"total": sum(metrics.kms.values()), **metrics.kms},
        "faults": {
            "workers_killed": happened.workers_killed,
            "workers_restarted": happened.workers_restarted,
            "restarts_by_supervisor": stack.supervisor.restarts,
            "redis_keys_flushed": happened.redis_keys_flushed,
            "tenant_keys_rewrapped": happened.tenant_keys_rewrapped,
            "master_key": happened.master_key,
            "master_key_before": happened.old_master_key,
        },
    }
    checks = _checks(story, document, metrics)
    document["checks"] = [check._asdict() for check in checks]
    document["ok"] = all(check.ok for check in checks)
    return document


def _checks(story: Story, document: dict[str, Any], metrics: Metrics) -> list[Check]:
    connections, web = document["connections"], document["tokens"]
    owners, happened = connections["wanted"], story.happened
    refused = web["api_refused"]
    uncounted = web["served"] - sum(web["metric"].values())
    checks = [
        Check("all connected", connections["connected"] == owners, f"{connections['connected']} of {owners}"),
        Check("all alive", connections["alive"] == owners, f"{connections['alive']} of {owners}"),
        Check("none lost", connections["lost"] == 0, f"{connections['lost']} lost"),
        Check(
            "all refreshed after the last fault",
            happened.refreshed_since == owners,
            f"{happened.refreshed_since} of {owners}",
        ),
        Check(
            "every served token that was tried was accepted",
            web["api_accepted"] > 0 and not refused,
            f"{web['api_accepted']} accepted, {len(refused)} refused",
        ),
        Check(
            "the web app and its metric count the same",
            bool(web["final"]) and web["served"] > 0 and 0 <= uncounted <= TENANTS * LOT,
            f"{web['served']} served, {uncounted} of them not in the metric yet",
        ),
        Check(
            "every stored refresh is in the provider's journal",
            0 < document["refreshes"]["stored"] <= document["refreshes"]["answered_by_provider"],
            f"{document['refreshes']['stored']} stored, {document['refreshes']['answered_by_provider']} answered",
        ),
        Check("KMS calls were counted", sum(metrics.kms.values()) > 0, f"{sum(metrics.kms.values())} calls"),
    ]
    return checks if story.calm else checks + _checks_of_faults(document, happened)


def _checks_of_faults(document: dict[str, Any], happened: Happened) -> list[Check]:
    faults, refreshes = document["faults"], document["refreshes"]
    old = happened.tenant_keys_by_kek.get(happened.old_master_key, 0)
    return [
        Check(
            "the worker died with refreshes in its hands",
            faults["workers_killed"] == 1 and refreshes["died_with_worker"] > 0,
            f"{refreshes['died_with_worker']} of {refreshes['in_killed_workers_hands']}",
        ),
        Check(
            "both workers came back",
            faults["restarts_by_supervisor"] >= 2,
            f"{faults['restarts_by_supervisor']} restarts",
        ),
        Check(
            "nothing is under the old master key",
            old == 0 and faults["tenant_keys_rewrapped"] == TENANTS,
            f"{faults['tenant_keys_rewrapped']} of {TENANTS} tenant keys rewrapped, {old} left",
        ),
    ]
