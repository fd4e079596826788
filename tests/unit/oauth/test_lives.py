"""Durations and instants, in whatever way a provider writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.oauth.lives import life, until

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR, YEARS = timedelta(hours=1), timedelta(days=3650)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (NOW.timestamp() + 3600, HOUR),
        (str(int(NOW.timestamp()) + 3600), HOUR),
        ((NOW.timestamp() + 3600) * 1000, HOUR),
        ("2026-11-21T13:00:00Z", HOUR),
        ("2026-11-21T13:00:00", HOUR),
        ("2026-11-21T14:00:00+01:00", HOUR),
        (" 2026-11-21 13:00:00 ", HOUR),
        ("9999-12-31T00:00:00Z", YEARS),
        ("2026-11-21T12:00:00Z", None),
        ("2020-01-01", None),
        (0, None),
        (-1, None),
        (True, None),
        (None, None),
        ("soon", None),
        ("inf", None),
        ("1e400", None),
        (10**20, None),
        ([1], None),
    ],
)
def test_an_instant_is_what_is_left_until_then(told: object, expected: timedelta | None) -> None:
    assert until(told, NOW) == expected


@pytest.mark.parametrize(
    ("told", "unit", "expected"),
    [
        (3_600_000, timedelta(milliseconds=1), HOUR),
        ("3600000", timedelta(milliseconds=1), HOUR),
        ("0:01:00", timedelta(seconds=1), HOUR),
        ("0:1:0", timedelta(seconds=1), HOUR),
        ("2:03:04", timedelta(seconds=1), timedelta(days=2, hours=3, minutes=4)),
        ("99999:00:00", timedelta(seconds=1), YEARS),
        ("0:00:00", timedelta(seconds=1), None),
        ("1:2", timedelta(seconds=1), None),
    ],
)
def test_a_duration_has_its_provider_s_unit_or_is_a_clock(told: object, unit: timedelta, expected: object) -> None:
    assert life(told, unit) == expected


@given(st.one_of(st.text(), st.floats(), st.integers(), st.none(), st.booleans(), st.lists(st.integers())))
def test_whatever_is_told_is_a_life_of_up_to_ten_years_or_none(told: object) -> None:
    for found in (life(told), life(told, timedelta(milliseconds=1)), until(told, NOW)):
        assert found is None or timedelta(0) < found <= YEARS
