"""Consents that end whatever we do: told of in time, each warning once, and not while refreshes put the end off."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import psycopg

from tests.integration.house import House

DAY = timedelta(days=1)


def ends_in(house: House, connection_id: UUID, days: float | None) -> None:
    """What an answer with another end does to the row."""
    left = None if days is None else days * DAY
    house.sql(
        "UPDATE evergrant.oauth_grant SET grant_ends_at = now() + %s WHERE connection_id = %s", (left, connection_id)
    )


def told(house: House) -> list[tuple[UUID, int]]:
    found = house.sql(
        "SELECT connection_id, (body::json->'data'->>'days')::int AS days FROM evergrant.event"
        " WHERE type = 'connection.grant_ending' ORDER BY created_at, id"
    )
    return [(row["connection_id"], row["days"]) for row in found]


def test_an_end_is_told_thirty_fourteen_and_seven_days_before(house: House) -> None:
    """Fourteen is what the policy of refresh tokens says."""
    each, endless = house.connect(), house.connect("ann")
    ends_in(house, each, 100)
    assert house.worker.expiry_scan().told == 0
    house.pass_time(69 * DAY)
    assert house.worker.expiry_scan().told == 0
    for by, days in ((2 * DAY, 30), (16 * DAY, 14), (7 * DAY, 7)):
        house.pass_time(by)
        assert [house.worker.expiry_scan().told, house.worker.expiry_scan().told] == [1, 0]
        assert told(house)[-1] == (each, days)
    house.pass_time(7 * DAY)
    assert house.worker.expiry_scan().told == 0, "the next refresh finds out what became of it"
    assert len(told(house)) == 3
    assert not house.finds(f"SELECT 1 FROM evergrant.grant_end WHERE connection_id = '{endless}'")


def test_a_consent_that_is_given_for_a_few_days_is_not_warned_of_at_once(house: House) -> None:
    each = house.connect()
    ends_in(house, each, 20)
    assert house.worker.expiry_scan().told == 0
    house.pass_time(7 * DAY)
    assert house.worker.expiry_scan().told == 1
    assert told(house) == [(each, 14)]


def test_an_end_that_refreshes_put_off_is_none_until_they_no_longer_do(house: House) -> None:
    each = house.connect()
    ends_in(house, each, 20)
    for _ in range(10):
        house.worker.expiry_scan()
        house.pass_time(3 * DAY)
        ends_in(house, each, 20)
    assert told(house) == []
    house.pass_time(6 * DAY)
    house.worker.expiry_scan()
    house.pass_time(8 * DAY)
    assert house.worker.expiry_scan().told == 1
    assert told(house) == [(each, 7)]


def test_an_end_put_off_by_hours_is_looked_at_once_a_day(house: House) -> None:
    each = house.connect()
    ends_in(house, each, 0.02)
    house.worker.expiry_scan()
    for _ in range(3):
        house.pass_time(DAY / 2)
        ends_in(house, each, 0.02)
        house.worker.expiry_scan()
        [row] = house.sql("SELECT look_at - now() AS wait FROM evergrant.grant_end")
        assert row["wait"] > DAY / 3
    assert told(house) == []


def test_a_new_consent_has_an_end_and_warnings_of_its_own(house: House) -> None:
    each = house.connect()
    ends_in(house, each, 40)
    house.worker.expiry_scan()
    house.pass_time(12 * DAY)
    assert house.worker.expiry_scan().told == 1
    house.connect(reconnect=each)
    ends_in(house, each, 40)
    assert house.worker.expiry_scan().told == 0
    house.pass_time(12 * DAY)
    assert house.worker.expiry_scan().told == 1
    assert told(house) == [(each, 30), (each, 30)]


def test_an_end_that_comes_sooner_is_seen_and_one_that_is_gone_forgotten(house: House) -> None:
    sooner, gone, ended = house.connect(), house.connect("ann"), house.connect("bob")
    for each in (sooner, gone, ended):
        ends_in(house, each, 400)
    house.worker.expiry_scan()
    ends_in(house, sooner, 9)
    ends_in(house, gone, None)
    house.vault.disconnect(ended)
    house.sql("UPDATE evergrant.grant_end SET look_at = now() WHERE connection_id <> %s", (sooner,))
    assert house.worker.expiry_scan().told == 0, "sooner, but nobody is warned of what he was just told"
    house.pass_time(3 * DAY)
    assert house.worker.expiry_scan().told == 1
    assert told(house) == [(sooner, 7)]
    assert [row["connection_id"] for row in house.sql("SELECT connection_id FROM evergrant.grant_end")] == [sooner]


def test_a_role_that_may_change_grants_and_nothing_else_is_not_stopped(house: House) -> None:
    """As one whose rights were granted before there was such a table."""
    each, role = house.connect(), f"elder_{uuid4().hex}"
    with psycopg.connect(house.database_url) as session:
        session.execute(f"CREATE ROLE {role}".encode())
        session.execute(f"GRANT USAGE ON SCHEMA evergrant TO {role}".encode())
        session.execute(f"GRANT SELECT, UPDATE ON evergrant.oauth_grant TO {role}".encode())
        session.execute(f"CREATE POLICY elder ON evergrant.oauth_grant TO {role} USING (true)".encode())
        session.execute(f"SET ROLE {role}".encode())
        session.execute("UPDATE evergrant.oauth_grant SET grant_ends_at = now() + interval '40 days'")
        session.execute("RESET ROLE")
        noted = session.execute("SELECT connection_id FROM evergrant.grant_end").fetchall()
        session.rollback()
    assert noted == [(each,)]


def test_many_ends_are_told_of_in_few_statements_and_by_several_at_a_time(house: House) -> None:
    house.connect_many(5)
    house.sql("UPDATE evergrant.oauth_grant SET grant_ends_at = now() + interval '40 days'")
    house.worker.expiry_scan()
    house.pass_time(35 * DAY)
    with psycopg.connect(house.database_url) as session:
        locked = session.execute("SELECT connection_id FROM evergrant.grant_end LIMIT 1 FOR UPDATE").fetchall()
        assert house.worker.expiry_scan().told == 4, "what another one has in hand is left to him"
    assert house.another_worker().expiry_scan().told == 1
    assert sorted(told(house)) == sorted((each.id, 7) for each in house.vault.connections())
    assert told(house)[-1] == (*locked[0], 7)
