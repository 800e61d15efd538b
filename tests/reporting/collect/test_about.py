"""A report says what it is; with a fixed time the same input gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import pytest

from privfin.errors import UserInputError
from privfin.reporting.answers.answers import Answers
from privfin.reporting.collect.about import about_block
from privfin.reporting.evidence import Evidence

NONE = Answers({})
EPOCH = "SOURCE_DATE_EPOCH"


@pytest.fixture(autouse=True)
def _no_fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(EPOCH, raising=False)


def test_without_a_fixed_time_every_report_is_another(edited: Callable[..., Evidence]) -> None:
    evidence = edited()
    first, second = (about_block(evidence, NONE, "officer") for _ in range(2))
    assert first.report_id.get() != second.report_id.get()
    assert len(first.report_id.get()) == 32
    assert datetime.fromisoformat(first.created.get()).utcoffset() is not None
    assert (first.report_id.status, first.created.source) == ("measured", "clock")


def test_with_a_fixed_time_the_same_input_gives_the_same_block(
    edited: Callable[..., Evidence], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(EPOCH, "1767322800")
    evidence = edited()
    first = about_block(evidence, NONE, "officer")
    assert first == about_block(evidence, NONE, "officer")
    assert first.created.get() == "2026-01-02T03:00:00+00:00"
    assert (first.created.status, first.created.source) == ("declared", EPOCH)
    others = [
        about_block(evidence, NONE, "public"),
        about_block(evidence, Answers({"purpose.people": "x"}), "officer"),
        about_block(evidence, NONE, "officer", [edited(name="other")]),
        about_block(edited(name="b", metrics=lambda m: m.update(x=1)), NONE, "officer"),
    ]
    model = evidence.run.path / "model.safetensors"
    content = model.read_bytes()  # one bit of the last weight, and the same length
    model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    others.append(about_block(evidence, NONE, "officer"))
    monkeypatch.setenv(EPOCH, "1767322801")
    others.append(about_block(evidence, NONE, "officer"))
    assert len({one.report_id.get() for one in (first, *others)}) == len(others) + 1


@pytest.mark.parametrize("text", ["soon", "1.5", "9" * 30])
def test_a_time_that_is_none_is_refused(
    edited: Callable[..., Evidence], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv(EPOCH, text)
    with pytest.raises(UserInputError, match="seconds since 1970"):
        about_block(edited(), NONE, "officer")


@pytest.mark.parametrize(
    ("audience", "release"),
    [("officer", "internal"), ("engineer", "internal"), ("public", "public")],
)
def test_only_the_public_report_may_travel(
    edited: Callable[..., Evidence], audience: str, release: str
) -> None:
    block = about_block(edited(), NONE, audience)  # type: ignore[arg-type]
    assert block.audience.get() == audience
    assert block.release_class.get() == release


def test_the_run_is_named_without_its_folder(edited: Callable[..., Evidence]) -> None:
    evidence = edited(name="first")
    block = about_block(evidence, NONE, "officer")
    assert block.run_name.get() == "first"
    assert block.run_id.get() == evidence.manifest["run_id"]
    assert block.run_created.get() == evidence.manifest["created"]
    assert str(evidence.run.path.parent) not in block.model_dump_json()


def test_another_version_of_the_program_is_said(edited: Callable[..., Evidence]) -> None:
    same = about_block(edited(), NONE, "officer").tool
    assert same.note == ""
    older = edited(name="older", manifest=lambda m: m["versions"].update(privfin="0.0.1"))
    assert about_block(older, NONE, "officer").tool.note == "the run was made with privfin 0.0.1"


def test_a_time_limit_comes_from_people_alone(edited: Callable[..., Evidence]) -> None:
    evidence = edited()
    assert about_block(evidence, NONE, "officer").valid_until.status == "not_assessed"
    block = about_block(evidence, Answers({"report.valid_until": "2027-12-31"}), "officer")
    assert (block.valid_until.status, block.valid_until.get()) == ("declared", "2027-12-31")
