"""Numbers of a report are found again from the run directory, without the code that made them.

Epsilon by dp_accounting alone, AUROC by scikit-learn from the stored model and the held-out
records, bytes from the sizes of messages in ``docs/reference/messages.md``. What is compared are
the report's blocks where they exist, and the files that blocks are made from.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score, roc_auc_score

from privfin.config import parse_config
from privfin.models.segments import initial_model
from privfin.reporting.collect.accounting import accounting_block
from privfin.reporting.collect.exchange import exchange_block
from privfin.reporting.collect.guarantee import guarantee_block
from privfin.reporting.collect.mechanism import mechanism_block
from privfin.reporting.collect.utility import utility_block
from privfin.reporting.evidence import Evidence

Runs = Callable[[str], Path]
Of = Callable[[str], Evidence]

#: Of privacy losses. The report's accountant uses this one for runs of this size: with it nothing
#: but rounding may differ.
GRID = 1e-3
#: A ten times finer grid gives a smaller upper bound on the same epsilon: measured, by 1e-7 to
#: 3e-6 of it, for runs like these. It never gives a larger one.
FINER, GRID_COSTS = 1e-4, 1e-5


def read(path: Path, name: str) -> dict[str, Any]:
    return dict(json.loads((path / name).read_text()))


def events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (path / "events.jsonl").read_text().splitlines()]


def steps_of(path: Path) -> dict[str, int]:
    """Steps by site: started rounds times local steps, and what was fine-tuned."""
    training = read(path, "manifest.json")["config"]["training"]
    found: Counter[str] = Counter()
    for event in events(path):
        if event["event"] == "site-round-started":
            found[event["site"]] += training["local_steps"]
        elif event["event"] == "site-fine-tuning-started":
            found[event["site"]] += training["fine_tune_steps"]
    return dict(found)


@cache
def epsilon_of(steps: tuple[tuple[float, float, int], ...], delta: float, grid: float) -> float:
    """Of (noise multiplier, sampling rate, steps), all together."""
    accountant = PLDAccountant(value_discretization_interval=grid)
    for noise, rate, count in steps:
        step = dp_event.PoissonSampledDpEvent(rate, dp_event.GaussianDpEvent(noise))
        accountant.compose(step, count)
    return float(accountant.get_epsilon(delta))


def spent(path: Path) -> dict[str, tuple[tuple[float, float, int], float]]:
    """What each site ran, and its delta."""
    steps = steps_of(path)
    return {
        one["site"]: (
            (one["noise_multiplier"], one["sampling_rate"], steps[one["site"]]),
            one["delta"],
        )
        for one in read(path, "manifest.json")["plan"]
    }


@pytest.mark.parametrize("kind", ["dp", "json", "ckks", "fine-tuned", "dropped", "secure"])
def test_epsilon(kind: str, report_run: Runs, evidence_of: Of) -> None:
    evidence = evidence_of(kind)
    guarantee, mechanism = guarantee_block(evidence), mechanism_block(evidence)
    found = {
        site: epsilon_of((ran,), delta, GRID)
        for site, (ran, delta) in spent(report_run(kind)).items()
    }
    stated = {site.site: site.epsilon for site in mechanism.sites.get()}
    assert stated == pytest.approx(found, rel=1e-9)
    headline = max(found.values())
    assert guarantee.epsilon.get() == pytest.approx(headline, rel=1e-9)
    assert accounting_block(evidence).recomputed_epsilon.get() == pytest.approx(headline, rel=1e-9)
    for row in guarantee.observers.get():
        assert row.epsilon == pytest.approx(headline, rel=1e-9)


@pytest.mark.parametrize("kind", ["dp", "fine-tuned"])
def test_the_grid_costs_next_to_nothing(kind: str, report_run: Runs, evidence_of: Of) -> None:
    """So the stated epsilon is no artefact of one grid, and is an upper bound on a finer one's."""
    by_site = spent(report_run(kind))
    for site in mechanism_block(evidence_of(kind)).sites.get():
        ran, delta = by_site[site.site]
        finer = epsilon_of((ran,), delta, FINER)
        assert finer <= site.epsilon * (1 + 1e-9)
        assert site.epsilon == pytest.approx(finer, rel=GRID_COSTS)


