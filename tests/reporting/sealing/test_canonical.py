"""The canonical text: the content and nothing else decides about it, and it is RFC 8785's."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from privfin.errors import UserInputError
from privfin.reporting.facts import declared, derived, measured
from privfin.reporting.schema import Report, read_report, report_content
from privfin.reporting.sealing.canonical import canonical, canonical_json, digest

NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def parsed(text: bytes) -> Any:
    """The content as the standard reads it: every number is a double."""

    def number(digits: str) -> int | float:
        return int(digits) if abs(int(digits)) < 2**53 else float(digits)

    return json.loads(text, parse_int=number)


def shuffled(value: Any, rng: random.Random) -> Any:
    """The same content with the keys of every object in another order."""
    if isinstance(value, dict):
        names = rng.sample(list(value), len(value))
        return {name: shuffled(value[name], rng) for name in names}
    return [shuffled(one, rng) for one in value] if isinstance(value, list) else value


@given(VALUES)
def test_parsing_gives_the_content_back(value: Any) -> None:
    assert parsed(canonical(value)) == value


@given(VALUES, st.integers(), st.sampled_from([None, 1]))
def test_order_of_keys_and_spaces_do_not_matter(value: Any, seed: int, indent: int | None) -> None:
    spaced = json.dumps(shuffled(value, random.Random(seed)), indent=indent)
    assert canonical(json.loads(spaced)) == canonical(value)


@settings(deadline=None, max_examples=30)
@given(TEXT, st.floats(0, 1e300), st.floats(1e-300, 1.0), st.integers())
def test_a_report_is_read_back_whole_whatever_the_layout(
    sample_report: Callable[..., Report],
    text: str,
    epsilon: float,
    delta: float,
    seed: int,
) -> None:
    report = sample_report(
        purpose__people=declared(text, "answers file"),
        guarantee__epsilon=derived(epsilon, "privacy.json"),
        guarantee__delta=measured(delta, "privacy.json"),
    )
    text_of_it = canonical_json(report)
    assert parsed(text_of_it) == report_content(report)
    other = json.dumps(shuffled(report_content(report), random.Random(seed)), indent=2)
    for layout in (text_of_it, other):
        again = read_report(layout, "x")
        assert again == report
        assert canonical_json(again) == text_of_it
        assert digest(again) == digest(report)


def test_the_digest_is_of_the_text_and_every_value_is_in_it(
    sample_report: Callable[..., Report],
) -> None:
    report = sample_report()
    assert digest(report) == hashlib.sha256(canonical_json(report)).hexdigest()
    assert digest(sample_report(guarantee__delta=measured(2e-5, "privacy.json"))) != digest(report)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        # Of the table in appendix B of RFC 8785.
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
        (-9007199254740992.0, "-9007199254740992"),
        (295147905179352830000.0, "295147905179352830000"),
        (9.999999999999997e22, "9.999999999999997e+22"),
        (999999999999999700000.0, "999999999999999700000"),
        (1e21, "1e+21"),
        (0.000001, "0.000001"),
        (9.999999999999997e-7, "9.999999999999997e-7"),
        (333333333.33333325, "333333333.33333325"),
        (-0.0000033333333333333333, "-0.0000033333333333333333"),
        (-0.0, "0"),
    ],
)
def test_numbers_are_written_as_the_standard_says(number: float, text: str) -> None:
    assert canonical(number) == text.encode()


def test_keys_are_sorted_by_utf_16_units() -> None:
    # U+1F600 begins with a surrogate, below U+FB33 in UTF-16 and above it by code point.
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    expected = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical(dict.fromkeys(names)))) == expected


@pytest.mark.parametrize("value", [2**53, float("inf"), float("nan"), "\ud800"])
def test_what_has_no_such_text_is_refused(value: object) -> None:
    with pytest.raises(UserInputError, match="no canonical JSON"):
        canonical({"a": value})
