"""Answers are what a person wrote: nothing is guessed, and nothing odd gets in unnoticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privfin.errors import UserInputError
from privfin.reporting.answers.answers import Answers, RiskAnswer, read_answers
from privfin.reporting.answers.asked import ASKED, LEVELS, asked, risk_keys, signature_keys

Reader = Callable[[str], Answers]


@pytest.fixture
def read(tmp_path: Path) -> Reader:
    """Reads an answers file with this content."""

    def call(content: str) -> Answers:
        path = tmp_path / "answers.toml"
        path.write_text(content, encoding="utf-8")
        return read_answers(path)

    return call


def test_an_answer_is_declared_and_a_missing_one_is_a_gap(read: Reader) -> None:
    answers = read('[purpose]\nlegal_basis = " consent "\npermit = "  "')
    said, blank, absent = (
        answers.text(f"purpose.{k}") for k in ("legal_basis", "permit", "people")
    )
    assert (said.status, said.value, said.source) == ("declared", "consent", "answers file")
    assert blank.status == absent.status == "not_assessed"
    assert answers.values == {"purpose.legal_basis": "consent"}


def test_every_kind_of_answer_is_read(read: Reader) -> None:
    answers = read(
        """
        tuning.trials = 0
        report.valid_until = 2027-12-31
        [sign_off.controller]
        date = "2026-12-01"
        [risks.identity-linkage]
        severity = "maximal"
        decision = "first a fourth site"
        """
    )
    assert answers.count("tuning.trials").value == 0
    assert answers.text("report.valid_until").value == "2027-12-31"
    assert answers.said("sign_off.controller.date") == "2026-12-01"
    assert answers.risk("identity-linkage") == RiskAnswer("maximal", None, "first a fourth site")
    assert answers.risk("membership") == RiskAnswer(None, None, None)
    assert answers.count("tuning.trials").status == "declared"
    assert Answers({}).count("tuning.trials").status == "not_assessed"


@pytest.mark.parametrize("level", LEVELS)
def test_the_four_levels_are_taken(read: Reader, level: str) -> None:
    answers = read(f'risks.membership.likelihood = "{level}"')
    assert answers.risk("membership").likelihood == level


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('purpose.legal_bases = "x"', "unknown question 'purpose.legal_bases'; did you mean"),
        ('purpose.legal_bases = "x"', "'purpose.legal_basis'?"),
        ('risks.membership.severty = "x"', "did you mean 'risks.membership.severity'?"),
        ('sign_off.controler.name = "x"', "did you mean 'sign_off.controller.name'?"),
        ('risks."Member Ship".severity = "x"', "unknown question 'risks.Member Ship.severity'"),
        ("[purposes]", "unknown question 'purposes'"),
        ('purpose = "x"', "unknown question 'purpose'"),
        ("purpose.people = 3", "purpose.people must be a text, not 3"),
        ("purpose.people = true", "purpose.people must be a text, not True"),
        ('purpose.people = ["a"]', "purpose.people must be a text, not a list"),
        ('[purpose.people]\nx = "a"', "purpose.people must be a text, not a table"),
        ("[purpose.people]", "purpose.people must be a text, not a table"),
        ('tuning.trials = "12"', "tuning.trials must be a whole number from 0 to 1000000000"),
        ("tuning.trials = -1", "not -1"),
        ("tuning.trials = true", "not True"),
        ("tuning.trials = 1.5", "not 1.5"),
        ("tuning.trials = 99999999999", "not 99999999999"),
        (
            'report.valid_until = "31.12.2027"',
            "must be a date such as 2027-12-31, not '31.12.2027'",
        ),
        ('report.valid_until = "2027-02-30"', "must be a date such as 2027-12-31"),
        ('report.valid_until = "20271231"', "must be a date such as 2027-12-31"),
        ("report.valid_until = 2027-12-31T00:00:00", "must be a date such as 2027-12-31"),
        ("report.valid_until = 2027", "must be a date such as 2027-12-31, not 2027"),
        ('risks.membership.severity = "high"', "negligible, limited, significant, maximal, not"),
        ('risks.membership.severity = "Limited"', "not 'Limited'"),
        ('purpose.people = "a\\u0007b"', "the control character U+0007"),
        ('purpose."people" = "a"\n"purpose.people" = "b"', "purpose.people is answered twice"),
        ("purpose = ", "is not valid TOML"),
    ],
)
def test_what_is_not_an_answer_is_refused_in_one_line(
    read: Reader, content: str, message: str
) -> None:
    with pytest.raises(UserInputError) as caught:
        read(content)
    said = str(caught.value)
    assert message in said
    assert "answers.toml" in said
    assert "\n" not in said


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserInputError, match=r"cannot read .*nothing.toml"):
        read_answers(tmp_path / "nothing.toml")
    (tmp_path / "latin.toml").write_bytes(b'purpose.people = "\xe4"')
    with pytest.raises(UserInputError, match="not valid TOML"):
        read_answers(tmp_path / "latin.toml")


@pytest.mark.parametrize("ask", ["text", "count", "has", "said"])
def test_nobody_can_ask_what_is_no_question(ask: str) -> None:
    with pytest.raises(KeyError):
        getattr(Answers({}), ask)("purpose.legal_bases")


def test_an_answer_about_a_risk_that_is_not_there_is_refused() -> None:
    answers = Answers({"risks.membrship.severity": "limited"}, "a.toml")
    answers.check_risks(["membrship"])
    with pytest.raises(UserInputError, match=r"^a\.toml: .*did you mean 'membership'\?$"):
        answers.check_risks(["membership", "attribute"])
    with pytest.raises(UserInputError, match=r"known: none"):
        answers.check_risks([])


@pytest.mark.parametrize("key", [*ASKED, *risk_keys(["a-risk"]), *signature_keys()])
def test_every_example_is_an_answer(read: Reader, key: str) -> None:
    one: Any = asked(key)
    answers = read(f"{key} = {one.example}")
    assert answers.has(key)
    assert one.key == key
    assert "{" not in one.text