@pytest.mark.parametrize("kind", ["dp", "dropped"])
def test_epsilon_at_every_site(kind: str, report_run: Runs, evidence_of: Of) -> None:
    by_site = spent(report_run(kind)).values()
    delta = max(delta for _, delta in by_site)
    found = epsilon_of(tuple(ran for ran, _ in by_site), delta, GRID)
    stated = guarantee_block(evidence_of(kind)).epsilon_at_every_site.get()
    assert stated == pytest.approx(found, rel=1e-9)


def test_epsilon_would_differ_if_a_step_were_left_out(report_run: Runs, evidence_of: Of) -> None:
    """What the test above would find: a round, or the fine-tuning, that is not counted."""
    for kind in ("dp", "fine-tuned", "dropped"):
        (noise, rate, count), delta = spent(report_run(kind))["site-01"]
        stated = guarantee_block(evidence_of(kind)).epsilon.get()
        fewer = epsilon_of(((noise, rate, count - 1),), delta, GRID)
        assert fewer < stated * (1 - 100 * GRID_COSTS)


@pytest.mark.parametrize("kind", ["inf", "reproducible"])
def test_no_epsilon_where_nothing_is_private(kind: str, report_run: Runs, evidence_of: Of) -> None:
    privacy = read(report_run(kind), "manifest.json")["config"]["privacy"]
    assert privacy["epsilon"] == "inf" or privacy["reproducible"]
    assert math.isinf(guarantee_block(evidence_of(kind)).epsilon.get())
    assert math.isinf(accounting_block(evidence_of(kind)).recomputed_epsilon.get())


@pytest.mark.parametrize("kind", ["dp", "fine-tuned", "dropped"])
def test_steps_rounds_and_delta_times_patients(
    kind: str, report_run: Runs, evidence_of: Of
) -> None:
    path, evidence = report_run(kind), evidence_of(kind)
    mechanism = mechanism_block(evidence)
    assert {site.site: site.steps for site in mechanism.sites.get()} == steps_of(path)
    finished = sum(event["event"] == "round-finished" for event in events(path))
    started = Counter(e["site"] for e in events(path) if e["event"] == "site-round-started")
    assert mechanism.rounds.get() == max(started.values()) >= finished
    assert finished == read(path, "metrics.json")["rounds"]
    plan, sites = (read(path, "manifest.json")[name] for name in ("plan", "sites"))
    for site, declared in zip(plan, sites, strict=True):
        batch = read(path, "manifest.json")["config"]["training"]["batch_size"]
        assert site["sampling_rate"] == batch / declared["patients"]
    largest = max(site["patients"] for site in sites) * max(site["delta"] for site in plan)
    assert guarantee_block(evidence).delta_times_patients.get() == pytest.approx(largest)


def test_bytes_without_encryption(report_run: Runs, evidence_of: Of) -> None:
    """A site sends 4 bytes a parameter each round, and gets the sum of all of them back."""
    path = report_run("json")
    parameters = sum(tensor.size for tensor in load_file(path / "model.safetensors").values())
    messages = 2 * 3  # rounds, sites
    block = exchange_block(evidence_of("json"))
    assert block.bytes_down.get() == messages * 4 * parameters
    envelopes = block.bytes_up.get() - messages * 4 * parameters
    # Header, lengths and signature: less than a kilobyte each.
    assert 0 < envelopes < messages * 1000


def test_bytes_with_encryption(report_run: Runs, evidence_of: Of) -> None:
    """131,208 bytes a ciphertext of 2 x 8,191 numbers, and the key in a box for two sites."""
    path = report_run("dp")
    parameters = sum(tensor.size for tensor in load_file(path / "model.safetensors").values())
    a_message = math.ceil(parameters / (2 * 8191)) * 131_208
    block = exchange_block(evidence_of("dp"))
    boxes = block.bytes_down.get() - 6 * a_message
    # A box holds both keys (262 kB public, 131 kB secret) and what seals them.
    assert 2 * 393_000 < boxes < 2 * 395_000
    others = block.bytes_up.get() - 6 * a_message - boxes - 262_000
    assert 0 < others < (6 + 3) * 1000


