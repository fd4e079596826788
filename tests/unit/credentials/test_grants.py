"""Ids of a grant's two tokens."""

from __future__ import annotations

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as some

from vault.credentials.grants import (
    connection_of,
    is_refresh_token_id,
    place_among_refresh_tokens,
    refresh_token_id,
)

connections = some.uuids(version=4)
NEAR = some.builds(lambda each, low: UUID(int=each.int >> 80 << 80 | low), connections, some.integers(0, 2**80 - 1))
"""Any id at all, most of them near a connection's."""


def test_both_ids_lead_back_to_the_connection() -> None:
    connection = uuid4()
    refresh = refresh_token_id(connection)
    assert (connection_of(refresh), connection_of(connection)) == (connection, connection)
    assert (is_refresh_token_id(refresh), is_refresh_token_id(connection)) == (True, False)
    assert (refresh.version, refresh.variant) == (8, connection.variant), "an id as any other (RFC 9562)"


@given(connections, connections | connections.map(refresh_token_id) | NEAR)
def test_a_refresh_token_sorts_after_an_id_when_its_connection_sorts_after_the_place(one: UUID, after: UUID) -> None:
    assert (refresh_token_id(one) > after) == (one > place_among_refresh_tokens(after))


@given(connections, some.integers(0, 2**80 - 1))
def test_so_it_does_beside_ids_that_begin_alike(one: UUID, low: int) -> None:
    after = UUID(int=one.int >> 80 << 80 | low)
    assert (refresh_token_id(one) > after) == (one > place_among_refresh_tokens(after))
