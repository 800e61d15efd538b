"""Page one: what a report says, in plain words, the same in every format."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from privfin.reporting.blocks_people import Sentence
from privfin.reporting.schema import Report
from privfin.reporting.summary.answer import Answer
from privfin.reporting.summary.attacks import attacked
from privfin.reporting.summary.open_points import decide, not_covered, verify
from privfin.reporting.summary.privacy import odds, protected
from privfin.reporting.summary.run import budget, left_sites, trained


class _Question(NamedTuple):
    key: str
    text: str
    answer: Callable[[Report], Answer]


_QUESTIONS = (
    _Question("trained", "What was trained, and for whom?", trained),
    _Question("protected", "Who is protected?", protected),
    _Question("odds", "What could somebody still learn about one patient?", odds),
    _Question("attacked", "Was it attacked, and what was found?", attacked),
    _Question("budget", "How much of each budget is used?", budget),
    _Question("left-sites", "What left the sites, and who could read it?", left_sites),
    _Question("not-covered", "What is not covered?", not_covered),
    _Question("decide", "What does a person still have to decide?", decide),
    _Question("verify", "How is this report checked?", verify),
)


def summarise(report: Report) -> tuple[Sentence, ...]:
    """The answers of page one, in order; each of one to three sentences.

    Args:
        report: with every other block filled in. A released report gives released words.
    """
    return tuple(
        Sentence(
            key=one.key,
            question=one.text,
            text=answer.text,
            tone=answer.tone,
            fields=answer.fields,
        )
        for one in _QUESTIONS
        for answer in [one.answer(report)]
    )
