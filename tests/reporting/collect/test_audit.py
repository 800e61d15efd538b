"""What attacks found is shown as they found it; what nobody tried is a gap that says so.

The content of ``audit.json`` is made by the classes that write it, so that a change of its form
breaks these tests.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attacks.attempt import Attempt
from attacks.attributes import AttributeResult, Gain
from attacks.bounds import Bound
from attacks.guards import BlindResult
from attacks.measure import measure
from attacks.reconstruction.words import Recovery
from privfin.auditing.canary_results import CanaryResult
from privfin.auditing.inversion_result import InversionResult, Picture, Words
from privfin.auditing.report import AuditReport, Claim
from privfin.errors import UserInputError
from privfin.reporting.blocks_results import Audit
from privfin.reporting.collect.audit import audit_block
from privfin.reporting.evidence import Evidence

MEMBERS = np.arange(800) % 2 == 0
CLAIMS = {
    name: Claim(8.0, 1e-5)
    for name in ("outsider", "site", "coordinator", "coordinator, no encryption")
}


def _attempt(name: str, observer: str, strength: float, stratum: str = "all") -> Attempt:
    """Scores that tell members apart the better the larger ``strength`` is."""
    noise = np.random.default_rng(len(name)).normal(size=MEMBERS.size)
    return Attempt(name, observer, stratum, noise + strength * MEMBERS, MEMBERS, "a note")


def _canary(kind: str, observer: str, bound: Bound | None, contradiction: bool = False) -> Any:
    attempt = _attempt("canary", observer, 0.1)
    return CanaryResult(
        kind, "patient", observer, 800, 400, bound, 8.0, None, contradiction, f"of {kind}", 0.99,
        attempt,
    )  # fmt: skip


def _inversion() -> dict[str, Any]:
    cosines = {"prior: mean": 0.1, "one record": 0.9, "one record, round as sent": 0.1}
    pictures = [
        Picture(view, target, None, None, value + target / 100, 1.0, None)
        for view, value in cosines.items()
        for target in range(6)
    ]
    words = [
        Words("prior: commonest words", 0, Recovery(4, 1, 4), Recovery(4, 2, 4)),
        Words("prior: commonest words, batch", None, Recovery(4, 1, 4), Recovery(4, 3, 4)),
        Words("one record", 0, Recovery(4, 4, 4), Recovery(4, 4, 4)),
        Words("batch", None, Recovery(4, 4, 4), Recovery(4, 4, 4)),
    ]
    return InversionResult("site-01", "scattering", 6, 0, pictures, words).to_dict()


def _report(**changes: Any) -> AuditReport:
    attempts = [
        _attempt("weak", "outsider", 0.0),
        _attempt("strong", "outsider", 1.0),
        _attempt("narrow", "outsider", 3.0, "image only"),
        _attempt("listener", "coordinator", 0.5),
        _attempt("without encryption", "coordinator, no encryption", 2.0),
    ]
    report = AuditReport(
        "a run", "full", 0.95, 16, CLAIMS, BlindResult(0.51, 0.44, "a forest"),
        [
            measure(one, delta=1e-5, tests=4 if one.stratum == "all" else 0)
            for one in attempts
        ],
        canaries=[
            _canary("all kinds", "outsider", Bound(0.1, 4.5, 1e-5, 0.99)),
            _canary("rare phrase", "outsider", None),
            _canary("gradient", "training", Bound(3.0, 60.0, 1e-5, 0.99, 0.8)),
        ],
        views={},
        attributes=[
            AttributeResult(
                "sex", ("F", "M"), 300, 0.5, Gain(0.7, 0.6, 0.1, 0.05, 0.15),
                Gain(0.8, 0.7, 0.1, 0.0, 0.2),
            ).to_dict()
        ],
        inversion=_inversion(),
        left_out=["stacked: too few shadow models"],
    )  # fmt: skip
    return replace(report, **changes)


Block = Callable[..., Audit]


@pytest.fixture
def block(edited: Callable[..., Evidence]) -> Block:
    """The block of an audit with changes."""

    number = itertools.count()

    def make(manifest: Any = lambda m: None, **changes: Any) -> Audit:
        content = _report(**changes).to_dict()
        return audit_block(edited(name=f"run-{next(number)}", audit=content, manifest=manifest))

    return make


def test_without_an_audit_everything_is_a_gap(edited: Callable[..., Evidence]) -> None:
    found = audit_block(edited(name="first"))
    for name in Audit.model_fields:
        fact = getattr(found, name)
        assert fact.status == "not_assessed", name
        assert fact.note == "nobody has attacked this run: privfin audit first"


def test_rows_are_those_of_the_file(block: Block) -> None:
    found, content = block(), _report().to_dict()
    assert found.was_done.get() is True
    assert found.verdict.get() == "none found"
    assert (found.suite.get(), found.confidence.get(), found.shadow_models.get()) == (
        "full", 0.95, 16,
    )  # fmt: skip
    assert found.blind_auc.get() == 0.51
    assert found.left_out.get() == ("stacked: too few shadow models",)
    for row, said in zip(found.attacks.get(), content["attacks"], strict=True):
        assert row.auc.model_dump() == said["auc"]
        assert (row.members, row.nonmembers) == (400, 400)
        assert (row.epsilon_bound, row.epsilon_ceiling, row.claim) == (
            said["epsilon_bound"], said["epsilon_ceiling"], 8.0,
        )  # fmt: skip
        assert [list(point) for point in row.curve] == said["curve"]
        for point, of in zip(row.tpr, said["tpr"], strict=True):
            assert (point.target_fpr, point.fpr, point.is_resolved) == (
                of["target_fpr"], of["fpr"], of["resolved"],
            )  # fmt: skip
            assert (point.tpr.value, point.tpr.low, point.tpr.high) == (
                of["tpr"], of["tpr_low"], of["tpr_high"],
            )  # fmt: skip
        assert row.note == "a note"


def test_the_best_attack_is_on_all_patients_and_one_that_could_be_made(block: Block) -> None:
    def names(found: Audit) -> str:
        return found.attacks.get()[found.best_attack.get()].attack

    # One on a part of the patients finds more; so does one that encryption prevents.
    found = block()
    assert names(found) == "strong"
    assert found.best_attack.note == ""


def test_without_encryption_the_coordinator_reads_updates(block: Block) -> None:
    def off(manifest: dict[str, Any]) -> None:
        manifest["config"]["crypto"]["encryption"] = "none"

    found = block(off)
    assert found.attacks.get()[found.best_attack.get()].attack == "without encryption"


def test_ties_at_few_false_alarms_are_broken_by_auc(block: Block) -> None:
    # Both find nobody before the first false alarm; only one ranks members above others at all.
    top = np.where(np.arange(800) == 1, 9.0, 0.0)
    low, high = (
        Attempt(name, "outsider", "all", top + strength * MEMBERS, MEMBERS)
        for name, strength in (("low", -1.0), ("high", 0.0))
    )
    found = block(measured=[measure(one, delta=1e-5, tests=2) for one in (low, high)])
    assert found.attacks.get()[0].tpr[0].tpr.value == found.attacks.get()[1].tpr[0].tpr.value
    assert found.best_attack.get() == 1


def test_too_few_patients_for_the_rate_are_said(block: Block) -> None:
    few = MEMBERS[:60]
    one = Attempt("loss", "outsider", "all", np.arange(60.0), few)
    found = block(measured=[measure(one, delta=1e-5)])
    assert found.best_attack.note == (
        "with 30 non-members, 1 % false alarms cannot be told from none"
    )


def test_no_attack_on_all_patients_is_no_best_attack(block: Block) -> None:
    part = [measure(_attempt("a", "outsider", 1.0, "both"), delta=1e-5, tests=0)]
    found = block(measured=part, canaries=[])
    assert found.best_attack.status == "not_assessed"
    assert found.largest_ceiling.status == "not_assessed"


def test_the_ceiling_is_not_that_of_the_white_box(block: Block) -> None:
    found = block()
    attacks = [row.epsilon_ceiling for row in found.attacks.get() if row.epsilon_ceiling]
    assert found.largest_ceiling.get() == max(4.5, *attacks)
    assert found.largest_ceiling.get() < 60.0
    note = found.largest_ceiling.note
    assert "training: at most 60, by canaries (gradient, patient; of gradient)" in note
    assert "outsider: at most " in note
    assert "coordinator: at most " in note
    assert "no encryption" not in note
    white = _canary("gradient", "training", Bound(3.0, 60.0, 1e-5, 0.99, 0.8))
    only = block(measured=[], canaries=[white]).largest_ceiling
    assert only.status == "not_assessed"
    assert "at most 60" in only.note


def test_canaries_attributes_and_inversion(block: Block) -> None:
    found = block()
    first, second, white = found.canaries.get()
    assert (first.epsilon_bound, first.epsilon_ceiling, first.claim) == (0.1, 4.5, 8.0)
    assert (second.epsilon_bound, second.epsilon_ceiling) == (None, None)
    assert white.observer == "training"
    assert first.auc is not None
    assert first.note == "of all kinds"
    (sex,) = found.attributes.get()
    assert (sex.attribute, sex.patients, sex.chance) == ("sex", 300, 0.5)
    assert (sex.with_model.value, sex.without_model.value) == (0.7, 0.6)
    assert (sex.difference.low, sex.difference.high) == (0.05, 0.15)
    rows = {(row.view, row.measure): row for row in found.inversion.get()}
    alone = rows["one record", "feature cosine"]
    assert alone.value == pytest.approx(0.9 + 0.025)
    assert alone.prior == pytest.approx(0.1 + 0.025)
    assert alone.difference.value == pytest.approx(0.8)
    assert alone.verdict.startswith("better than the prior by 0.80")
    sent = rows["one record, round as sent", "feature cosine"]
    assert sent.difference.value == pytest.approx(0.0)
    assert rows["one record", "recall of phrases"].prior == 0.5
    assert rows["batch", "recall of phrases"].prior == 0.75
    assert rows["one record", "precision of phrases"].difference.value == 0.5
    assert not any("hashed" in measure for _, measure in rows)
    assert "before encryption" in found.inversion.note


def test_words_without_phrases_are_hashed_words(block: Block) -> None:
    words = [
        Words("prior: commonest words", 0, Recovery(4, 1, 4), None),
        Words("one record", 0, Recovery(4, 4, 4), None),
    ]
    made = InversionResult("site-01", "scattering", 1, 0, [], words).to_dict()
    rows = block(inversion=made).inversion.get()
    assert {row.measure for row in rows} == {
        "precision of hashed words", "recall of hashed words",
    }  # fmt: skip
    assert all((row.value, row.prior) == (1.0, 0.25) for row in rows)


@pytest.mark.parametrize(
    ("changes", "field", "why"),
    [
        ({"suite": "quick", "canaries": ()}, "canaries", "the quick suite has none"),
        ({"suite": "quick", "attributes": ()}, "attributes", "the quick suite has none"),
        ({"suite": "quick", "inversion": None}, "inversion", "the quick suite has none"),
        ({"canaries": ()}, "canaries", "told to look as another observer"),
        (
            {"inversion": None, "left_out": ["gradient inversion: no pairs", "sex: one value"]},
            "inversion",
            "gradient inversion: no pairs",
        ),
        (
            {"attributes": (), "left_out": ["gradient inversion: no pairs", "sex: one value"]},
            "attributes",
            "sex: one value",
        ),
    ],
)
def test_what_was_not_tried_is_a_gap_with_its_reason(
    block: Block, changes: dict[str, Any], field: str, why: str
) -> None:
    fact = getattr(block(**changes), field)
    assert fact.status == "not_assessed"
    assert why in fact.note


def test_a_contradiction_and_a_risk_are_kept_word_for_word(block: Block) -> None:
    bad = _canary("all kinds", "outsider", Bound(9.0, 12.0, 1e-5, 0.99), contradiction=True)
    found = block(canaries=[bad])
    assert found.verdict.get() == "contradiction"
    assert found.contradictions.get() == tuple(_report(canaries=[bad]).contradictions)
    assert found.canaries.get()[0].is_contradiction
    found = block(risks=["auc>0.6: passed"])
    assert (found.verdict.get(), found.risks.get()) == ("risk", ("auc>0.6: passed",))


def test_a_claim_of_nothing_is_infinite(block: Block) -> None:
    nothing = {name: Claim(float("inf"), 1e-5) for name in CLAIMS}
    found = block(claims=nothing)
    assert {row.claim for row in found.attacks.get()} == {float("inf")}
    assert json.loads(found.model_dump_json())["attacks"]["value"][0]["claim"] == "inf"


@pytest.mark.parametrize(
    "broken",
    [
        lambda a: a.pop("attacks"),
        lambda a: a["attacks"][0].pop("auc"),
        lambda a: a.update(verdict="safe"),
        lambda a: a.update(attacks=[1]),
        lambda a: a["attacks"][0].update(tpr=[]),
        lambda a: a["inversion"]["gains"][0].update(view="nothing"),
        lambda a: a["canaries"][0].update(canaries="many", claim=-1),
    ],
)
def test_a_damaged_audit_is_refused_in_one_line(
    edited: Callable[..., Evidence], broken: Callable[[dict[str, Any]], object]
) -> None:
    content = _report().to_dict()
    broken(content)
    evidence = edited(audit=content)
    with pytest.raises(UserInputError, match=r"audit\.json is damaged") as caught:
        audit_block(evidence)
    assert "\n" not in str(caught.value)


def test_a_real_audit_is_read(edited: Callable[..., Evidence]) -> None:
    from privfin.cli.app import run
    from privfin.reporting.evidence import read_evidence

    path: Path = edited().run.path
    assert run(["audit", str(path), "--shadows", "0", "--json"]) == 0
    found = audit_block(read_evidence(path))
    content: Sequence[Any] = json.loads((path / "audit.json").read_text())["attacks"]
    best = found.attacks.get()[found.best_attack.get()]
    everybody = [row for row in content if row["stratum"] == "all"]
    assert best.tpr[0].tpr.value == max(row["tpr"][0]["tpr"] for row in everybody)
    assert found.largest_ceiling.get() == max(row["epsilon_ceiling"] for row in everybody)
    assert found.canaries.status == found.inversion.status == "not_assessed"
