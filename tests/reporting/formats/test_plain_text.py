"""Texts lose what cannot be seen; rounded bounds stay true."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privfin.reporting.formats.plain_text import one_line, short


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


@given(st.floats(min_value=1e-12, max_value=1e12), st.integers(min_value=1, max_value=6))
def test_rounding_keeps_bounds_true_and_is_close(value: float, digits: int) -> None:
    up, down, near = (
        float(short(value, digits, way))  # type: ignore[arg-type]
        for way in ("up", "down", "nearest")
    )
    assert down <= value <= up
    step = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
    assert up - down <= 1.01 * step * 10  # a power of ten may lie between
    assert min(up - value, value - down) == pytest.approx(abs(near - value), abs=1e-9 * value)


@pytest.mark.parametrize(
    ("value", "rounding", "text"),
    [
        (7.9999, "up", "8"),
        (8.0001, "up", "8.01"),
        (8.0001, "down", "8"),
        (0.1, "up", "0.1"),
        (0.0, "up", "0"),
        (math.inf, "up", "unlimited"),
        (1e-5, "nearest", "1e-05"),
    ],
)
def test_numbers_as_they_are_shown(value: float, rounding: str, text: str) -> None:
    assert short(value, 3, rounding) == text  # type: ignore[arg-type]
