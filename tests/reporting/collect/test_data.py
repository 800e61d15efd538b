"""Who is counted, who is protected as one, and what the run cannot tell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from privfin.reporting.answers.answers import Answers
from privfin.reporting.collect.data import data_block
from privfin.reporting.evidence import Evidence

NONE = Answers({})


def _source(name: str, *parts: tuple[str, str]) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["config"]["data"]["source"] = name
        manifest["config"]["data"]["part"] = [{"name": n, "source": s} for n, s in parts]

    return change


def test_numbers_and_fingerprints_are_those_of_the_run(edited: Callable[..., Evidence]) -> None:
    evidence = edited()
    block = data_block(evidence, NONE)
    assert block.training_patients.get() == 150
    assert block.training_patients.note == ""
    assert block.held_out_patients.get() == 50
    assert block.fingerprints.get() == evidence.manifest["data_sha256"]
    assert block.notices.get() == ()
    assert block.source.get() == "phantom"
    assert block.is_simulated.get() is True


@pytest.mark.parametrize("name", ["period", "label_origin", "consent"])
def test_what_the_run_cannot_know_is_open_or_does_not_apply(
    real: Evidence, edited: Callable[..., Evidence], name: str
) -> None:
    assert getattr(data_block(real, NONE), name).status == "not_assessed"
    assert getattr(data_block(edited(), NONE), name).status == "not_applicable"
    said = getattr(data_block(real, Answers({f"data.{name}": "2018"})), name)
    assert (said.status, said.value) == ("declared", "2018")


@pytest.mark.parametrize(
    ("change", "source", "unit"),
    [
        (_source("manifest"), "manifest", "one patient with all records"),
        (
            _source("openi"),
            "openi",
            "one patient with all records; openi names no patients, so each report counts as a "
            "patient there",
        ),
        (
            _source("mix", ("a", "phantom"), ("b", "medmnist")),
            "mix of a (phantom), b (medmnist)",
            "one patient with all records; medmnist names no patients, so each image counts as a "
            "patient there",
        ),
    ],
)
def test_a_source_without_patients_does_not_protect_people(
    edited: Callable[..., Evidence], change: Any, source: str, unit: str
) -> None:
    block = data_block(edited(manifest=change), NONE)
    assert block.source.get() == source
    assert block.unit.get() == unit
    assert block.is_simulated.get() is False


def test_a_person_at_two_sites_may_be_counted_twice(edited: Callable[..., Evidence]) -> None:
    evidence = edited(privacy=lambda p: p["population"].update(no_person_at_two_sites="unknown"))
    fact = data_block(evidence, NONE).training_patients
    assert fact.get() == 150
    assert "counts twice" in fact.note
    assert fact.note.endswith("unknown")


def _cells(**counts: tuple[int, int]) -> Callable[[dict[str, Any]], None]:
    def change(metrics: dict[str, Any]) -> None:
        one = metrics["cells"]["both"]
        metrics["cells"] = {
            name.replace("_", " "): {**one, "records": records, "patients": patients}
            for name, (records, patients) in counts.items()
        }

    return change


def test_held_out_patients_are_only_counted_where_a_cell_holds_all_of_them(
    edited: Callable[..., Evidence],
) -> None:
    def held_out(name: str, **counts: tuple[int, int]) -> tuple[str, Any]:
        fact = data_block(edited(name=name, metrics=_cells(**counts)), NONE).held_out_patients
        return fact.status, fact.value

    # Some have only one of the two: neither cell holds everybody.
    split = {"both": (50, 40), "image_only": (70, 52), "text_only": (60, 45)}
    assert held_out("a", **split) == ("derived", "at least 52")
    assert held_out("b", **split, as_is=(80, 57)) == ("measured", 57)
    assert held_out("c", both=(50, 40), image_only=(50, 40), text_only=(50, 40)) == ("measured", 40)
    # Without a cell for text nobody knows who has text alone.
    assert held_out("d", image_only=(50, 40)) == ("derived", "at least 40")
    assert held_out("e") == ("not_assessed", None)
