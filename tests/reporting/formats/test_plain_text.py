"""Texts lose what cannot be seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from privfin.reporting.formats.plain_text import one_line


@given(st.text())
def test_one_line_has_no_lines_and_nothing_unseen(text: str) -> None:
    plain = one_line(text)
    assert plain.splitlines() in ([], [plain])
    assert not set(plain) & set("\x00\x07\x1b\x7f\x85\u2028\u2029\u202e\u2066\ufeff\u200b")
    assert one_line(plain) == plain
    plain.encode()  # no lone surrogate is left


@given(st.text(alphabet="abc äöß漢字٣-_|<>&`*#:'\"", max_size=40))
def test_visible_texts_keep_their_words(text: str) -> None:
    assert one_line(text) == " ".join(text.split())


def test_joiners_of_scripts_stay() -> None:
    assert one_line("می\u200cخواهم") == "می\u200cخواهم"
