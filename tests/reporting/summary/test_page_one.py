"""Page one: what each answer says, and that a changed run changes the right answer and no other."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest

from privfin.reporting.blocks_people import Sentence
from privfin.reporting.facts import (
    declared,
    derived,
    measured,
    not_applicable,
    not_assessed,
)
from privfin.reporting.release.release import for_release
from privfin.reporting.schema import Report, report_content
from privfin.reporting.summary.page_one import summarise

Sample = Callable[..., Report]

KEYS = ["trained", "protected", "odds", "attacked", "budget", "left-sites", "not-covered",
        "decide", "verify"]  # fmt: skip
NO_AUDIT = not_assessed("the run was not audited", "audit.json")
AUDIT_FIELDS = ("verdict", "suite", "confidence", "shadow_models", "blind_auc", "attacks",
                "best_attack", "largest_ceiling", "canaries", "attributes", "inversion",
                "left_out", "contradictions", "risks")  # fmt: skip
CONTRADICTION = "lira (outsider) shows an epsilon of at least 9.53, the claim is 8.00"
RULE = "tpr@0.1%>0.01: passed by 3 of 4 attacks, most by lira on patients 'all'"


def _rows(report: Report, block: str, field: str) -> list[dict[str, Any]]:
    rows = getattr(getattr(report, block), field).get()
    return [row.model_dump() for row in rows]


def _not_private(sample: Sample, claim: str) -> dict[str, Any]:
    """Everything that such a run says differently of itself."""
    base = sample()
    observers = [
        row | {"epsilon": math.inf, "mu": math.inf, "best_accuracy": 1.0,
               "certainty_of_epsilon_alone": 1.0,
               "trade_off": [p | {"true_positive_rate": 1.0} for p in row["trade_off"]]}
        for row in _rows(base, "guarantee", "observers")
    ]  # fmt: skip
    attacks = [row | {"claim": math.inf} for row in _rows(base, "audit", "attacks")]
    return {
        "guarantee__claim": measured(f"NOT PRIVATE: {claim}", "privacy.json"),
        "guarantee__is_private": derived(False, "privacy.json"),
        "guarantee__epsilon": derived(math.inf, "privacy.json"),
        "guarantee__epsilon_at_every_site": derived(math.inf, "privacy.json"),
        "guarantee__observers": derived(tuple(observers), "privacy.json"),
        "audit__attacks": measured(tuple(attacks), "audit.json"),
    }


def _cases(sample: Sample) -> dict[str, tuple[dict[str, Any], set[str]]]:
    """Of each changed run: what is changed, and the answers that have to change."""
    budget = _rows(sample(), "ledger", "budgets")[0]
    return {
        "missing audit": (
            {"audit__was_done": measured(False, "audit.json")}
            | {f"audit__{name}": NO_AUDIT for name in AUDIT_FIELDS},
            {"attacked"},
        ),
        "contradiction": (
            {
                "audit__verdict": measured("contradiction", "audit.json"),
                "audit__contradictions": measured((CONTRADICTION,), "audit.json"),
                "audit__largest_ceiling": derived(9.8, "audit.json"),
            },
            {"attacked", "odds"},
        ),
        "risk rule": (
            {
                "audit__verdict": measured("risk", "audit.json"),
                "audit__risks": measured((RULE,), "audit.json"),
            },
            {"attacked"},
        ),
        "over budget": (
            {
                "ledger__budgets": derived(
                    (budget | {"before": 6.0, "left": -2.0, "is_over": True},), "ledger"
                )
            },
            {"budget"},
        ),
        "no ledger": (
            {
                "ledger__status": measured("none", "manifest.json"),
                "ledger__budgets": not_applicable("no ledger counts this run", "manifest.json"),
            },
            {"budget"},
        ),
        "simulated": (
            {"ledger__status": measured("simulated", "manifest.json")},
            {"budget"},
        ),
        "without privacy": (
            _not_private(sample, "trained without differential privacy (epsilon = inf)"),
            {"protected", "odds", "attacked"},
        ),
        "test mode": (
            _not_private(sample, "test mode, the noise can be computed from the public seed"),
            {"protected", "odds", "attacked"},
        ),
        "ckks": (
            {
                "exchange__kind": measured("ckks", "manifest.json"),
                "exchange__encryption": measured("CKKS, no masks", "privacy.json"),
                "exchange__single_updates": derived("coordinator with any site", "privacy.json"),
            },
            {"left-sites"},
        ),
        "none": (
            {
                "exchange__kind": measured("none", "manifest.json"),
                "exchange__encryption": measured("none", "privacy.json"),
                "exchange__single_updates": derived("the coordinator", "privacy.json"),
            },
            {"left-sites"},
        ),
        "a site dropped": (
            {
                "parties__sites_left": measured(
                    ({"site": "site-02", "round": 3, "attempt": 1},), "events.jsonl"
                )
            },
            {"trained"},
        ),
        "overlap unknown": (
            {"guarantee__no_person_at_two_sites": measured("unknown", "privacy.json")},
            {"protected"},
        ),
        "small epsilon": (
            {"guarantee__epsilon": derived(1.0, "privacy.json")},
            {"odds", "attacked"},
        ),
    }


CASES = ["missing audit", "contradiction", "risk rule", "over budget", "no ledger", "simulated",
         "without privacy", "test mode", "ckks", "none", "a site dropped", "overlap unknown",
         "small epsilon"]  # fmt: skip


def _by_key(report: Report) -> dict[str, Sentence]:
    return {one.key: one for one in summarise(report)}


def _changed(sample: Sample, case: str) -> tuple[dict[str, Sentence], set[str]]:
    changes, _ = _cases(sample)[case]
    before, after = _by_key(sample()), _by_key(sample(**changes))
    return after, {key for key in KEYS if before[key] != after[key]}


def test_every_case_is_run(sample_report: Sample) -> None:
    assert sorted(CASES) == sorted(_cases(sample_report))


@pytest.mark.parametrize("case", CASES)
def test_a_changed_run_changes_the_right_answers_only(sample_report: Sample, case: str) -> None:
    _, changed = _changed(sample_report, case)
    assert changed == _cases(sample_report)[case][1]


@pytest.mark.parametrize(
    ("case", "key", "tone", "words"),
    [
        ("missing audit", "attacked", "open", ["NOT TESTED", "0 attacks", "not known"]),
        ("contradiction", "attacked", "bad", ["CONTRADICTED", "9.53", "9.80", "8.00"]),
        ("contradiction", "odds", "bad", ["CONTRADICTS this promise"]),
        ("risk rule", "attacked", "bad", ["RISK RULE WAS PASSED", "tpr@0.1%>0.01"]),
        ("over budget", "budget", "bad", ["OVER BUDGET", "lungs", "6.00 before", "-2.00"]),
        ("no ledger", "budget", "bad", ["NO LEDGER"]),
        ("simulated", "budget", "plain", ["simulated", "0 was charged"]),
        ("without privacy", "protected", "bad", ["Nobody", "1,125 patients", "NOT PRIVATE"]),
        ("without privacy", "odds", "bad", ["NOT PRIVATE", "from 50:50 to 100:0"]),
        ("without privacy", "attacked", "plain", ["nothing is promised", "no promise to hold"]),
        ("test mode", "protected", "bad", ["test mode", "public seed"]),
        ("test mode", "odds", "bad", ["NOT PRIVATE", "nothing is promised"]),
        ("ckks", "left-sites", "bad", ["WEAKER", "coordinator together with any 1 site"]),
        ("none", "left-sites", "bad", ["NOT ENCRYPTED", "the coordinator", "every single update"]),
        ("a site dropped", "trained", "bad", ["DROPPED OUT", "site-02 (round 3)"]),
        ("overlap unknown", "protected", "open", ["unknown", "14.20 at delta 1e-05"]),
    ],
)
def test_what_a_changed_run_says(
    sample_report: Sample, case: str, key: str, tone: str, words: list[str]
) -> None:
    sentence = _changed(sample_report, case)[0][key]
    assert sentence.tone == tone
    for word in words:
        assert word in sentence.text


def _all_reports(sample: Sample) -> list[Report]:
    internal = [sample(), *(sample(**changes) for changes, _ in _cases(sample).values())]
    return [*internal, *(for_release(one, "public") for one in internal)]


def test_every_answer_is_short_has_a_number_and_says_what_it_rests_on(
    sample_report: Sample,
) -> None:
    for report in _all_reports(sample_report):
        summary = summarise(report)
        assert [one.key for one in summary] == KEYS
        for one in summary:
            ends = re.findall(r"[.!?](?=\s|$)", one.text)
            assert 1 <= len(ends) <= 3, one.text
            assert re.search(r"\d", one.text), one.text
            assert one.text[-1] == "."
            assert "  " not in one.text
            assert one.fields


def test_pointers_lead_somewhere(sample_report: Sample) -> None:
    report = sample_report()
    content = report_content(report)
    for one in summarise(report):
        for pointer in one.fields:
            _, block, field = pointer.split("/")
            assert field in content[block], pointer


@pytest.mark.parametrize(
    "word", ["anonym", "complian", "compliant", "certified", "certificate", "safe", "secure"]
)
def test_no_verdict_that_is_not_ours_to_give(sample_report: Sample, word: str) -> None:
    for report in _all_reports(sample_report):
        for one in summarise(report):
            assert word not in one.text.lower(), one.text
            assert word not in one.question.lower()


def test_no_epsilon_stands_alone(sample_report: Sample) -> None:
    seen = 0
    for report in _all_reports(sample_report):
        for one in summarise(report):
            if "epsilon" in one.text.lower():
                seen += 1
                assert "delta" in one.text, one.text
                assert "patient" in one.text, one.text
            assert "inf" not in re.findall(r"[a-z]+", one.text), one.text
    assert seen > 20


def test_only_what_was_checked_is_good(sample_report: Sample) -> None:
    """A promise that no attack broke is no finding that it holds."""
    for report in _all_reports(sample_report):
        assert all(one.tone != "good" for one in summarise(report))


@pytest.mark.parametrize(
    ("epsilon", "odds"),
    [
        (0.1, "53:47"),
        (1.0, "74:26"),
        (3.0, "95.3:4.7"),
        (8.0, "99.97:0.03"),
        (20.0, "99.9999998:0.0000002"),
    ],
)
def test_from_five_on_the_pair_is_said_to_promise_little(
    sample_report: Sample, epsilon: float, odds: str
) -> None:
    text = _by_key(sample_report(guarantee__epsilon=derived(epsilon, "privacy.json")))["odds"].text
    assert f"from 50:50 to at most {odds}" in text
    is_weak = epsilon >= 5
    assert ("promises little" in text) is is_weak
    assert ("rely on the trade-off curve, and on what attacks found" in text) is is_weak
    assert "from 50:50 to at most 79:21 on average, by the whole trade-off curve" in text


def test_odds_are_those_of_the_strongest_observer(sample_report: Sample) -> None:
    rows = _rows(sample_report(), "guarantee", "observers")
    rows[3] |= {"best_accuracy": 0.91, "epsilon": 9.0}
    rows[3]["trade_off"] = [{"false_positive_rate": 0.01, "true_positive_rate": 0.5001}]
    text = _by_key(sample_report(guarantee__observers=derived(tuple(rows), "privacy.json")))["odds"]
    assert "at most 91:9 " in text.text or "at most 91.0:9.0 " in text.text
    assert "strongest of 4 observers (coordinator with a site)" in text.text
    assert "at most 50.1 %" in text.text


def test_the_best_attack_is_held_against_the_promise_to_its_observer(
    sample_report: Sample,
) -> None:
    rows = _rows(sample_report(), "guarantee", "observers")
    for row in rows:
        row["trade_off"] = [{"false_positive_rate": 0.01, "true_positive_rate": 0.9}]
    rows[1]["trade_off"] = [{"false_positive_rate": 0.01, "true_positive_rate": 0.3}]
    report = sample_report(
        guarantee__observers=derived(tuple(rows), "privacy.json"),
        audit__best_attack=derived(3, "audit.json"),  # by a site
    )
    text = _by_key(report)["attacked"].text
    assert "trajectory slope as seen by the site" in text
    assert "the promise allows up to 30 %" in text


def test_a_ceiling_below_the_promise_is_named_as_what_was_not_tested(
    sample_report: Sample,
) -> None:
    low = _by_key(sample_report())["attacked"]
    assert "could show epsilon 3.50 at most" in low.text
    assert "too little to refute the promised 8.00" in low.text
    high = sample_report(audit__largest_ceiling=derived(8.5, "audit.json"))
    assert "reaches the promised 8.00" in _by_key(high)["attacked"].text
    none = not_assessed("membership was no coin", "audit.json")
    unknown = _by_key(sample_report(audit__largest_ceiling=none))["attacked"]
    assert unknown.tone == "open"
    assert "membership was no coin" in unknown.text


def test_the_best_attack_is_called_so_only_for_the_patients_it_was_chosen_on(
    sample_report: Sample,
) -> None:
    """Of a part of the patients another attack may find a larger share."""
    report = sample_report()
    assert "2.1 % of all members" in _by_key(report)["attacked"].text
    rows = _rows(report, "audit", "attacks")
    rows[report.audit.best_attack.get()]["stratum"] = "text only"
    part = sample_report(audit__attacks=measured(tuple(rows), "audit.json"))
    assert "2.1 % of the members in 'text only'" in _by_key(part)["attacked"].text


def test_what_attacks_found_is_short_and_whole(sample_report: Sample) -> None:
    text = _by_key(sample_report())["attacked"].text
    assert len(text.split()) <= 75
    for part in ("3 attacks (quick suite)", "none contradicts", "lira as seen by the outsider",
                 "2.1 % of all members (95 % interval 1.05 to 4.2 %)", "guessing finds 1 %",
                 "the promise allows up to 24.2 %", "3.50 at most", "at least 0.20"):  # fmt: skip
        assert part in text


def test_every_population_is_named_and_the_one_over_budget_first(sample_report: Sample) -> None:
    row = _rows(sample_report(), "ledger", "budgets")[0]
    rows = (
        row,
        row | {"population": "hearts", "left": -1.5, "is_over": True, "raised": 2},
        row | {"population": "bones", "cap_epsilon": None, "cap_delta": None},
    )
    one = _by_key(sample_report(ledger__budgets=derived(rows, "ledger")))["budget"]
    assert one.tone == "bad"
    assert one.text.startswith("OVER BUDGET in 1 of 3 populations")
    assert one.text.index("hearts") < one.text.index("lungs") < one.text.index("bones")
    assert "cap raised 2 times" in one.text
    assert "it has no cap" in one.text


def test_spent_is_rounded_up_and_left_is_rounded_down(sample_report: Sample) -> None:
    row = _rows(sample_report(), "ledger", "budgets")[0]
    rows = (row | {"this_run": 7.9911, "left": 3.0089},)
    text = _by_key(sample_report(ledger__budgets=derived(rows, "ledger")))["budget"].text
    assert "8.00 by this run" in text
    assert "leaves 3.00" in text


def test_the_weightiest_gap_is_named(sample_report: Sample) -> None:
    outside = (
        "timing, file sizes and the number of rounds",
        "the weights of the frozen image encoder: taken to be public",
    )
    assumptions = tuple(
        {"assumption_id": name, "text": f"about {name}", "status": status, "by": "nobody"}
        for name, status in (
            ("real-numbers", "unknown"), ("ids-name-persons", "unknown"),
            ("clipping", "checked"), ("one-site-a-patient", "declared"),
        )
    )  # fmt: skip
    report = sample_report(
        other_releases__not_covered=measured(outside, "privacy.json"),
        accounting__assumptions=measured(assumptions, "privacy.json"),
        tuning__trials=declared(12, "answers file"),
    )
    one = _by_key(report)["not-covered"]
    assert "2 things are outside" in one.text
    assert "frozen image encoder" in one.text
    assert "timing" not in one.text
    assert "Of 4 assumptions, 2 cannot be checked and 1 somebody only declares" in one.text
    assert "about ids-name-persons" in one.text
    assert "choose the settings: 12" in one.text


def test_open_questions_are_counted_until_none_is_open(sample_report: Sample) -> None:
    before = _by_key(sample_report())["decide"]
    assert before.tone == "open"
    assert "Open questions: 1 of 1, 1 of them required" in before.text
    assert "What is the legal basis?" in before.text
    risk = _rows(sample_report(), "risks", "risks")[0] | {"decision": "accepted"}
    question = _rows(sample_report(), "sign_off", "questions")[0] | {"is_answered": True}
    roles = [
        row | {"decision": "agreed"} for row in _rows(sample_report(), "sign_off", "signatures")
    ]
    closed = {
        "risks__risks": derived((risk,), "answers file"),
        "sign_off__questions": derived((question,), "answers file"),
        "sign_off__signatures": declared(tuple(roles), "answers file"),
    }
    assert _by_key(sample_report(**closed))["decide"].tone == "plain"
    for name in closed:  # one open thing is enough
        assert (
            _by_key(sample_report(**{k: v for k, v in closed.items() if k != name}))["decide"].tone
            == "open"
        )


def test_verify_gives_a_command_for_this_audience_and_says_what_a_signature_adds(
    sample_report: Sample,
) -> None:
    report = sample_report(
        report__audience=declared("public", "command line"),
        report__run_name=measured("my run", "run directory"),
    )
    text = _by_key(report)["verify"].text
    assert "privfin report verify report-public.json --run 'my run'" in text
    assert "6 files" in text
    assert "accidents, not forgery" in text
    assert "made with --sign KEY also shows whose key signed it" in text


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ("parties__sites", "trained"),
        ("parties__sites_left", "trained"),
        ("purpose__task", "trained"),
        ("data__training_patients", "trained"),
        ("data__training_patients", "protected"),
        ("data__held_out_patients", "protected"),
        ("guarantee__is_private", "protected"),
        ("guarantee__epsilon", "odds"),
        ("guarantee__delta", "odds"),
        ("guarantee__observers", "odds"),
        ("audit__was_done", "attacked"),
        ("audit__attacks", "attacked"),
        ("audit__verdict", "attacked"),
        ("audit__best_attack", "attacked"),
        ("ledger__status", "budget"),
        ("ledger__budgets", "budget"),
        ("ledger__check", "budget"),
        ("exchange__kind", "left-sites"),
        ("exchange__bytes_up", "left-sites"),
        ("exchange__readable_segments", "left-sites"),
        ("other_releases__not_covered", "not-covered"),
        ("accounting__assumptions", "not-covered"),
        ("sign_off__questions", "decide"),
        ("sign_off__signatures", "decide"),
        ("risks__risks", "decide"),
        ("reproducibility__files", "verify"),
    ],
)
def test_a_gap_is_said_and_never_looks_fine(sample_report: Sample, field: str, key: str) -> None:
    gap = not_assessed("nobody looked", "a test")
    before, after = _by_key(sample_report())[key], _by_key(sample_report(**{field: gap}))[key]
    assert after != before
    assert re.search("nobody looked|unknown|not known|NOT TESTED", after.text), after.text
    assert after.tone in ("open", "bad")


@pytest.mark.parametrize("kind", ["ckks", "none"])
def test_updates_that_are_read_have_their_noise_only_where_there_is_any(
    sample_report: Sample, kind: str
) -> None:
    read = {"exchange__kind": measured(kind, "manifest.json")}
    nothing = read | {"guarantee__is_private": derived(False, "privacy.json")}
    assert "each with its full noise" in _by_key(sample_report(**read))["left-sites"].text
    assert "noise" not in _by_key(sample_report(**nothing))["left-sites"].text
    assert "noise" not in _by_key(sample_report())["left-sites"].text


def test_shared_noise_rests_on_the_masks_too(sample_report: Sample) -> None:
    shared = sample_report(
        mechanism__trust=measured("shared: the noise of 3 sites adds up", "privacy.json"),
        exchange__readable_segments=measured((), "privacy.json"),
    )
    text = _by_key(shared)["left-sites"].text
    assert "An update has only a share of the noise" in text


def test_tests_that_see_every_step_are_not_mixed_with_those_of_observers(
    sample_report: Sample,
) -> None:
    canary = {"kind": "random", "level": "record", "observer": "outsider", "canaries": 500,
              "epsilon_bound": 0.45, "epsilon_ceiling": 3.4, "claim": 8.0,
              "is_contradiction": False}  # fmt: skip
    white = canary | {"observer": "training", "epsilon_bound": 2.1, "epsilon_ceiling": 6.2}
    hidden = _rows(sample_report(), "audit", "attacks")[0] | {
        "observer": "coordinator, no encryption", "epsilon_bound": 3.3,
    }  # fmt: skip
    rows = (*_rows(sample_report(), "audit", "attacks"), hidden)
    changes = {
        "audit__canaries": measured((canary, white), "audit.json"),
        "audit__attacks": measured(rows, "audit.json"),
    }
    text = _by_key(sample_report(**changes))["attacked"].text
    assert "and 2 tests with invented patients" in text
    assert "epsilon 3.50 at most (shown: at least 0.45, or 2.10 with every" in text
    plain = sample_report(**changes, exchange__kind=measured("none", "manifest.json"))
    assert "at least 3.30" in _by_key(plain)["attacked"].text  # there it could be seen
