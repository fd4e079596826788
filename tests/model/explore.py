"""Visits every state a world can reach, and tells the shortest story of what goes wrong."""

from __future__ import annotations

import gc
from collections import deque
from dataclasses import dataclass, field

from tests.model import invariants
from tests.model.rules import Rules
from tests.model.state import Phase, State, Violation
from tests.model.world import Setting, World


@dataclass
class Report:
    """What an exploration came to."""

    states: int = 0
    moves: int = 0
    endings: dict[str, int] = field(default_factory=dict)
    violation: Violation | None = None
    story: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"{self.states:,} states, {self.moves:,} moves, endings {self.endings}"
        return head if self.violation is None else "\n".join([head, str(self.violation), *self.story[:60]])


def explore(setting: Setting, rules: Rules | None = None) -> Report:
    """Visit breadth first, so that the first violation found has the fewest moves."""
    collecting = gc.isenabled()
    gc.disable()  # millions of tuples and not one cycle among them: looking for some would take half the time
    try:
        return _explore(setting, rules)
    finally:
        if collecting:
            gc.enable()


def _explore(setting: Setting, rules: Rules | None) -> Report:
    world = World(setting, rules or Rules())
    start = world.start()
    came_from: dict[State, State | None] = {start: None}
    queue = deque([start])
    report = Report()
    fault_free: dict[State, list[State]] = {}
    state = start
    try:
        while queue:
            state = queue.popleft()
            invariants.at_every_step(setting.mode, state, forgiving=setting.forgiving)
            report.states += 1
            forward = []
            for move in world.moves(state):
                report.moves += 1
                after = _canonical(move.state)
                if not move.fault:
                    forward.append(after)
                if after not in came_from:
                    came_from[after] = state
                    queue.append(after)
            if all(not w.paused and w.phase is not Phase.DOWN for w in state.workers):
                fault_free[state] = forward  # whoever sleeps wakes up some day: circles around a sleeper do not count
            if not forward:
                invariants.at_the_end(setting.mode, state)
                ending = state.row.status.value
                report.endings[ending] = report.endings.get(ending, 0) + 1
        circling = _in_a_circle(fault_free)
        if circling is not None:
            state = circling
            raise Violation("I7", "this can go on for ever, although nothing fails any more")
    except Violation as violation:
        report.violation = violation
        report.story = _story(world, came_from, state)
    return report


def _canonical(state: State) -> State:
    """The two workers are alike: one of the two orders stands for both."""
    one, other = state.workers
    if hash(one) > hash(other):
        return state._replace(workers=(other, one))
    return state


def _in_a_circle(forward: dict[State, list[State]]) -> State | None:
    """A state from which, without any fault, no ending need ever come; what is left when endings are taken away."""
    open_ways = {state: len(ways) for state, ways in forward.items()}
    into: dict[State, list[State]] = {}
    for state, ways in forward.items():
        for way in ways:
            into.setdefault(way, []).append(state)
    done = [state for state, ways in open_ways.items() if not ways]
    left = len(open_ways)
    while done:
        left -= 1
        for state in into.get(done.pop(), ()):
            open_ways[state] -= 1
            if not open_ways[state]:
                done.append(state)
    return next((state for state, ways in open_ways.items() if ways), None) if left else None


def _story(world: World, came_from: dict[State, State | None], last: State) -> list[str]:
    """Tell how ``last`` came about, with the same worker called by the same name throughout."""
    path = [last]
    while (before := came_from[path[-1]]) is not None:
        path.append(before)
    path.reverse()
    state = path[0]
    story: list[str] = []
    for wanted in path[1:]:
        move = next(m for m in world.moves(state) if _canonical(m.state) == wanted)
        story.append(f"{len(story) + 1:3}. {move.what}")
        state = move.state
    story.append(f"     then: {state.row}")
    return story
