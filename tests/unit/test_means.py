"""What a grant is renewed with comes out as it went in, and one row that cannot be written harms no other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vault.means import Means, is_more, means_of, text_of

token = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1)


@given(token)
def test_a_refresh_token_alone_is_kept_as_it_is(text: str) -> None:
    assert text_of(Means(text)) == text
    assert means_of(text) == Means(text)
    assert not is_more(text)


@given(token, st.text(), st.dictionaries(st.text(min_size=1), st.text()), st.text(), st.text(), st.text())
def test_more_than_that_comes_out_as_it_went_in(
    refresh: str, access: str, variables: dict[str, str], subject: str, key: str, scopes: str
) -> None:
    means = Means(refresh, access, variables, subject, key, scopes)
    assert means_of(text_of(means)) == means
    assert text_of(means_of(text_of(means))) == text_of(means), "equal means, equal texts: the lineage goes by them"


def test_what_a_later_version_added_does_not_keep_a_grant_from_living() -> None:
    assert means_of('\x1e{"refresh_token":"rt","later":"x"}') == Means("rt")


def test_means_do_not_show_what_is_in_them() -> None:
    assert "s3cret" not in repr(Means("s3cret", key="s3cret"))