@pytest.fixture(scope="module")
def scored(
    report_run: Runs, prepared: Callable[..., Any]
) -> Callable[[str], dict[str, tuple[Any, Any, list[str]]]]:
    """Scores, labels and patients by cell: the stored model on the held-out records.

    The run directory holds no patient's scores, so they are made again, from the stored weights.
    """

    def score(kind: str) -> dict[str, tuple[Any, Any, list[str]]]:
        path = report_run(kind)
        manifest = read(path, "manifest.json")
        config = parse_config(manifest["config"], "manifest.json")
        test = prepared(config).test
        assert test.fingerprint == manifest["data_sha256"]["held-out"]
        model = initial_model(config, len(manifest["label_names"]))
        weights = load_file(path / "model.safetensors")
        model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})
        model.eval()
        found = {}
        for cell, held in (
            ("both", {"image", "text"}), ("image only", {"image"}), ("text only", {"text"}),
        ):  # fmt: skip
            rows = np.flatnonzero(np.all([test.batch.present[m].numpy() for m in held], axis=0))
            batch = test.batch.rows(torch.from_numpy(rows)).only(frozenset(held))
            with torch.no_grad():
                logits = model(batch).numpy().astype(np.float64)
            patients = [test.patient_ids[row] for row in rows]
            found[cell] = (1 / (1 + np.exp(-logits)), batch.labels.numpy(), patients)
        return found

    return score


@pytest.mark.parametrize("kind", ["dp", "inf"])
def test_utility(kind: str, scored: Callable[[str], Any], evidence_of: Of) -> None:
    """Macro AUROC, AUPRC and Brier score, and every label's, by scikit-learn's definitions."""
    rows = {one.cell: one for one in utility_block(evidence_of(kind)).cells.get()}
    cells = scored(kind)
    assert set(rows) == set(cells)
    for cell, (scores, labels, patients) in cells.items():
        stated = rows[cell]
        assert (stated.records, stated.patients) == (len(scores), len(set(patients)))
        macro: dict[str, list[float]] = {"auroc": [], "auprc": [], "brier": []}
        by_label = {row.label: row for row in stated.labels}
        for at, name in enumerate(evidence_of(kind).manifest["label_names"]):
            is_known = ~np.isnan(labels[:, at])
            truth, score = labels[is_known, at], scores[is_known, at]
            row = by_label[name]
            assert row.positives == int(truth.sum())
            if len(np.unique(truth)) < 2:
                assert row.left_out
                continue
            of_label = {
                "auroc": roc_auc_score(truth, score),
                "auprc": average_precision_score(truth, score),
                "brier": float(np.mean((score - truth) ** 2)),
            }
            said = {"auroc": row.auroc.value, "auprc": row.auprc.value, "brier": row.brier}
            for metric, value in of_label.items():
                assert said[metric] == pytest.approx(value, abs=1e-6), (cell, name, metric)
                if not row.left_out:
                    macro[metric].append(value)
        of_cell = {
            "auroc": stated.auroc.value, "auprc": stated.auprc.value, "brier": stated.brier,
        }  # fmt: skip
        for metric, values in macro.items():
            assert len(values) > 3
            assert of_cell[metric] == pytest.approx(np.mean(values), abs=1e-6)


def test_scores_of_another_model_give_another_auroc(
    scored: Callable[[str], Any], evidence_of: Of
) -> None:
    """The test above would notice figures of another run."""
    scores, labels, _ = scored("inf")["both"]
    known = [at for at in range(labels.shape[1]) if len(np.unique(labels[:, at])) == 2]
    macro = np.mean([roc_auc_score(labels[:, at], scores[:, at]) for at in known])
    rows = {one.cell: one for one in utility_block(evidence_of("dp")).cells.get()}
    stated = rows["both"].auroc.value
    assert stated is not None
    assert abs(macro - stated) > 1e-3
