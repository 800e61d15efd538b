"""Numbers keep their meaning when they are shortened: bounds stay bounds."""

from __future__ import annotations

from privfin.reporting.blocks_results import Interval
from privfin.reporting.page.wording import interval, moment, percent, plain


def test_shares_stay_on_one_line() -> None:
    assert percent(0.021) == "2.1\u00a0%"
    assert interval(Interval(value=0.021, low=0.01, high=0.042), share=True) == (
        "2.1\u00a0% (1\u00a0to\u00a04.2)"
    )


def test_bounds_and_claims_are_rounded_to_their_own_side() -> None:
    for name in ("epsilon", "before", "this_run", "reserved", "claim", "mu"):
        assert plain(name, 8.00001) == "8.01"
    for name in ("epsilon_bound", "epsilon_ceiling", "largest_ceiling", "left"):
        assert plain(name, 7.99999) == "7.99"
    assert plain("cap_delta", 1e-5) == plain("delta", 1e-5) == "1e-05"


def test_other_words() -> None:
    assert moment("2026-01-02T05:04:05+02:00") == "2026-01-02 03:04 UTC"
    assert moment("some day") == "some day"
    assert interval(Interval(value=None)) == "not stated"
    assert interval(Interval(value=0.5)) == "0.500"
    assert plain("cap_epsilon", None) == "no cap"
    assert plain("public_seed", 12345) == "12345"
    assert plain("patients", 12345) == "12,345"
    assert plain("modalities", ()) == "none"
