"""Block ``other_releases``: what the guarantee does not cover."""

from __future__ import annotations

from collections.abc import Iterator

from privfin.reporting.answers.answers import Answers
from privfin.reporting.answers.questions import answered
from privfin.reporting.blocks_people import OtherReleases, Release
from privfin.reporting.evidence import Evidence
from privfin.reporting.facts import derived, measured

_READERS = "whoever gets {} or this report"
_IN_WORDS = {
    "auroc": "AUROC",
    "auprc": "average precision",
    "brier": "Brier score",
    "calibration": "calibration error",
}


def other_releases_block(evidence: Evidence, answers: Answers) -> OtherReleases:
    """The block: the statement's own list, and each output that was computed without noise."""
    return OtherReleases(
        not_covered=measured(tuple(evidence.privacy["not_covered"]), "privacy.json"),
        releases=derived(tuple(_releases(evidence)), "files of the run and its configuration"),
        justification=answered(evidence, answers, "other_releases.justification"),
    )


def _releases(evidence: Evidence) -> Iterator[Release]:
    metrics, config = evidence.metrics, evidence.config
    readers = _READERS.format("metrics.json")
    figures = ", ".join(
        words for name, words in _IN_WORDS.items() if name in config.evaluation.metrics
    )
    yield Release(
        what="number of patients and modalities of each site", seen_by="everybody who takes part"
    )
    yield Release(
        what="SHA-256 of each site's and of the held-out patients' data, and what was left out in "
        "reading",
        seen_by=_READERS.format("manifest.json"),
    )
    if metrics["cells"]:
        what = "exact numbers of held-out records, patients, positives and negatives, by cell and "
        yield Release(
            what=f"{what}label" + (f", with {figures}" if figures else ""), seen_by=readers
        )
    if "federated" in metrics:
        yield Release(
            what="sums over all sites of held-out patients' counts by cell, label and bin of score",
            seen_by="every site that takes part",
        )
    if metrics["groups"]:
        kinds = ", ".join(metrics["groups"])
        yield Release(what=f"the same by group ({kinds}) of held-out patients", seen_by=readers)
    if "loss" in config.evaluation.metrics and not config.evaluation.secure:
        yield Release(
            what="mean loss on the held-out patients after every round",
            seen_by="whoever watches the training",
        )
    if "chosen_round" in metrics:
        yield Release(
            what="the round that is best on the validation patients, and its AUROC on them",
            seen_by=readers,
        )
    if "fine_tuned" in metrics:
        yield Release(
            what="mean, least and greatest AUROC of the sites' own models on held-out patients",
            seen_by=readers,
        )
    if evidence.audit is not None:
        yield Release(
            what="success of attacks on patients in training and held out, with ROC curves",
            seen_by=_READERS.format("audit.json"),
        )
