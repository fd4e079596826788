"""The map from another system's columns to our fields: what can work, and everything that cannot, at once."""

from __future__ import annotations

import pytest

from vault.errors import ConfigurationError
from vault.migration.columns import column_map


def problems(columns: dict[str, str], constants: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as raised:
        column_map(columns, constants)
    return "\n".join(raised.value.problems)


def test_a_map_names_columns_and_words() -> None:
    made = column_map({"owner": "user_id", "refresh_token": "rt"}, {"provider": "spotify"})
    assert (made.key, made.secrets) == (None, {"refresh_token": "rt"})
    assert column_map({"key": "id", "owner": "o", "access_token": "a", "provider": "p"}, {}).key == "id"


def test_all_that_is_wrong_is_told_at_once() -> None:
    said = problems({"ownr": "user_id", "account": ""}, {"expires_at": "never", "tenant": " "})
    for word in ("no field 'ownr'", "account names no column", "'expires_at' cannot be one word", "tenant has no value",
                 "refresh_token, of access_token, or of both", "owner is missing", "provider is missing"):  # fmt: skip
        assert word in said


@pytest.mark.parametrize(
    ("columns", "constants", "word"),
    [
        ({"owner": "o", "refresh_token": "t", "provider": "p"}, {"provider": "x"}, "provider is given twice"),
        ({"owner": "t", "refresh_token": "t"}, {"provider": "x"}, "owner is the column of a token"),
        ({"key": "t", "owner": "o", "access_token": "t"}, {"provider": "x"}, "key is the column of a token"),
        ({"owner": "o", "access_token": "t", "refresh_token": "t"}, {"provider": "x"}, "are the same column"),
        ({"owner": "o", "access_token": "t"}, {"provider": "x", "refresh_token": "r"}, "cannot be one word"),
    ],
)
def test_a_slip_that_would_show_a_token_or_mix_two_up_is_refused(
    columns: dict[str, str], constants: dict[str, str], word: str
) -> None:
    assert word in problems(columns, constants)
