"""LiRA on answers to a record with one modality dropped, and on the gap that this makes.

A model that fuses modalities may give a patient away by how much worse it answers without one of
them, even where the answer with all of them tells nothing: see
:func:`attacks.scores.modality_signals`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from attacks import scores
from attacks.attempt import Attempt
from attacks.limits import BoolArray, FloatArray
from attacks.patients import by_patient, owners
from privfin.auditing.membership import Answers, own_variance, shadow_note
from privfin.models.multimodal import Batch


def with_every_modality(queries: Batch, answers: Answers) -> BoolArray:
    """(patients,) those all of whose records have every modality, so that one can be dropped."""
    present = torch.stack(list(queries.present.values()))
    whole = present.all(dim=0).numpy() if len(present) > 1 else np.zeros(len(queries), dtype=bool)
    return np.array([bool(whole[rows].all()) for rows in answers.patients], dtype=bool)


def dropped_attempts(
    ask: Callable[[Batch], FloatArray],
    queries: Batch,
    answers: Answers,
    chosen: BoolArray,
    stratum: str,
) -> list[Attempt]:
    """Two attacks for each modality: without it, and on the gap between with and without it.

    Args:
        ask: gives (1 + M, records, L) logits of the audited model and the shadow models.
        queries: a row a record of ``answers``.
        answers: of all patients, to the records as they were trained with.
        chosen: (patients,) whom to attack; every record of theirs has every modality.
        stratum: what to call them.
    """
    as_trained = answers.of(chosen)
    rows = owners(as_trained.patients, len(as_trained.labels))
    found = []
    for dropped in queries.inputs:
        kept = frozenset(m for m in queries.inputs if m != dropped)
        logits = ask(queries.only(kept))
        without = replace(answers, target=logits[0], shadows=logits[1:]).of(chosen)
        own, others = (
            scores.label_signals(z, without.labels) for z in (without.target, without.shadows)
        )
        whole, wholes = (
            scores.label_signals(z, without.labels) for z in (as_trained.target, as_trained.shadows)
        )
        modes: tuple[tuple[str, FloatArray, FloatArray, scores.likelihood.Mode], ...] = (
            (f"lira without {dropped}", own, others, "offline"),
            # Training may widen or narrow a gap: shadows with the record say which.
            (f"lira gap of {dropped}", whole - own, wholes - others, "online"),
        )
        for name, target, shadows, mode in modes:
            variance = own_variance(without.inside, both=mode == "online")
            score = scores.lira(target, shadows, without.inside, mode=mode, variance=variance)
            found.append(
                Attempt(
                    name,
                    "outsider",
                    stratum,
                    by_patient(score, rows),
                    without.members,
                    shadow_note(without),
                )
            )
    return found
