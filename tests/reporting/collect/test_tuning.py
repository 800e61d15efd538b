"""How the settings came about is what people say; how the round was chosen, what the run says."""

from __future__ import annotations

from collections.abc import Callable

from privfin.reporting.answers.answers import Answers
from privfin.reporting.collect.tuning import tuning_block
from privfin.reporting.evidence import Evidence


def test_trials_are_open_until_somebody_counts_them(real: Evidence) -> None:
    block = tuning_block(real, Answers({}))
    assert block.trials.status == block.is_counted.status == "not_assessed"
    assert block.chosen_by.get() == real.metrics["chosen_by"]
    block = tuning_block(real, Answers({"tuning.trials": 7, "tuning.is_counted": "in a ledger"}))
    assert (block.trials.status, block.trials.value) == ("declared", 7)
    assert block.is_counted.value == "in a ledger"


def test_no_trials_is_an_answer(real: Evidence) -> None:
    block = tuning_block(real, Answers({"tuning.trials": 0}))
    assert (block.trials.status, block.trials.value) == ("declared", 0)
    assert block.is_counted.status == "not_applicable"


def test_a_chosen_round_is_said(edited: Callable[..., Evidence]) -> None:
    chosen = "validation: of 2 rounds, round 1 has the best macro AUROC on 15 validation patients"
    evidence = edited(metrics=lambda m: m.update(chosen_by=chosen))
    assert tuning_block(evidence, Answers({})).chosen_by.get() == chosen
