"""Block ``audit``: what attacks found, and what they could have found at most."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from privfin.errors import UserInputError
from privfin.reporting.blocks_results import (
    AttackResult,
    AttributeResult,
    Audit,
    CanaryTest,
    Interval,
    Inversion,
    TprAtFpr,
)
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import Fact, derived, measured, not_assessed

_AUDIT = "audit.json"
#: Rate of false alarms by which attacks are ranked.
_RANKED_AT = 0.01
#: Who sees every noisy step; nobody does outside an audit.
_WHITE_BOX = "training"
#: How lines on what was left out begin, by what they are about.
_LEFT_OUT = {
    "attribute inference": ("sex:", "age band:", "site:", "had a report:"),
    "gradient inversion": ("gradient inversion:",),
}
#: The view of a coordinator who could read updates, which encryption prevents.
_IF_NOT_ENCRYPTED = "coordinator, no encryption"
_MEASURES = {"psnr": "PSNR, dB", "ssim": "SSIM", "feature_cosine": "feature cosine"}
_WORDS = {
    "phrase_precision": "precision of phrases",
    "phrase_recall": "recall of phrases",
    "bucket_precision": "precision of hashed words",
    "bucket_recall": "recall of hashed words",
}
_VIEWS = (
    "'as sent' is what a site sends, before encryption; the other views are what clipping, noise "
    "and sums over many records keep from everybody"
)
_WORD_PRIOR = "prior: commonest words"


def audit_block(evidence: Evidence) -> Audit:
    """The block; without an audit every field is a gap that says so.

    Raises:
        UserInputError: ``audit.json`` is damaged.
    """
    content = evidence.audit
    if content is None:
        return _nothing(evidence)
    with evidence.reading(_AUDIT):
        return _block(evidence, content)


def _nothing(evidence: Evidence) -> Audit:
    why = f"nobody has attacked this run: privfin audit {evidence.run.path.resolve().name}"
    gap: Fact[Any] = not_assessed(why, "run directory")
    return Audit.model_validate(dict.fromkeys(Audit.model_fields, gap))


def _block(evidence: Evidence, content: dict[str, Any]) -> Audit:
    suite, left_out = str(content["suite"]), tuple(map(str, content["left_out"]))
    attacks = tuple(map(_attack, content["attacks"]))
    canaries = tuple(map(_canary, content["canaries"]))
    _check_verdict(evidence, content, attacks, canaries)

    def rows(what: str, found: tuple[Any, ...], note: str = "") -> Fact[Any]:
        if found:
            return measured(found, _AUDIT, note)
        return not_assessed(_why_not(suite, what, left_out), _AUDIT)

    return Audit(
        was_done=measured(True, _AUDIT),
        verdict=measured(content["verdict"], _AUDIT),
        suite=measured(suite, _AUDIT),
        confidence=measured(float(content["confidence"]), _AUDIT),
        shadow_models=measured(int(content["shadows"]), _AUDIT),
        blind_auc=_number(content["blind_classifier"]["auc"], "the classifier gave no figure"),
        attacks=rows("membership attacks", attacks),
        best_attack=_best(attacks, _is_encrypted(evidence)),
        largest_ceiling=_ceiling(attacks, canaries, _is_encrypted(evidence)),
        canaries=rows("canaries", canaries),
        attributes=rows("attribute inference", tuple(_attributes(content))),
        inversion=rows("gradient inversion", tuple(_inversion(content)), _VIEWS),
        left_out=measured(left_out, _AUDIT),
        contradictions=measured(tuple(map(str, content["contradictions"])), _AUDIT),
        risks=measured(tuple(map(str, content["risks"])), _AUDIT),
    )


def _check_verdict(
    evidence: Evidence,
    content: dict[str, Any],
    attacks: Sequence[AttackResult],
    canaries: Sequence[CanaryTest],
) -> None:
    """Refuse a verdict that is milder than the audit's own rows.

    Raises:
        UserInputError: a bound is above its claim, or a finding is listed, and the verdict does
            not say so.
    """
    rows: list[AttackResult | CanaryTest] = [*attacks, *canaries]
    above = any(one.epsilon_bound is not None and one.epsilon_bound > one.claim for one in rows)
    wrong = above or any(one.is_contradiction for one in canaries) or content["contradictions"]
    least = "contradiction" if wrong else "risk" if content["risks"] else "none found"
    severity = ("none found", "risk", "contradiction")
    if severity.index(content["verdict"]) < severity.index(least):
        raise UserInputError(
            f"{evidence.run.path / _AUDIT} says '{content['verdict']}', but its own rows say "
            f"'{least}': audit the run again"
        )


def _is_encrypted(evidence: Evidence) -> bool:
    return evidence.config.crypto.encryption != "none"


def _number(value: Any, why: str) -> Fact[float]:
    return not_assessed(why, _AUDIT) if value is None else measured(float(value), _AUDIT)


def _why_not(suite: str, what: str, left_out: Sequence[str]) -> str:
    """Why there are no rows: lines that the audit left, or that nobody looked."""
    named = [line for line in left_out if line.startswith(_LEFT_OUT.get(what, ()))]
    if named:
        return "; ".join(named)
    if suite == "quick":
        return f"no {what}: the quick suite has none, or it was told to look as another observer"
    return f"this audit made no {what}: it was told to look as another observer"


def _attack(row: dict[str, Any]) -> AttackResult:
    return AttackResult(
        attack=row["attack"],
        observer=row["observer"],
        stratum=row["stratum"],
        members=row["members"],
        nonmembers=row["nonmembers"],
        auc=Interval(**row["auc"]),
        tpr=tuple(
            TprAtFpr(
                target_fpr=one["target_fpr"],
                tpr=Interval(value=one["tpr"], low=one["tpr_low"], high=one["tpr_high"]),
                fpr=one["fpr"],
                is_resolved=one["resolved"],
            )
            for one in row["tpr"]
        ),
        epsilon_bound=row["epsilon_bound"],
        epsilon_ceiling=row["epsilon_ceiling"],
        claim=row["claim"],
        curve=tuple((x, y) for x, y in row["curve"]),
        note=row["note"],
    )


def _canary(row: dict[str, Any]) -> CanaryTest:
    area = row["auc"]
    return CanaryTest(
        kind=row["kind"],
        level=row["level"],
        observer=row["observer"],
        canaries=row["canaries"],
        epsilon_bound=row["epsilon_bound"],
        epsilon_ceiling=row["ceiling"],
        claim=row["claim"],
        is_contradiction=row["contradiction"],
        auc=area and Interval(value=area["area"], low=area["low"], high=area["high"]),
        note=row["note"],
    )


def _counts(attack: AttackResult, is_encrypted: bool) -> bool:
    """Whether an attack is on all patients, and by somebody who could make it on this run."""
    if is_encrypted and attack.observer == _IF_NOT_ENCRYPTED:
        return False
    return attack.stratum == "all"


def _best(attacks: Sequence[AttackResult], is_encrypted: bool) -> Fact[int]:
    """The attack on all patients that finds most members at 1 % false alarms, ties by AUC.

    An attack on updates that encryption hides is no attack on this run and does not count.
    """

    def success(at: int) -> tuple[float, float]:
        point = _ranked(attacks[at])
        return point.tpr.value or 0.0, attacks[at].auc.value or 0.0

    counted = [at for at, one in enumerate(attacks) if _counts(one, is_encrypted)]
    if not counted:
        return not_assessed("no attack was made on all patients together", _AUDIT)
    best = max(counted, key=success)
    note = "" if _ranked(attacks[best]).is_resolved else (
        f"with {attacks[best].nonmembers} non-members, 1 % false alarms cannot be told from none"
    )  # fmt: skip
    return derived(best, f"{_AUDIT}, share of members found at 1 % false alarms", note)


def _ranked(attack: AttackResult) -> TprAtFpr:
    for point in attack.tpr:
        if math.isclose(point.target_fpr, _RANKED_AT):
            return point
    raise ValueError(f"{attack.attack} has no rate of false alarms of {_RANKED_AT}")


def _ceiling(
    attacks: Sequence[AttackResult], canaries: Sequence[CanaryTest], is_encrypted: bool
) -> Fact[Any]:
    """The largest ceiling of the bounds of observers who exist; the note has every observer's.

    A test that sees every noisy step of single records (white box) can show far more than anybody
    who gets what the run releases: it is in the note and not in the value.
    """
    found: list[tuple[float, str, str]] = []
    for one in attacks:
        if one.epsilon_ceiling is not None and _counts(one, is_encrypted):
            found.append((one.epsilon_ceiling, one.observer, f"attack {one.attack}"))
    for test in canaries:
        if test.epsilon_ceiling is not None:
            what = f"canaries ({test.kind}, {test.level}; {test.note})"
            found.append((test.epsilon_ceiling, test.observer, what))
    if not found:
        return not_assessed("the audit states no bound, so there is no ceiling", _AUDIT)
    largest: dict[str, tuple[float, str]] = {}
    for ceiling, observer, what in found:
        largest[observer] = max(largest.get(observer, (-math.inf, "")), (ceiling, what))
    note = ". ".join(
        f"{observer}: at most {ceiling:.3g}, by {what}"
        for observer, (ceiling, what) in largest.items()
    )
    seen = [ceiling for ceiling, observer, _ in found if observer != _WHITE_BOX]
    if not seen:
        return not_assessed(f"no bound was stated but for the white box. {note}", _AUDIT)
    return derived(max(seen), f"{_AUDIT}, all bounds but those of the white box", note)


def _attributes(content: dict[str, Any]) -> Iterator[AttributeResult]:
    for row in content["attributes"]:
        gain = row["balanced_accuracy"]
        yield AttributeResult(
            attribute=row["attribute"],
            seen="features and scores of each record",
            patients=row["patients"],
            chance=row["prior"],
            with_model=Interval(value=gain["with_model"]),
            without_model=Interval(value=gain["without_model"]),
            difference=Interval(value=gain["difference"], low=gain["low"], high=gain["high"]),
        )


def _inversion(content: dict[str, Any]) -> Iterator[Inversion]:
    found = content["inversion"]
    if found is None:
        return
    each = {one["view"]: one for one in found["views"]}
    for gain in found["gains"]:
        value = fmean(each[gain["view"]][gain["measure"]])
        yield Inversion(
            view=gain["view"],
            measure=_MEASURES[gain["measure"]],
            value=value,
            prior=value - gain["mean"],
            difference=Interval(value=gain["mean"], low=gain["low"], high=gain["high"]),
            verdict=gain["verdict"],
        )
    yield from _words(found["words"])


def _words(rows: Sequence[dict[str, Any]]) -> Iterator[Inversion]:
    """Words of reports: phrases, or hashed words where phrases were not looked for."""
    each = {one["view"]: one for one in rows}
    for view, row in each.items():
        prior = each.get(f"{_WORD_PRIOR}, batch" if view.startswith("batch") else _WORD_PRIOR)
        if ":" in view or prior is None:
            continue
        wanted = "phrase" if "phrase_recall" in row else "bucket"
        for name, measure in _WORDS.items():
            if not name.startswith(wanted) or row[name] is None or prior.get(name) is None:
                continue
            yield Inversion(
                view=view,
                measure=measure,
                value=row[name],
                prior=prior[name],
                difference=Interval(value=row[name] - prior[name]),
                verdict="",
            )
