"""The fuzz campaign in its short form, and whether it would notice; the long form is ``make fuzz``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fuzz.__main__ import main
from tests.fuzz.campaign import SHARES, Report, _numbers, run_chunk
from tests.fuzz.corpus import Target, targets
from vault.errors import CannotOpen

ROOT = Path(__file__).resolve().parents[2]
CASES = 20_000
SEED = "short form"


def test_nothing_malformed_opens() -> None:
    report = run_chunk(SEED, 0, CASES)
    assert report.failures == []
    assert report.passed
    assert report.cases == CASES
    assert {name for name, _ in report.outcomes} == {*SHARES}
    assert report.count("refused") > CASES * 0.8


def test_the_same_seed_throws_the_same_again() -> None:
    first, again, other = (run_chunk(SEED, number, 2000).outcomes for number in (1, 1, 2))
    assert first == again != other


@pytest.fixture
def honest() -> list[Target]:
    return targets(SEED)


Opener = Callable[[Any, Any], bytes]


def replaced(honest: list[Target], name: str, opener: Callable[[Target], Opener]) -> list[Target]:
    found = []
    for each in honest:
        changed = opener(each) if each.name == name else each.open
        found.append(Target(each.name, changed, each.genuine, each.errors, each.lenient))
    return found


def gives_some_plaintext(target: Target) -> Opener:
    """A tag that is not looked at."""
    known = next(iter(target.plaintexts))

    def open_anything(sealed: Any, place: Any) -> bytes:
        try:
            return target.open(sealed, place)
        except target.errors:
            return known + b"!"

    return open_anything


def forgets_the_place(target: Target) -> Opener:
    """A context that is not authenticated: what was sealed opens anywhere."""

    def open_anywhere(sealed: Any, place: Any) -> bytes:
        return target.genuine[sealed][1] if sealed in target.genuine else target.open(sealed, place)

    return open_anywhere


def ignores_the_end(target: Target) -> Opener:
    """Bytes behind the envelope that nobody looks at: right plaintext, but of something else than was sealed."""

    def open_beginning(sealed: Any, place: Any) -> bytes:
        for known, (where, plaintext) in target.genuine.items():
            if where == place and sealed.startswith(known):
                return plaintext
        return target.open(sealed, place)

    return open_beginning


def stumbles(target: Target) -> Opener:
    """An error that no caller expects."""

    def fall(sealed: Any, place: Any) -> bytes:
        return target.open(sealed, place) if len(sealed) > 40 else bytes(sealed[40])

    return fall


def refuses_everything(target: Target) -> Opener:
    """Safe, and of no use."""

    def refuse(sealed: Any, place: Any) -> bytes:
        raise CannotOpen

    return refuse


@pytest.mark.parametrize(
    ("name", "fault", "noticed_as"),
    [
        *((name, gives_some_plaintext, "wrong") for name in SHARES),
        *((name, refuses_everything, "wrong") for name in SHARES),
        *((name, stumbles, "other error") for name in SHARES),
        *((name, forgets_the_place, "wrong") for name in ("envelopes", "wrapped keys")),
        *((name, ignores_the_end, "wrong") for name in ("envelopes", "wrapped keys", "v2 texts")),
    ],
)
def test_a_faulty_opener_is_noticed(
    honest: list[Target], name: str, fault: Callable[[Target], Opener], noticed_as: str
) -> None:
    report = run_chunk(SEED, 0, 5000, replaced(honest, name, fault))
    assert not report.passed
    assert report.outcomes[name, noticed_as] > 0
    assert report.failures[0].startswith(f"{noticed_as}: {name}, chunk 0 of seed {SEED}")
    assert all(report.outcomes[other, noticed_as] == 0 for other in SHARES if other != name)


def test_a_campaign_that_opened_nothing_has_not_passed() -> None:
    assert not Report().passed


def test_the_command_says_what_came_of_it() -> None:
    """In two processes, as `make fuzz` does."""
    command = [sys.executable, "-m", "tests.fuzz", "--seed", "of a test", "--count", "21000"]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "seed of a test" in done.stderr
    assert "passed: 21,000" in done.stdout


def test_one_chunk_can_be_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--seed", "of a test", "--chunk", "1"]) == 0
    assert "passed: 20,000" in capsys.readouterr().out


def test_a_campaign_ends_when_its_count_or_its_time_is_reached() -> None:
    assert list(_numbers(45_000, None)) == [(0, 20_000), (1, 20_000), (2, 5_000)]
    assert list(_numbers(None, time.monotonic() - 1)) == []
    ends = time.monotonic() + 0.01
    assert list(_numbers(None, ends))[-1][1] == 20_000
    assert time.monotonic() >= ends
