"""``privfin doctor crypto``: the run's own figures beside the others', and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

Call = Callable[..., Any]
WORDS = ["doctor", "crypto", "--repeats", "1"]


def test_figures_are_those_of_the_plan(privfin: Call) -> None:
    found = json.loads(privfin(*WORDS, "--sites", "3", "--json").out)
    small = ["--patients", "600", "--sites", "3", "--rounds", "3", "--json"]
    planned = json.loads(privfin("plan", "--epsilon", "4", *small).out)
    by_name = {one["scheme"]: one for one in found["schemes"]}
    own = by_name["2x20"]
    assert own["is_own"] and sum(one["is_own"] for one in found["schemes"]) == 1
    assert 2 * own["bytes_up"] * planned["exchanges"] == planned["bytes_a_site"]
    assert own["margin_bits"] >= 4 and own["failure_log2"] < -40
    for one in found["schemes"]:
        assert one["bytes_up"] == pytest.approx(one["bytes_a_value"] * found["values"])
        assert one["site_seconds"] >= one["mask_seconds"] >= 0
        assert one["security_bits"] == (0 if one["scheme"] == "plain" else 128)
    # No test of times; bytes do not depend on the machine.
    assert by_name["nvflare"]["bytes_up"] > 5 * own["bytes_up"]
    assert by_name["3x15"]["bytes_up"] < own["bytes_up"] < by_name["ckks"]["bytes_up"]


def test_the_table_fits_and_ckks_is_called_weaker(privfin: Call) -> None:
    said = privfin(*WORDS, "--encryption", "ckks")
    assert said.code == 0, said.err
    assert max(map(len, said.out.splitlines())) <= 80
    assert "> ckks" in said.out and "NVFlare" in said.out and "128-bit security" in said.out
    assert "Weaker: ckks has no masks" in said.out


def test_a_cohort_that_cannot_be_summed_is_refused(privfin: Call) -> None:
    said = privfin(*WORDS, "--sites", "70")
    assert said.code == 2 and "cannot sum 70 sites" in said.err
    assert privfin(*WORDS, "--precision", "9x9").code == 2
