"""A pointer names facts, or it is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from privfin.reporting.pointers import facts_at
from privfin.reporting.schema import Report


def test_a_field_is_one_fact_and_a_block_all_of_its_facts(
    sample_report: Callable[..., Report],
) -> None:
    report = sample_report()
    assert facts_at(report, "/audit/verdict") == (report.audit.verdict,)
    found = facts_at(report, "/tuning")
    assert found == (report.tuning.trials, report.tuning.is_counted, report.tuning.chosen_by)


@pytest.mark.parametrize(
    "pointer",
    ["", "/", "audit", "audit/verdict", "/nothing", "/audit/nothing", "/audit/verdict/value",
     "/summary", "/summary/0", "/schema_version", "/audit/", "/model_fields", "/audit/attacks/0"],
)  # fmt: skip
def test_what_names_no_fact_is_refused(pointer: str, sample_report: Callable[..., Report]) -> None:
    with pytest.raises(ValueError, match=r"names|pointer"):
        facts_at(sample_report(), pointer)
