"""Public copies: nobody can tell which exact numbers of patients the report had."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from privfin.privacy.accounting import SubsampledGaussianEvent, epsilon
from privfin.privacy.calibration import calibrate_noise, default_delta
from privfin.privacy.profile import privacy_profile
from privfin.privacy.tradeoff import (
    REPORTED_RATES,
    best_accuracy,
    certainty,
    fit_gaussian,
    true_positive_rate,
)
from privfin.reporting.facts import declared, derived, measured, not_applicable
from privfin.reporting.release.coarse import coarse_count, size_of
from privfin.reporting.release.facts import WITHHELD
from privfin.reporting.release.release import for_release
from privfin.reporting.schema import Report, report_content
from privfin.reporting.sealing.seal import statement

Sample = Callable[..., Report]

_COUNT_KEYS = {"patients", "records", "members", "nonmembers", "positives", "negatives"}

relaxed = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
small = st.integers(1, 10)


def _public(report: Report) -> str:
    return json.dumps(report_content(for_release(report, "public")), sort_keys=True)


def _rows(report: Report, block: str, field: str) -> list[dict[str, Any]]:
    return [row.model_dump() for row in getattr(getattr(report, block), field).get()]


def _interval(value: float) -> dict[str, float]:
    return {"value": value, "low": 0.9 * value, "high": min(1.0, 1.1 * value)}


def _with_small_cells(sample: Sample, a: int, b: int) -> Report:
    """A report with ``a`` or ``b`` patients in many places, and figures that have them in them."""
    base = sample()
    sites = _rows(base, "parties", "sites")
    sites[0]["patients"] = a
    cells = _rows(base, "utility", "cells")
    tiny = cells[2] | {
        "patients": b, "records": a + b, "auroc": _interval(a / 11), "auprc": _interval(b / 11),
        "ece": a / 100, "brier": b / 100,
    }  # fmt: skip
    cells[2] = tiny
    edema, fracture = cells[0]["labels"]
    cells[0]["labels"] = [
        edema,
        edema | {"label": "Pneumonia", "positives": 41, "negatives": 550},
        fracture | {"positives": a, "auroc": _interval(a / 12), "ece": a / 90, "brier": b / 90},
    ]
    groups = _rows(base, "utility", "groups")
    whole = groups[0]["cells"][0] | {"labels": []}
    groups = [
        groups[0] | {"group": "F", "cells": [whole | {"patients": 200}], "left_out": {}},
        groups[0] | {"group": "M", "cells": [whole | {"patients": 160}], "left_out": {}},
        groups[0] | {"group": "not stated", "cells": [tiny | {"cell": "both", "labels": []}],
                     "left_out": {}},
    ]  # fmt: skip
    attacks = _rows(base, "audit", "attacks")
    attacks[2] |= {
        "nonmembers": a, "auc": _interval(a / 13), "curve": [(0.0, b / 10), (1.0, 1.0)],
        "epsilon_bound": a / 10, "epsilon_ceiling": math.log(a + 1),
    }  # fmt: skip
    return sample(
        parties__sites=measured(tuple(sites), "manifest.json"),
        data__held_out_patients=measured(b, "metrics.json"),
        data__notices=measured((f"left out {a} images", f"skipped {b} records"), "manifest.json"),
        utility__cells=measured(tuple(cells), "metrics.json"),
        utility__groups=measured(tuple(groups), "metrics.json"),
        audit__attacks=measured(tuple(attacks), "audit.json"),
    )


@relaxed
@given(small, small, small, small)
def test_which_small_numbers_there_were_changes_nothing(
    sample_report: Sample, a: int, b: int, c: int, d: int
) -> None:
    """The same public copy, byte for byte, whatever the small numbers are."""
    one, two = _with_small_cells(sample_report, a, b), _with_small_cells(sample_report, c, d)
    assert _public(one) == _public(two)


def _counts(content: Any, key: str = "") -> Iterator[Any]:
    """Every value that is a number of patients or records."""
    if isinstance(content, dict):
        is_fact = "status" in content and key.endswith("_patients")
        for name, value in content.items():
            if name in _COUNT_KEYS or (is_fact and name == "value"):
                yield value
            else:
                yield from _counts(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from _counts(value, key)


@relaxed
@given(small, small)
def test_no_exact_number_of_people_is_shown(sample_report: Sample, a: int, b: int) -> None:
    report = _with_small_cells(sample_report, a, b)
    before = list(_counts(report_content(report)))
    after = list(_counts(json.loads(_public(report))))
    assert {a, b} <= set(before)
    assert len(after) > 20
    # delta times patients is no count, and the only number here that is not a text
    assert all(isinstance(one, str) or one == 0 for one in after if not isinstance(one, float))


def _with_patients(sample: Sample, patients: int, held_out: int) -> Report:
    """A report of so many patients, with all that follows from their number."""
    base = sample()
    delta = 0.1 / patients
    rate = 64 / patients
    tiny = rate / 1e4  # what an accountant's digits would show of the rate
    observers = [
        row | {"epsilon": 7.95 + tiny, "delta": delta, "mu": 1.69 + tiny, "mu_excess": 0.011 + tiny,
               "best_accuracy": 0.78 + tiny, "certainty_of_epsilon_alone": certainty(7.95 + tiny),
               "trade_off": [{"false_positive_rate": f, "true_positive_rate": t + tiny}
                             for f, t in ((0.001, 0.072), (0.01, 0.24), (0.1, 0.61))]}
        for row in _rows(base, "guarantee", "observers")
    ]  # fmt: skip
    mechanism = [
        row | {"sampling_rate": rate, "noise_multiplier": 3.1 + rate, "epsilon": 7.95 + tiny,
               "delta": delta}
        for row in _rows(base, "mechanism", "sites")
    ]  # fmt: skip
    attacks = [
        row | {"members": patients, "nonmembers": held_out, "claim": 7.95 + tiny,
               "epsilon_ceiling": 3.41 + tiny, "epsilon_bound": 0.21 + tiny}
        for row in _rows(base, "audit", "attacks")
    ]  # fmt: skip
    cells = [row | {"patients": held_out, "labels": []} for row in _rows(base, "utility", "cells")]
    budget = _rows(base, "ledger", "budgets")[0] | {"this_run": 7.95 + tiny, "left": 3.05 - tiny}
    sites = [row | {"patients": patients} for row in _rows(base, "parties", "sites")]
    entry = _rows(base, "ledger", "extract")[0] | {"epsilon": 7.95 + tiny, "delta": delta}
    digest = f"{patients:064x}"
    return sample(
        parties__sites=measured(tuple(sites), "manifest.json"),
        data__training_patients=derived(patients, "manifest.json", f"{patients} of 3 sites"),
        data__held_out_patients=measured(held_out, "metrics.json"),
        data__fingerprints=measured({"site-01": digest}, "manifest.json"),
        purpose__people=declared(f"{patients:,} adults with a chest image", "answers file"),
        purpose__task=derived("14 labels from image and text", "manifest.json"),
        guarantee__statement=derived(
            f"({7.95 + tiny}, {delta}) for {patients}, at all sites {34.2 + tiny}", "privacy.json"),
        guarantee__epsilon=derived(7.95 + tiny, "privacy.json"),
        guarantee__delta=measured(delta, "privacy.json"),
        guarantee__delta_times_patients=derived(delta * patients, "privacy.json"),
        guarantee__epsilon_at_every_site=derived(14.2 + tiny, "privacy.json"),
        guarantee__observers=derived(tuple(observers), "privacy.json"),
        guarantee__curve=derived(
            tuple({"false_positive_rate": i / 100, "true_positive_rate": min(1, i / 99 + tiny)}
                  for i in range(101)), "privacy.json"),
        mechanism__sites=measured(tuple(mechanism), "privacy.json"),
        accounting__recomputed_epsilon=derived(7.95 + tiny, "plan"),
        accounting__second_accountant=derived(7.96 + tiny, "Opacus PRV"),
        ledger__budgets=derived((budget,), "ledger"),
        ledger__extract=measured((entry,), "ledger"),
        audit__attacks=measured(tuple(attacks), "audit.json"),
        audit__largest_ceiling=derived(3.41 + tiny, "audit.json"),
        utility__cells=measured(tuple(cells), "metrics.json"),
        reproducibility__config_sha256=measured(digest, "manifest.json"),
        reproducibility__files=measured(
            ({"file": "privacy.json", "sha256": digest},
             {"file": "model.safetensors", "sha256": "02" * 32}), "files"),
        reproducibility__commands=derived((f"privfin train --data.patients {patients}",), "run"),
    )  # fmt: skip


@relaxed
@given(st.integers(1050, 1149), st.integers(1050, 1149), st.integers(375, 384),
       st.integers(375, 384))  # fmt: skip
@example(1050, 1149, 375, 375)
def test_which_exact_totals_there_were_changes_nothing(
    sample_report: Sample, one: int, two: int, held_out: int, other: int
) -> None:
    first = _public(_with_patients(sample_report, one, held_out))
    assert first == _public(_with_patients(sample_report, two, other))


@relaxed
@given(st.integers(301, 9999), st.integers(301, 9999))
def test_no_exact_total_is_anywhere(sample_report: Sample, patients: int, held_out: int) -> None:
    report = _with_patients(sample_report, patients, held_out)
    elsewhere = set(re.findall(r"\d+", _public(_with_patients(sample_report, 1100, 300))))
    plain = report_content(for_release(report, "public"))
    tokens = set(re.findall(r"\d+", json.dumps(plain).replace(",", "")))
    for exact in (patients, held_out, patients + held_out):
        if str(exact) not in elsewhere and exact != size_of(exact):
            assert str(exact) not in tokens


def _guarantee(sample: Sample, patients: int) -> Report:
    """What the accountant says of a site with so many patients."""
    delta, rate = default_delta(patients), 64 / patients
    event = SubsampledGaussianEvent(calibrate_noise(8.0, delta, rate, 80), rate, 80)
    profile = privacy_profile([[event]])
    fit, spent = fit_gaussian(profile), epsilon([event], delta)
    rows = [
        row | {
            "epsilon": spent, "delta": delta, "mu": fit.mu, "mu_excess": fit.excess,
            "best_accuracy": best_accuracy(profile), "certainty_of_epsilon_alone": certainty(spent),
            "trade_off": [{"false_positive_rate": f,
                           "true_positive_rate": true_positive_rate(profile, f)}
                          for f in REPORTED_RATES],
        }
        for row in _rows(sample(), "guarantee", "observers")
    ]  # fmt: skip
    return sample(
        data__training_patients=derived(patients, "manifest.json"),
        guarantee__epsilon=derived(spent, "privacy.json"),
        guarantee__delta=measured(delta, "privacy.json"),
        guarantee__delta_times_patients=derived(delta * patients, "privacy.json"),
        guarantee__observers=derived(tuple(rows), "privacy.json"),
    )


def test_a_real_accountant_does_not_tell_neighbouring_numbers_apart(
    sample_report: Sample,
) -> None:
    one, two = _guarantee(sample_report, 110), _guarantee(sample_report, 114)
    assert one.guarantee.observers.get()[0].mu != two.guarantee.observers.get()[0].mu
    assert _public(one) == _public(two)


def test_internal_is_the_report_itself(sample_report: Sample) -> None:
    report = sample_report()
    assert for_release(report, "internal") is report
    public = for_release(report, "public")
    assert for_release(public, "internal") is public


@relaxed
@given(small, small)
def test_releasing_twice_is_releasing_once(sample_report: Sample, a: int, b: int) -> None:
    for report in (
        _with_small_cells(sample_report, a, b),
        _with_patients(sample_report, 100 * a + 7, 50 * b),
    ):
        once = for_release(report, "public")
        assert for_release(once, "public") == once
        assert once.report.release_class.get() == "public"


def test_what_was_done_is_said_once_each(sample_report: Sample) -> None:
    lines = for_release(sample_report(), "public").report.withheld.get()
    assert len(set(lines)) == len(lines)
    text = " ".join(lines)
    for word in ("1 to 10", "sampling rates", "delta", "fingerprints", "populations", "hashes",
                 "names of sites are kept", "ROC", "bytes"):  # fmt: skip
        assert word in text
    assert "commands" not in text  # nothing was done to them


def test_every_limit_still_holds(sample_report: Sample) -> None:
    before = sample_report()
    after = for_release(before, "public")
    assert after.guarantee.epsilon.get() >= before.guarantee.epsilon.get()
    assert after.guarantee.delta.get() >= before.guarantee.delta.get()
    pairs = zip(before.guarantee.observers.get(), after.guarantee.observers.get(), strict=True)
    for old, new in pairs:
        for name in ("epsilon", "delta", "mu", "mu_excess", "best_accuracy"):
            assert getattr(new, name) >= getattr(old, name)
        for one, two in zip(old.trade_off, new.trade_off, strict=True):
            assert two.true_positive_rate >= one.true_positive_rate
            assert two.false_positive_rate == one.false_positive_rate
    attacks = zip(before.audit.attacks.get(), after.audit.attacks.get(), strict=True)
    for was, now in attacks:
        assert now.auc.low <= was.auc.low <= was.auc.high <= now.auc.high  # type: ignore[operator]
        if was.epsilon_bound is not None and was.epsilon_ceiling is not None:
            assert now.epsilon_bound <= was.epsilon_bound  # type: ignore[operator]
            assert now.epsilon_ceiling >= was.epsilon_ceiling  # type: ignore[operator]
    old_budget, new_budget = before.ledger.budgets.get()[0], after.ledger.budgets.get()[0]
    assert new_budget.this_run >= old_budget.this_run
    assert new_budget.left <= old_budget.left


def test_a_statement_is_rounded_as_its_fields_are(sample_report: Sample) -> None:
    text = "epsilon = 7.31 (rounded up) and delta = 9.1e-06, for a patient of every site 34.67"
    report = sample_report(
        guarantee__statement=derived(text, "privacy.json"),
        guarantee__epsilon=derived(7.3012, "privacy.json"),
        guarantee__epsilon_at_every_site=derived(34.661, "privacy.json"),
    )
    guarantee = for_release(report, "public").guarantee
    assert (guarantee.epsilon.get(), guarantee.epsilon_at_every_site.get()) == (7.4, 40.0)
    assert guarantee.statement.get() == (
        "epsilon = 7.4 (rounded up) and delta = 1e-05, for a patient of every site 40"
    )


def test_against_every_observer_stands_what_holds_against_the_strongest(
    sample_report: Sample,
) -> None:
    rows = _rows(sample_report(), "guarantee", "observers")
    rows[3] |= {"epsilon": 9.3, "mu": 2.5, "best_accuracy": 0.88}
    shared = ({"sites": 0, "epsilon": 7.1, "is_promised": True},
              {"sites": 1, "epsilon": 8.31, "is_promised": True},
              {"sites": 2, "epsilon": 11.77, "is_promised": False})  # fmt: skip
    report = for_release(
        sample_report(
            guarantee__observers=derived(tuple(rows), "privacy.json"),
            guarantee__colluding_sites=derived(shared, "privacy.json"),
        ),
        "public",
    )
    assert {row.epsilon for row in report.guarantee.observers.get()} == {9.3}
    assert {row.mu for row in report.guarantee.observers.get()} == {2.5}
    colluding = [row.epsilon for row in report.guarantee.colluding_sites.get()]
    assert colluding == [8.4, 8.4, math.inf]


@pytest.mark.parametrize("tiny", [3, 9])
def test_one_small_group_takes_the_smallest_other_with_it(sample_report: Sample, tiny: int) -> None:
    report = for_release(_with_small_cells(sample_report, tiny, tiny), "public")
    groups = {row.group: row.cells[0] for row in report.utility.groups.get()}
    assert groups["F"].withheld is None
    assert groups["F"].patients == "about 200"
    assert groups["M"].withheld is not None
    assert "could be calculated" in groups["M"].withheld
    assert groups["M"].patients == groups["M"].records == "withheld"
    assert groups["M"].auroc.value is None
    assert groups["not stated"].patients == "1 to 10"
    assert groups["not stated"].brier is None


def test_a_group_that_the_run_left_out_counts_as_missing(sample_report: Sample) -> None:
    row = _rows(sample_report(), "utility", "groups")[0]
    cell = row["cells"][0] | {"labels": []}
    rows = (
        row | {"group": "F", "cells": [cell | {"patients": 200}], "left_out": {}},
        row | {"group": "M", "cells": [cell | {"patients": 160}], "left_out": {}},
        row | {"group": "X", "cells": [], "left_out": {"both": "fewer than 20 patients"}},
    )
    report = sample_report(utility__groups=measured(rows, "metrics.json"))
    groups = for_release(report, "public").utility.groups.get()
    assert [one.cells[0].withheld is None for one in groups[:2]] == [True, False]


def test_one_rare_label_takes_the_rarest_other_with_it(sample_report: Sample) -> None:
    cell = for_release(_with_small_cells(sample_report, 7, 7), "public").utility.cells.get()[0]
    shown = {row.label: row.auroc.value for row in cell.labels}
    assert shown["Edema"] is not None
    assert shown["Fracture"] is shown["Pneumonia"] is None
    assert cell.auroc.value is not None
    rare = next(row for row in cell.labels if row.label == "Fracture")
    assert rare.positives == "1 to 10"
    assert rare.withheld


def test_a_mean_over_one_rare_label_is_withheld(sample_report: Sample) -> None:
    cells = _rows(sample_report(), "utility", "cells")
    cells[0]["labels"] = [cells[0]["labels"][1]]  # 7 positives, and nothing to hide behind
    report = sample_report(utility__cells=measured(tuple(cells), "metrics.json"))
    cell = for_release(report, "public").utility.cells.get()[0]
    assert cell.auroc.value is None
    assert cell.withheld


def test_what_names_or_guesses_others_is_gone(sample_report: Sample) -> None:
    other = {"seq": 3, "time": "2025-05-05T00:00:00Z", "run": "beef", "kind": "audit",
             "state": "settled", "populations": "lungs; hearts", "epsilon": 1.0,
             "delta": 1e-5}  # fmt: skip
    entries = (other, _rows(sample_report(), "ledger", "extract")[0])
    report = sample_report(ledger__extract=measured(entries, "ledger"))
    text = _public(report)
    for word in ("lungs", "hearts", "beef", "2025-05-05", "1b1b1b1b", "cececece"):
        assert word in json.dumps(report_content(report))
        assert word not in text
    public = for_release(report, "public")
    assert [row.run for row in public.ledger.extract.get()] == ["another run", "this run"]
    assert public.ledger.extract.get()[1].populations == "population 1"
    assert public.data.fingerprints.note.startswith(WITHHELD)


def test_hashes_of_what_can_be_guessed_are_gone(sample_report: Sample) -> None:
    """With the rest public, each of these would tell whether a guess of counts or data is right."""
    names = ("manifest.json", "events.jsonl", "metrics.json", "privacy.json", "model.safetensors")
    rows = tuple({"file": name, "sha256": f"{i:02x}" * 32} for i, name in enumerate(names))
    report = sample_report(reproducibility__files=measured(rows, "files"))
    public = for_release(report, "public")
    kept = [row.file for row in public.reproducibility.files.get()]
    assert kept == ["events.jsonl", "model.safetensors"]
    sealed = {one.name for one in statement(public, {}).subject}
    assert sealed == {"run/events.jsonl", "run/model.safetensors"}


def test_other_runs_beside_it_say_nothing_of_data(sample_report: Sample) -> None:
    runs = (
        {"name": "a", "run_id": "17bb450b9995ddaf2693f1d9a914f898", "claim": "dp",
         "epsilon": 7.9999, "delta": 1e-5, "encryption": "bfv",
         "auroc": {"both": _interval(0.68512)}, "audit_verdict": None, "differences": {}},
        {"name": "b", "run_id": "beef" * 8, "claim": "dp", "epsilon": 2.3456, "delta": 9.1e-6,
         "encryption": "bfv", "auroc": {"both": _interval(0.61234)}, "audit_verdict": None,
         "differences": {"data.root": "/ward/7", "federation.patients": "12,13",
                         "training.rounds": "9"}},
    )  # fmt: skip
    report = sample_report(comparison__runs=measured(runs, "command line"))
    first, second = for_release(report, "public").comparison.runs.get()
    assert first.run_id.startswith("17bb")
    assert second.run_id == "withheld"
    assert (second.epsilon, second.delta) == (2.4, 1e-5)
    assert second.auroc["both"].value == 0.612
    assert second.differences == {"data.root": "withheld", "federation.patients": "withheld",
                                  "training.rounds": "9"}  # fmt: skip


def test_gaps_stay_gaps(sample_report: Sample) -> None:
    gap = not_applicable("nothing to know", "a test")
    names = ("parties__sites", "data__training_patients", "data__held_out_patients",
             "guarantee__observers", "guarantee__epsilon", "mechanism__sites", "ledger__budgets",
             "audit__attacks", "utility__cells", "utility__groups", "exchange__bytes_up",
             "reproducibility__files", "data__fingerprints", "risks__risks")  # fmt: skip
    public = for_release(sample_report(**dict.fromkeys(names, gap)), "public")
    for name in names:
        block, _, field = name.partition("__")
        assert getattr(getattr(public, block), field).note == "nothing to know"


def test_words_are_made_again_and_estimates_of_people_stay(sample_report: Sample) -> None:
    risk = _rows(sample_report(), "risks", "risks")[0] | {
        "severity": "limited", "decision": "accepted for 1125 patients",
    }  # fmt: skip
    report = sample_report(risks__risks=derived((risk,), "privfin"))
    public = for_release(report, "public")
    found = public.risks.risks.get()[0]
    assert (found.severity, found.decision) == ("limited", "accepted for about 1,100 patients")
    assert "2.1 %" not in found.evidence
    assert "about 1,100 patients" in public.summary[0].text
    assert for_release(report.model_copy(update={"summary": ()}), "public").summary == ()


def test_coarse_and_exact_numbers_are_of_the_same_people(sample_report: Sample) -> None:
    """Not hidden by mistake: what may be shown is shown."""
    public = for_release(sample_report(), "public")
    assert [row.patients for row in public.parties.sites.get()] == ["about 380"] * 3
    assert public.data.training_patients.get() == coarse_count(1125)
    assert public.utility.cells.get()[0].auroc.value == 0.685
    assert public.audit.attacks.get()[1].tpr[0].tpr.value == 0.02


def test_every_row_that_there_can_be_is_released_once(full_report: Report) -> None:
    once = for_release(full_report, "public")
    assert for_release(once, "public") == once
    guess = once.audit.attributes.get()[0]
    assert guess.patients == "about 400"
    assert (guess.difference.low, guess.difference.high) == (-0.03, 0.07)


@pytest.mark.parametrize("few", [2, 9])
def test_guesses_on_few_patients_are_left_out(full_report: Report, few: int) -> None:
    audit = full_report.audit
    rows = tuple(
        one.model_copy(update={"patients": few, "chance": 1 / few})
        for one in audit.attributes.get()
    )
    note = f"with {few} non-members, 1 % false alarms cannot be told from none"
    changed = audit.model_copy(
        update={
            "attributes": measured(rows, "audit.json"),
            "best_attack": derived(audit.best_attack.get(), "audit.json", note),
        }
    )
    public = for_release(full_report.model_copy(update={"audit": changed}), "public")
    assert public.audit.attributes.get() == ()
    assert public.audit.best_attack.note == ""
    assert any("1 to 10 patients are left out" in one for one in public.report.withheld.get())
