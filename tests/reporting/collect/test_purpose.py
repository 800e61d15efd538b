"""What the model predicts is read off the run; what it is for only people say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from privfin.reporting.answers.answers import Answers
from privfin.reporting.blocks_people import Purpose
from privfin.reporting.collect.purpose import purpose_block
from privfin.reporting.evidence import Evidence


def test_every_field_that_people_answer_is_theirs_or_open(real: Evidence) -> None:
    named = [name for name in Purpose.model_fields if name not in ("task", "labels")]
    block = purpose_block(real, Answers({f"purpose.{name}": name for name in named}))
    empty = purpose_block(real, Answers({}))
    for name in named:
        said, gap = getattr(block, name), getattr(empty, name)
        assert (said.status, said.value) == ("declared", name)
        assert gap.status == "not_assessed"


def test_labels_and_inputs_are_those_of_the_run(edited: Callable[..., Evidence]) -> None:
    evidence = edited()
    block = purpose_block(evidence, Answers({}))
    assert list(block.labels.get()) == evidence.manifest["label_names"]
    assert block.task.get() == (
        "the probability of each of 14 labels, from image and text or a part of them (imputer: fin)"
    )


@pytest.mark.parametrize(
    ("labels", "inputs", "task"),
    [
        (["sick"], ["image"], "the probability of sick, from image"),
        (["a", "b"], ["text"], "the probability of each of 2 labels, from text"),
        (
            ["sick"],
            ["image", "text", "lab"],
            "the probability of sick, from image, text and lab or a part of them (imputer: fin)",
        ),
    ],
)
def test_the_task_in_words(
    edited: Callable[..., Evidence], labels: list[str], inputs: list[str], task: str
) -> None:
    def change(manifest: dict[str, Any]) -> None:
        modalities = manifest["config"]["modalities"]
        table = {
            **modalities["text"],
            "encoder": "values",
            "kind": "tabular",
            "ranges": {"age": [0, 100]},
        }
        known = {**modalities, "lab": table}
        manifest["config"]["modalities"] = {name: known[name] for name in inputs}
        manifest["label_names"] = labels

    assert purpose_block(edited(manifest=change), Answers({})).task.get() == task
