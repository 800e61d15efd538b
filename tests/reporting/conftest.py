"""A whole report made by hand, with invented numbers, and finished runs to make reports from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from privfin.errors import PrivfinError
from privfin.federation.local_training import LocalTrainer
from privfin.federation.plan import make_plan
from privfin.federation.training_run import complete_run, start_run
from privfin.files import write_json
from privfin.reporting.evidence import Evidence, read_evidence
from privfin.reporting.facts import declared, derived, measured, not_applicable, not_assessed
from privfin.reporting.schema import SCHEMA_VERSION, Report

OPEN = not_assessed("a person has to answer this", "answers file")


def _points(*pairs: tuple[float, float]) -> list[dict[str, float]]:
    return [{"false_positive_rate": a, "true_positive_rate": b} for a, b in pairs]


def _interval(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "low": low, "high": high}


def _observer(name: str, sees: str) -> dict[str, Any]:
    return {
        "observer": name, "sees": sees, "epsilon": 7.9999, "delta": 1e-5, "mu": 1.6918,
        "mu_excess": 0.0117, "best_accuracy": 0.7894, "certainty_of_epsilon_alone": 0.99966,
        "trade_off": _points((0.001, 0.073), (0.01, 0.242), (0.1, 0.62)),
    }  # fmt: skip


def _attack(name: str, observer: str, stratum: str, auc: float, tpr: float) -> dict[str, Any]:
    is_all = stratum == "all"
    return {
        "attack": name, "observer": observer, "stratum": stratum,
        "members": 1125, "nonmembers": 375, "auc": _interval(auc, auc - 0.03, auc + 0.03),
        "tpr": [
            {"target_fpr": target, "tpr": _interval(tpr, tpr / 2, 2 * tpr), "fpr": target,
             "is_resolved": target >= 0.01}
            for target in (0.01, 0.001)
        ],
        "epsilon_bound": 0.2 if is_all else None, "epsilon_ceiling": 3.5 if is_all else None,
        "claim": 7.9999, "curve": [(0.0, 0.0), (0.01, tpr), (0.1, 0.12), (0.5, 0.52), (1.0, 1.0)],
    }  # fmt: skip


def _label(name: str, positives: int, auroc: float) -> dict[str, Any]:
    return {
        "label": name, "positives": positives, "negatives": 591 - positives,
        "auroc": _interval(auroc, auroc - 0.06, auroc + 0.06), "auprc": _interval(0.3, 0.2, 0.4),
        "ece": 0.02, "brier": 0.09, "left_out": None,
    }  # fmt: skip


def _cell(cell: str, auroc: float, labels: bool = True) -> dict[str, Any]:
    return {
        "cell": cell, "records": 591, "patients": 375,
        "auroc": _interval(auroc, auroc - 0.03, auroc + 0.03),
        "auprc": _interval(0.24, 0.22, 0.27), "ece": 0.027, "brier": 0.106, "confidence": 0.95,
        "labels": [_label("Edema", 80, auroc), _label("Fracture", 7, 0.61)] if labels else [],
        "withheld": None,
    }  # fmt: skip


def _site(name: str, modalities: list[str], patients: int) -> dict[str, Any]:
    return {"site": name, "modalities": modalities, "patients": patients}


def _mechanism(name: str) -> dict[str, Any]:
    return {
        "site": name, "mechanism": "DP-SGD, Poisson-subsampled Gaussian",
        "noise_multiplier": 3.1457, "clip_norm": 0.1, "sampling_rate": 0.5664,
        "sampler": "Poisson over patients, one record of each at random", "divisor": 64.0,
        "steps": 80, "steps_planned": 80, "epsilon": 7.9999, "delta": 1e-5,
    }  # fmt: skip


def _sample_content() -> dict[str, Any]:
    """The sample as plain values of facts."""
    run = "manifest.json"
    privacy = "privacy.json"
    audit = "audit.json"
    return {
        "schema_version": SCHEMA_VERSION,
        "report": {
            "report_id": measured("0f" * 16, "random"),
            "created": measured("2026-01-02T03:04:05+00:00", "clock"),
            "tool": measured("privfin 0.1.0", run),
            "audience": declared("officer", "command line"),
            "release_class": derived("internal", "audience"),
            "withheld": derived((), "audience"),
            "run_id": measured("17bb450b9995ddaf2693f1d9a914f898", run),
            "run_name": measured("first", "run directory"),
            "run_created": measured("2026-01-01T00:00:00+00:00", run),
            "valid_until": OPEN,
            "supersedes": not_applicable("the first report on this run", "answers file"),
        },
        "summary": [
            {"key": key, "question": question, "text": text, "tone": tone, "fields": ["/guarantee"]}
            for key, question, text, tone in (
                ("trained", "What was trained, and for whom?",
                 "A model of 14 labels over 3 sites.", "plain"),
                ("protected", "Who is protected?",
                 "One patient with all records: 1,125 patients.", "plain"),
                ("odds", "What could an attacker still learn?",
                 "From 50:50 to at most 79:21.", "plain"),
                ("attacked", "Was it attacked?", "Yes, by 5 attacks; ceiling 3.5.", "plain"),
                ("budget", "How much of each budget is used?", "8 of 12.", "plain"),
                ("left-sites", "What left the sites?", "Ciphertexts, 14.3 MB.", "plain"),
                ("not-covered", "What is not covered?", "12 things, see below.", "open"),
                ("decide", "What does a person have to decide?", "4 questions are open.", "open"),
                ("verify", "How is this file verified?",
                 "privfin report verify report-officer.json", "plain"),
            )
        ],
        "purpose": {
            "task": derived("14 labels from image and text", run),
            "labels": measured(("Edema", "Fracture"), run),
            **dict.fromkeys(
                ("intended_use", "people", "out_of_scope", "legal_basis", "necessity", "permit",
                 "impact_assessment", "protection_officer"), OPEN),
        },
        "parties": {
            "sites": measured((
                _site("site-01", ["image"], 375), _site("site-02", ["text"], 375),
                _site("site-03", ["image", "text"], 375)), run),
            "sites_left": measured((), "events.jsonl"),
            **dict.fromkeys(("roles", "coordinator", "recipients"), OPEN),
            "trust": measured("local: every site adds the full noise itself", privacy),
        },
        "data": {
            "source": measured("phantom", run),
            "is_simulated": measured(True, run),
            "unit": measured("one patient with all records", privacy),
            "training_patients": derived(1125, run),
            "held_out_patients": measured(375, "metrics.json"),
            "notices": measured((), run),
            "fingerprints": measured({"site-01": "1b" * 32, "held-out": "7a" * 32}, run),
            **dict.fromkeys(("period", "label_origin", "consent"), OPEN),
        },
        "guarantee": {
            "claim": measured("dp", privacy),
            "is_private": derived(True, privacy),
            "statement": derived("For every patient ... (7.9999, 1e-05) ...", privacy),
            "unit": measured("patient", privacy),
            "adjacency": measured("add or remove one patient, with all records", privacy),
            "epsilon": derived(7.9999, privacy),
            "delta": measured(1e-5, privacy),
            "delta_times_patients": derived(0.00375, privacy),
            "headline": measured("the largest epsilon of a site", privacy),
            "no_person_at_two_sites": measured("checked", privacy),
            "epsilon_at_every_site": derived(14.2, privacy),
            "observers": derived((
                _observer("outsider", "sees the final model"),
                _observer("another site", "sees the sum of every round"),
                _observer("coordinator", "sees ciphertexts, signatures, sizes and times"),
                _observer("coordinator with a site", "can decrypt sums; masks hide updates"),
            ), privacy),
            "colluding_sites": not_applicable("noise is not shared", privacy),
            "curve": derived(_points((0, 0), (0.001, 0.073), (0.01, 0.242), (0.1, 0.62),
                                     (0.5, 0.95), (1, 1)), privacy),
            "outputs": derived("the model of every round and the final one", privacy),
            "accesses": derived("training steps", privacy),
        },
        "mechanism": {
            "trust": measured("local: every site adds the full noise itself", privacy),
            "target_epsilon": declared(8.0, run),
            "sites": measured(tuple(map(_mechanism, ("site-01", "site-02", "site-03"))), privacy),
            "aggregation": measured("every site that trains a segment counts the same", privacy),
            "segments": measured(({"segment": "encoder.image", "parameters": 6416,
                                   "sites_training_it": 2, "is_summed": True},), privacy),
            "fine_tuning": not_applicable("no fine-tuning was asked for", run),
            "randomness": derived("ChaCha20, keyed by the operating system", privacy),
            "rounds": measured(4, "metrics.json"),
        },
        "accounting": {
            "accountant": measured("dp_accounting PLD 0.6.0", privacy),
            "recomputed_epsilon": derived(7.9999, "plan and events.jsonl"),
            "second_accountant": derived(8.01, "Opacus PRV 1.6.0"),
            "assumptions": measured((
                {"assumption_id": "poisson-sampling", "text": "every patient is drawn alone",
                 "status": "checked", "by": "the only sampler there is draws so"},
                {"assumption_id": "real-numbers", "text": "noise is floating point",
                 "status": "unknown", "by": "no proof"},
            ), privacy),
        },
        "ledger": {
            "status": measured("counted", run),
            "meaning": measured("a ledger counts this run", run),
            "budgets": derived((
                {"population": "lungs", "cap_epsilon": 12.0, "cap_delta": 1e-5, "before": 1.0,
                 "this_run": 8.0, "reserved": 0.0, "left": 3.0, "runs": 2, "refusals": 1,
                 "raised": 0, "is_over": False},), "ledger"),
            "extract": measured((
                {"seq": 7, "time": "2026-01-01T00:00:00Z", "run": "17bb", "kind": "train",
                 "state": "settled", "populations": "lungs", "epsilon": 8.0, "delta": 1e-5},),
                "ledger"),
            "head": measured({"ledger_id": "ab" * 16, "seq": 9, "hash": "cd" * 32,
                              "public_key": "ef" * 32, "signature": "01" * 64}, run),
            "check": measured("nothing found", "ledger"),
            "heads_of_sites": measured((), "events.jsonl"),
        },
        "tuning": {
            "trials": OPEN,
            "is_counted": OPEN,
            "chosen_by": measured("nothing: the mean of the last rounds' models", "metrics.json"),
        },
        "other_releases": {
            "not_covered": measured(("the number of patients of each site is public",
                                     "timing, file sizes and the number of rounds"), privacy),
            "releases": derived(({"what": "AUROC of every cell", "seen_by": "readers"},),
                                "metrics.json"),
            "justification": OPEN,
        },
        "audit": {
            "was_done": measured(True, audit),
            "verdict": measured("none found", audit),
            "suite": measured("quick", audit),
            "confidence": measured(0.95, audit),
            "shadow_models": measured(16, audit),
            "blind_auc": measured(0.51, audit),
            "attacks": measured((
                _attack("loss", "outsider", "all", 0.51, 0.012),
                _attack("lira", "outsider", "all", 0.52, 0.021),
                _attack("lira", "outsider", "image only", 0.52, 0.02),
                _attack("trajectory slope", "site", "all", 0.49, 0.009),
            ), audit),
            "best_attack": derived(1, audit),
            "largest_ceiling": derived(3.5, audit),
            "canaries": not_assessed("the quick suite has no canaries", audit),
            "attributes": not_assessed("the quick suite infers no attributes", audit),
            "inversion": not_assessed("the quick suite inverts no gradients", audit),
            "left_out": measured((), audit),
            "contradictions": measured((), audit),
            "risks": measured((), audit),
        },
        "exchange": {
            "encryption": measured("BFV, N 8192, 128-bit security, pairwise masks", privacy),
            "kind": measured("bfv", run),
            "single_updates": derived("nobody, by masks", privacy),
            "readable_segments": measured(("imputer.image_to_text",), privacy),
            "log2_failure": derived(-40.0, privacy),
            "messages": derived((
                {"what": "update: ciphertexts of a site's clipped and noised update",
                 "sender": "site", "receiver": "coordinator", "protection": "BFV, masks",
                 "readable_by": "nobody alone"},), "messages"),
            "bytes_up": measured(14328774, "events.jsonl"),
            "bytes_down": measured(14039076, "events.jsonl"),
            "sizes_tell_sites_apart": not_assessed("the quick suite does not look", audit),
        },
        "utility": {
            "cells": measured((_cell("both", 0.685), _cell("image only", 0.68),
                               _cell("text only", 0.6)), "metrics.json"),
            "groups": measured((
                {"by": "sex", "group": "F", "cells": [_cell("both", 0.69, labels=False)],
                 "left_out": {"text only": "fewer than 20 patients"}},), "metrics.json"),
            "cost_of_privacy": not_assessed("no run without privacy was given", "command line"),
            "is_secure": measured(False, "metrics.json"),
            "noise": measured("none: computed on held-out patients", "metrics.json"),
        },
        "implementation": {
            "components": measured(({"name": "python", "version": "3.11.7"},
                                    {"name": "torch", "version": "2.13.0"},
                                    {"name": "opacus", "version": "1.6.0"}), run),
            "code_revision": measured("3ee841d", run),
            "floating_point": measured("rounding: the proof is for real numbers", privacy),
            "side_channels": measured(("timing, file sizes and the number of rounds",), privacy),
            "parameters": measured(25000, privacy),
        },
        "security": {
            "transport": measured("one process: a simulated federation", run),
            "keys": derived("sites share the secret key; the coordinator has none", "design"),
            "authentication": derived("Ed25519 over every message", "design"),
            "raw_data": OPEN,
            "retention": OPEN,
            "threats": derived((
                {"attacker": "outsider", "has": "the final model", "protection": "DP-SGD",
                 "remains": "odds up to 79:21"},), privacy),
        },
        "reproducibility": {
            "config_sha256": measured("ce" * 32, run),
            "files": measured(tuple({"file": name, "sha256": digest * 32} for name, digest in (
                ("manifest.json", "01"), ("model.safetensors", "02"), ("metrics.json", "03"),
                ("privacy.json", "04"), ("events.jsonl", "05"), ("audit.json", "06"))), "files"),
            "public_seed": measured(0, run),
            "dp_randomness": derived("no seed of noise or sampling is kept anywhere", "design"),
            "commands": derived(("privfin report verify report-officer.json --run first",), "run"),
            "encoder_weights": measured({}, run),
        },
        "risks": {
            "risks": derived((
                {"risk_id": "membership", "event": "somebody learns that a patient took part",
                 "criterion": "singling out", "evidence": "best attack: 2.1 % at 1 %",
                 "fields": ["/audit/attacks"], "measure": "DP-SGD", "residual": "odds 79:21"},),
                "privfin"),
        },
        "clause_map": {
            "edition": measured("1", "privfin"),
            "as_of": measured("2026-11", "privfin"),
            "clauses": derived((
                {"framework": "GDPR", "edition": "Regulation (EU) 2016/679", "clause": "35(7)(d)",
                 "subject": "measures against risks", "is_verified": True,
                 "fields": ["/guarantee", "/security"], "evidence": "partly",
                 "remains": "necessity and proportionality"},), "clauses.json"),
        },
        "sign_off": {
            "signatures": declared(({"role": "data protection officer"},
                                    {"role": "controller"}), "answers file"),
            "questions": derived((
                {"key": "purpose.legal_basis", "text": "What is the legal basis?",
                 "is_required": True, "is_answered": False},), "answers file"),
        },
        "comparison": {"runs": not_applicable("one run was given", "command line")},
    }  # fmt: skip


def _sample_report(**changes: Any) -> Report:
    """The sample; ``audit__verdict=fact`` puts another fact at ``/audit/verdict``."""
    content = _sample_content()
    for name, fact in changes.items():
        if "__" in name:
            block, _, field = name.partition("__")
            content[block][field] = fact
        else:
            content[name] = fact
    return Report.model_validate(_plain(content))


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return _plain(value.model_dump())
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


@pytest.fixture(scope="session")
def sample_report() -> Callable[..., Report]:
    """Makes the sample report; ``audit__verdict=fact`` puts another fact at ``/audit/verdict``."""
    return _sample_report


@pytest.fixture
def edited(finished_runs: Callable[..., Any], tmp_path: Path) -> Callable[..., Evidence]:
    """A finished run's evidence after changes to its files.

    ``edited("dp", metrics=change)`` calls ``change`` with what ``metrics.json`` says; ``audit``
    is the content of an ``audit.json`` that is written, with the run's identifier.
    """

    def make(
        kind: str = "dp",
        *,
        name: str = "run",
        audit: dict[str, Any] | None = None,
        **changes: Callable[[dict[str, Any]], object],
    ) -> Evidence:
        path = tmp_path / name
        shutil.copytree(finished_runs(kind).path, path)
        for file, change in changes.items():
            content = json.loads((path / f"{file}.json").read_text())
            change(content)
            (path / f"{file}.json").write_text(json.dumps(content))
        if audit is not None:
            run_id = json.loads((path / "manifest.json").read_text())["run_id"]
            write_json(path / "audit.json", {**audit, "run_id": run_id})
        return read_evidence(path)

    return make


def _real(manifest: dict[str, Any]) -> None:
    manifest["config"]["data"]["source"] = "manifest"


@pytest.fixture
def real(edited: Callable[..., Evidence]) -> Evidence:
    """A run that says that its patients are real."""
    return edited("dp", name="real", manifest=_real)


#: Options of :func:`tiny` by kind of run; ``dropped`` loses site-02 in its second round.
KINDS: dict[str, dict[str, Any]] = {
    "ckks": {"crypto__encryption": "ckks"},
    "shared": {
        "privacy__trust": "shared",
        "federation__modalities": "0:0:1",
        "training__batch_size": 40,
        "privacy__collusion": 1,
    },
    "fine-tuned": {"training__fine_tune_steps": 3},
    "secure": {"evaluation__secure": True, "federation__modalities": "0:0:1"},
    "dropped": {
        "federation__sites": 4,
        "federation__modalities": "1:0:3",
        "training__rounds": 3,
        "training__local_steps": 1,
    },
}


@pytest.fixture(scope="session")
def report_run(
    tmp_path_factory: pytest.TempPathFactory,
    tiny: Callable[..., Any],
    prepared: Callable[..., Any],
    finished_runs: Callable[..., Any],
) -> Callable[[str], Path]:
    """The directory of a finished run: ``report_run("ckks")``. Copy it before you change it."""
    known: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in known:
            if kind in KINDS:
                known[kind] = tmp_path_factory.mktemp("report-runs") / kind
                _make(known[kind], tiny(**KINDS[kind]), prepared, loses_a_site=kind == "dropped")
            else:
                known[kind] = finished_runs(kind).path
        return known[kind]

    return get


@pytest.fixture(scope="session")
def evidence_of(report_run: Callable[[str], Path]) -> Callable[[str], Evidence]:
    """The evidence of a finished run of a kind."""
    return lambda kind: read_evidence(report_run(kind))


def _make(path: Path, config: Any, prepared: Callable[..., Any], *, loses_a_site: bool) -> None:
    data = prepared(config)
    run = start_run(path, config, make_plan(config, data.declarations), data)
    original = LocalTrainer.train

    def fails(self: LocalTrainer, start: Any, number: int, steps: int) -> Any:
        if loses_a_site and number == 2 and self._plan.name == "site-02":
            raise PrivfinError("the machine is gone")
        return original(self, start, number, steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalTrainer, "train", fails)
        assert complete_run(run, config, data) is not None


ANSWERS = {
    "trained": "A model that reads 14 findings from a chest image, a report text, or both. Three "
    "sites with 1,125 made-up patients trained it together in 4 rounds; 375 patients were held "
    "out. No person has stated yet what it is for.",
    "protected": "One patient with all records of that patient, whether they are one or many. The "
    "guarantee is differential privacy with epsilon 8.0 and delta 0.00001 for one patient, "
    "against anybody who sees the final model or the sums of every round.",
    "odds": "Somebody who starts at 50:50 about whether a patient was in the data can be right "
    "in at most 79 of 100 cases, whatever the attack. At 1 % false alarms, at most 24 % of "
    "patients can be found. By epsilon and delta alone it would be up to 99.97 %: from epsilon 5 "
    "on, that pair says little, and the curve in section 5 and the attacks below say more.",
    "attacked": "Yes, by 31 attacks of 2 observers. The best, lira, found 2.1 % of members at 1 % "
    "false alarms (95 % interval 1.3 % to 3.2 %). No attack contradicts the guarantee. A test of "
    "this size could have shown leakage up to epsilon 3.5 at most, so more than that is open.",
    "budget": "The population lungs has used 9 of epsilon 12 at delta 0.00001 over 2 runs, 8 of "
    "them in this run; 1 run was refused.",
    "left-sites": "14.3 MB of encrypted updates, and the number of patients of every site. The "
    "coordinator could read none of them; masks hide the update of one site from the others, "
    "except in 1 part of the model that only two sites train.",
    "not-covered": "12 things, among them: the number of patients of each site, figures that were "
    "measured without noise on held-out patients, time and size of messages, and rounding.",
    "decide": "9 questions are open, 6 of them required: the legal basis, necessity, the permit, "
    "who gets the model, how long data are kept, and whether the risks are acceptable.",
    "verify": "privfin report verify report-officer.json --run first compares every file with the "
    "SHA-256 that is sealed with this report, and says what holds, in one line each.",
}


@pytest.fixture(scope="session")
def full_report(sample_report: Callable[..., Report]) -> Report:
    """A report as large as a real one: sentences of real length, and rows wherever there can be."""
    return full_report_of(sample_report)


def full_report_of(make: Callable[..., Report]) -> Report:
    """See ``full_report``."""
    plain = _plain(_sample_content())
    labels = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum",
              "Fracture", "Lung Lesion", "Lung Opacity", "No Finding", "Pleural Effusion",
              "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices"]  # fmt: skip
    cells = [
        _cell(name, auroc) | {"labels": [_label(one, 20 + 9 * k, auroc + k / 90)
                                         for k, one in enumerate(labels)]}
        for name, auroc in (("both", 0.685), ("image only", 0.68), ("text only", 0.6))
    ]  # fmt: skip
    groups = [
        {"by": by, "group": group, "left_out": {"text only": "fewer than 20 patients"},
         "cells": [_cell("both", auroc, labels=False), _cell("image only", auroc - 0.02, False)]}
        for by, group, auroc in (("sex", "F", 0.69), ("sex", "M", 0.67), ("age", "under 40", 0.64),
                                 ("age", "40 to 64", 0.68), ("age", "65 and over", 0.7),
                                 ("source", "site-01", 0.66), ("source", "site-02", 0.71))
    ]  # fmt: skip
    attacks = [
        _attack(name, observer, stratum, 0.48 + 0.01 * k, 0.009 + 0.003 * k)
        | {"note": "16 shadow models, 2 to 8 without a record" if name == "rmia" else ""}
        for observer, names in (
            ("outsider", ("loss", "entropy", "confidence", "loss by label", "lira", "rmia")),
            ("site", ("trajectory slope", "trajectory mean")),
        )
        for k, name in enumerate(names)
        for stratum in ("all", "image and text", "image only", "text only")
    ]
    for one in attacks:
        one["tpr"].append(one["tpr"][1] | {"target_fpr": 0.0001, "fpr": 0.0001})
    risk = plain["risks"]["risks"]["value"][0]
    risk |= {
        "evidence": 8 * f"{risk['evidence']} by an attack on all patients. ",
        "fields": ["/guarantee/epsilon", "/audit/attacks", "/audit/largest_ceiling"],
    }
    rates = [10 ** (-4 + k / 20) for k in range(81)]
    curve = [(rate, min(1.0, 24 * rate / (1 + 20 * rate))) for rate in rates]
    budget = plain["ledger"]["budgets"]["value"][0]
    runs = [
        {"name": name, "run_id": digit * 32, "claim": claim, "epsilon": epsilon, "delta": 1e-5,
         "encryption": "bfv", "auroc": {"both": _interval(auroc, auroc - 0.03, auroc + 0.03)},
         "audit_verdict": None, "differences": {"privacy.epsilon": str(epsilon)}}
        for name, digit, claim, epsilon, auroc in (
            ("first", "1", "dp", 8.0, 0.685), ("plain", "2", "NOT PRIVATE: asked for", "inf", 0.74))
    ]  # fmt: skip
    canary = {
        "kind": "random", "level": "one record", "observer": "outsider", "canaries": 200,
        "epsilon_bound": 0.4, "epsilon_ceiling": 4.1, "claim": 8.0, "is_contradiction": False,
    }  # fmt: skip
    return make(
        summary=[one | {"text": ANSWERS[one["key"]]} for one in plain["summary"]],
        guarantee__curve=derived(_points((0.0, 0.0), *curve), "privacy.json"),
        ledger__budgets=derived(
            (budget, budget | {"population": "cardiology 2018 to 2025", "left": -1.0,
                               "before": 5.0, "is_over": True},
             budget | {"population": "emergency", "cap_epsilon": None, "cap_delta": None}),
            "ledger"),
        audit__attacks=measured(tuple(attacks), "audit.json"),
        audit__best_attack=derived(
            next(k for k, one in enumerate(attacks) if one["attack"] == "lira"), "audit.json"),
        audit__canaries=measured((canary,), "audit.json"),
        audit__attributes=measured((
            {"attribute": "sex", "seen": "scores", "patients": 400, "chance": 0.5,
             "with_model": _interval(0.55, 0.5, 0.6), "without_model": _interval(0.53, 0.48, 0.58),
             "difference": _interval(0.02, -0.03, 0.07)},), "audit.json"),
        audit__inversion=measured((
            {"view": "as sent", "measure": "PSNR, dB", "value": 8.1, "prior": 11.2,
             "difference": _interval(-3.1, -4.0, -2.2), "verdict": "no better than the prior"},),
            "audit.json"),
        utility__cells=measured(tuple(cells), "metrics.json"),
        utility__groups=measured(tuple(groups), "metrics.json"),
        utility__cost_of_privacy=derived(tuple(
            {"cell": cell, "private": 0.6, "not_private": 0.7, "difference": -0.1,
             "other_run": "plain"} for cell in ("both", "image only", "text only")),
            "metrics.json"),
        risks__risks=derived(
            tuple(risk | {"risk_id": name} for name in ("membership", "attribute")), "privfin"),
        comparison__runs=measured(tuple(runs), "command line"),
    )  # fmt: skip
