"""Metrics through the encrypted sum: right within bounds, and nothing but the sum is readable."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from privfin.config import METRICS, RunConfig
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.crypto.masks import MaskContext
from privfin.crypto.pack import DATA_SLOTS, POLY_DEGREE, Packing
from privfin.errors import ConfigError, PlanError, PolicyError, ProtocolError
from privfin.evaluation.calibration import brier_score, expected_calibration_error
from privfin.evaluation.histograms import LabelSums
from privfin.federation.coordinator import Coordinator, SumPlan
from privfin.federation.messages import RunIdentity, Task
from privfin.federation.metric_plan import (
    FEWEST_SITES,
    CellSums,
    MetricPlan,
    Opening,
    plan_metrics,
)
from privfin.federation.metric_results import FederatedMetrics, federated_metrics
from privfin.federation.plan import make_plan
from privfin.federation.prepare import PreparedData
from privfin.federation.secure_metrics import MetricsSite, site_sums
from privfin.federation.training_run import complete_run, start_run
from privfin.models.multimodal import MultimodalModel
from privfin.models.segments import initial_model
from privfin.privacy.policy import Policy
from privfin.runs import load_run

FOUR: dict[str, Any] = {
    "federation__sites": 4,
    "federation__modalities": "0:0:1",
    "evaluation__secure": True,
    "data__patients": 300,
}
ROUND = 5


class Exchange:
    """Four sites and a coordinator, with everything between them kept."""

    def __init__(
        self,
        config: RunConfig,
        plan: MetricPlan,
        sums: Mapping[str, Sequence[CellSums]],
        policy: Policy | None = None,
    ) -> None:
        self.plan = plan
        self.run = RunIdentity("run-1", config.digest())
        self.identities = {name: SiteIdentity.generate(name) for name in sums}
        self.roster = Roster(one.public() for one in self.identities.values())
        self.opened: dict[str, tuple[Opening, list[CellSums]]] = {}
        self.sites = {
            name: MetricsSite(
                identity=self.identities[name],
                roster=self.roster,
                run=self.run,
                config=config,
                plan=plan,
                round_number=ROUND,
                sums=own,
                on_opened=lambda *found, to=name: self.opened.update({to: found}),
                policy=policy,
            )
            for name, own in sums.items()
        }
        self.log: list[tuple[str, Task, bytes]] = []
        self.tamper: Callable[[str, Task], Task] = lambda site, task: task
        sizes = SumPlan("bfv", config.crypto.layout, plan.values, plan.sites)
        self.coordinator = Coordinator(self.run, self.roster, self, sizes)

    def exchange(self, tasks: Mapping[str, Task]) -> dict[str, bytes]:
        replies = {}
        for name, task in tasks.items():
            replies[name] = self.sites[name].handle(self.tamper(name, task))
            self.log.append((name, task, replies[name]))
        return replies

    def measure(self) -> FederatedMetrics:
        self.coordinator.agree_on_key()
        self.coordinator.sum_metrics(ROUND, 1, self.plan.owner_values)
        assert set(self.opened) == set(self.sites)
        first, *others = self.opened.values()
        result = federated_metrics(self.plan, *first)
        for other in others:
            assert other[0] == first[0]
            assert federated_metrics(self.plan, *other).to_dict() == result.to_dict()
        return result

    def sent(self, site: str, kind: str) -> list[bytes]:
        """The ciphertexts of a site's answer."""
        from privfin.crypto.envelope import ExpectedHeader, open_envelope

        task, reply = next((t, r) for s, t, r in self.log if (s, t.kind) == (site, kind))
        expected = ExpectedHeader(
            kind=kind,
            run_id=self.run.run_id,
            round=task.round,
            attempt=task.attempt,
            senders=(site,),
            key_id=self.sites[site]._protection.key_id,
            config_hash=self.run.config_digest,
        )
        return list(open_envelope(reply, self.roster, expected).parts)


def scorer(config: RunConfig, labels: int) -> MultimodalModel:
    """A model whose scores spread like those of a trained one."""
    model = initial_model(config, labels)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
    return model


@pytest.fixture(scope="module")
def measured(tiny: Callable[..., RunConfig], prepared: Any) -> Callable[..., Any]:
    """Config, data, plan and each site's sums: ``measured(federation__modalities="1:1:2")``."""

    def make(**options: Any) -> tuple[RunConfig, PreparedData, MetricPlan, dict[str, Any]]:
        config = tiny(**{**FOUR, **options})
        data = prepared(config)
        training = make_plan(config, data.declarations)
        plan = plan_metrics(config, training.label_names, [s.patients for s in training.sites])
        model = scorer(config, len(training.label_names))
        sums = {
            site.name: site_sums(model, data.test.of_site(site.name, site.modalities), plan)
            for site in training.sites
        }
        return config, data, plan, sums

    return make


def pooled(config: RunConfig, data: PreparedData, plan: MetricPlan) -> dict[str, Any]:
    """Scores and labels of every cell over all sites' own records, as if they were pooled."""
    from privfin.federation.assessment import cell_rows, predict_scores

    training = make_plan(config, data.declarations)
    model = scorer(config, len(plan.labels))
    parts: dict[str, list[Any]] = {name: [] for name in plan.cells}
    for site in training.sites:
        own = data.test.of_site(site.name, site.modalities)
        for name, _, rows in cell_rows(own):
            parts[name].append((predict_scores(model, rows), rows.labels.numpy()))
    return {
        name: tuple(np.concatenate(column) for column in zip(*found, strict=True))
        for name, found in parts.items()
        if found
    }


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"crypto__layout": "3x15", "crypto__value_bits": 11},
        {"federation__modalities": "1:0:3", "missingness__test": {"text": 0.3}},
    ],
    ids=["2x20", "3x15", "some lack a modality"],
)
def test_the_pooled_figure_lies_within_the_bounds(
    measured: Callable[..., Any], options: dict[str, Any]
) -> None:
    config, data, plan, sums = measured(**options)
    result = Exchange(config, plan, sums).measure()
    everything = pooled(config, data, plan)
    assert set(result.cells) == set(everything) == set(plan.cells)
    checked = 0
    for name, cell in result.cells.items():
        scores, labels = everything[name]
        assert cell.records == len(scores)
        for found in cell.labels:
            at = plan.labels.index(found.name)
            known = ~np.isnan(labels[:, at])
            score, label = scores[known, at], labels[known, at].astype(np.float64)
            assert (found.positives, found.negatives) == (label.sum(), (1 - label).sum())
            loss = np.where(label == 1, -np.log(score), -np.log1p(-score)).mean()
            exact = {
                "ece": expected_calibration_error(score, label, plan.calibration_bins),
                "brier": brier_score(score, label),
                "loss": float(loss),
            }
            if 0 < label.sum() < label.size:
                exact["auroc"] = roc_auc_score(label, score)
                exact["auprc"] = average_precision_score(label, score)
            for figure, value in exact.items():
                bounded = found.figures[figure]
                assert bounded.low <= value <= bounded.high, (name, found.name, figure)
                checked += 1
    assert checked > 50
    if not options:
        # Every site holds everything, so these are the cells of the pooled held-out records.
        assert result.cells["both"].records == len(data.test.patient_ids)
        assert result.cells["both"].patients == len(set(data.test.patient_ids))


def slots_of(exchange: Exchange, site: str, reader: str) -> Any:
    """What ``reader`` decrypts of the ciphertexts that ``site`` sent: the data slots."""
    key = exchange.sites[reader]._protection._own_key()
    blobs = exchange.sent(site, "metrics")
    rows = key.decrypt(blobs, len(blobs) * POLY_DEGREE).reshape(-1, POLY_DEGREE)
    return rows[:, :DATA_SLOTS].reshape(-1)


def looks_uniform(slots: Any, modulus: int) -> bool:
    """A chi-squared test over 16 bins that fails by chance below once in 10^9."""
    counts = np.bincount(slots // -(-modulus // 16), minlength=16)
    expected = slots.size / 16
    return bool(((counts - expected) ** 2 / expected).sum() < 80)


def test_no_site_and_not_the_coordinator_sees_a_site_s_own_counts(
    measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _, plan, sums = measured()
    packing = Packing.named(config.crypto.layout)
    site, other = list(sums)[:2]
    exchange = Exchange(config, plan, sums)
    exchange.measure()
    opening = exchange.opened[site][0]
    own = packing.pack(plan.encode(opening.only_opened(sums[site])))
    seen = slots_of(exchange, site, other)[: own.size]
    assert looks_uniform(seen, packing.modulus)
    assert (seen == own).mean() < 0.01
    wire = b"".join([p for _, task, reply in exchange.log for p in (*task.parts, reply)])
    assert own.astype("<i8").tobytes()[:64] not in wire
    # The test has teeth: without masks another site reads the counts as they are.
    from privfin.crypto import masks

    monkeypatch.setattr(
        masks.MaskBook, "take", lambda self, context, modulus, length: np.zeros(length, np.int64)
    )
    bare = Exchange(config, plan, sums)
    bare.measure()
    seen = slots_of(bare, site, other)[: own.size]
    assert (seen == own).all()
    assert not looks_uniform(seen, packing.modulus)


def test_masks_are_for_metrics_alone(
    measured: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mask of a training round that served again would cancel in the difference."""
    from privfin.crypto import masks

    purposes: list[str] = []
    take = masks.MaskBook.take

    def spy(self: Any, context: MaskContext, modulus: int, length: int) -> Any:
        purposes.append(context.purpose)
        return take(self, context, modulus, length)

    monkeypatch.setattr(masks.MaskBook, "take", spy)
    config, _, plan, sums = measured()
    Exchange(config, plan, sums).measure()
    assert purposes == ["metric-owners/0"] * 4 + ["metrics/0"] * 4


def empty(plan: MetricPlan) -> list[CellSums]:
    nothing = LabelSums.nothing(plan.edges.size + 1, plan.calibration_bins)
    return [CellSums(0, 0, (nothing,) * len(plan.labels)) for _ in plan.cells]


def test_a_site_without_held_out_patients_takes_part(measured: Callable[..., Any]) -> None:
    config, _, plan, sums = measured()
    lacking = {**sums, "site-02": empty(plan)}
    exchange = Exchange(config, plan, lacking)
    result = exchange.measure()
    expected = sum(own[0].records for own in lacking.values())
    assert result.cells["both"].records == expected > 0
    # Its message looks like that of any other site.
    lengths = {len(reply) for _, task, reply in exchange.log if task.kind == "metrics"}
    assert len(lengths) == 1


def test_a_cell_without_patients_is_named_and_has_no_number(measured: Callable[..., Any]) -> None:
    config, _, plan, sums = measured()
    gone = plan.cells.index("text only")
    bare = {
        name: [empty(plan)[at] if at == gone else cell for at, cell in enumerate(own)]
        for name, own in sums.items()
    }
    result = Exchange(config, plan, bare).measure()
    assert "text only" not in result.cells
    assert result.not_opened == {"text only": "no record"}
    assert "text only" not in result.to_dict()["cells"]


def test_a_label_without_patients_is_named_and_has_no_number(measured: Callable[..., Any]) -> None:
    config, _, plan, sums = measured()
    nothing = empty(plan)[0].labels[0]

    def without(cell: CellSums) -> CellSums:
        return replace(cell, labels=(nothing, *cell.labels[1:]))

    bare = {name: [without(cell) for cell in own] for name, own in sums.items()}
    result = Exchange(config, plan, bare).measure()
    for cell in result.cells.values():
        assert cell.not_opened[plan.labels[0]] == "no record where it is known"
        assert plan.labels[0] not in [one.name for one in cell.labels]


@pytest.mark.parametrize("owners", [1, 2, 3])
@pytest.mark.parametrize("side", ["positives", "negatives", "cell"])
def test_what_fewer_than_three_sites_have_is_never_sent(
    measured: Callable[..., Any], owners: int, side: str
) -> None:
    """Otherwise the sum would be a single site's counts, or that of two who can subtract."""
    config, _, plan, sums = measured()
    bins = plan.edges.size + 1
    few = np.zeros(bins, dtype=np.int64)
    few[bins // 2] = 7
    both = replace(empty(plan)[0].labels[0], positives=few, negatives=few)
    other = "positives" if side == "negatives" else "negatives"
    mine: dict[str, list[CellSums]] = {}
    for at, name in enumerate(sums):
        has = at < owners
        label = both if has else replace(both, **{side: few * 0}) if side != "cell" else both
        cell = replace(empty(plan)[0], records=14, patients=9)
        cell = replace(cell, labels=(label,) * len(plan.labels))
        mine[name] = [cell if has or side != "cell" else empty(plan)[0], *empty(plan)[1:]]
    exchange = Exchange(config, plan, mine)
    result = exchange.measure()
    opening, total = exchange.opened["site-04"]
    first = total[0].labels[0]
    if owners >= FEWEST_SITES:
        assert result.cells["both"].labels[0].figures["auroc"].value == 0.5
        assert getattr(first, side if side != "cell" else other).sum() == 7 * owners
        return
    reason = opening.cells[0] if side == "cell" else opening.labels[0][0]
    word = "any" if side == "cell" else side.removesuffix("s")
    assert reason.startswith(f"fewer than 3 sites have {word} record")
    assert first.counts == (0, 0)
    if side == "cell":
        assert result.cells == {} and total[0].records == total[0].patients == 0
    else:
        assert result.cells["both"].not_opened[plan.labels[0]] == reason


# Order, cohorts and damage


def test_a_site_answers_each_step_once_and_in_order(measured: Callable[..., Any]) -> None:
    config, _, plan, sums = measured()
    exchange = Exchange(config, plan, sums)
    exchange.coordinator.agree_on_key()
    site, cohort = exchange.sites["site-01"], tuple(sums)
    for kind in ("metrics", "metrics-sum", "update", "finish"):
        with pytest.raises(ProtocolError, match="out of order"):
            site.handle(Task(kind, ROUND, 1, cohort))  # type: ignore[arg-type]
    for number, attempt in ((ROUND + 1, 1), (ROUND, 0)):
        with pytest.raises(ProtocolError, match="out of order"):
            site.handle(Task("metric-owners", number, attempt, cohort))
    exchange.coordinator.sum_metrics(ROUND, 1, plan.owner_values)
    for _, task, _ in [one for one in exchange.log if one[0] == "site-01"][1:]:
        for attempt in (1, 2):
            with pytest.raises(ProtocolError):
                site.handle(replace(task, attempt=attempt))


def test_a_site_never_answers_for_another_cohort(measured: Callable[..., Any]) -> None:
    """The difference of the sums over two cohorts would be a single site's counts."""
    config, _, plan, sums = measured()
    exchange = Exchange(config, plan, sums)
    exchange.coordinator.agree_on_key()
    for cohort in (tuple(sums)[:3], (*sums, "x"), tuple(reversed(list(sums)))):
        with pytest.raises(ProtocolError, match="not its roster"):
            exchange.sites["site-01"].handle(Task("metric-owners", ROUND, 1, cohort))


@pytest.mark.parametrize("kind", ["metrics", "metrics-sum"])
@pytest.mark.parametrize("damage", ["one site's message", "nothing", "cut"])
def test_a_sum_that_is_not_the_cohort_s_gets_one_answer_and_no_second_try(
    measured: Callable[..., Any], kind: str, damage: str
) -> None:
    config, _, plan, sums = measured()
    exchange = Exchange(config, plan, sums)

    def tamper(site: str, task: Task) -> Task:
        if task.kind != kind:
            return task
        before = "metric-owners" if kind == "metrics" else "metrics"
        parts = {
            "one site's message": tuple(exchange.sent("site-02", before)),
            "nothing": (),
            "cut": tuple(p[:-1] for p in task.parts),
        }[damage]
        return replace(task, parts=parts)

    exchange.tamper = tamper
    with pytest.raises(ProtocolError, match="site 'site-01' gives no metrics"):
        exchange.measure()
    task = Task(kind, ROUND, 1, tuple(sums))  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="out of order"):
        exchange.sites["site-01"].handle(task)
    assert not exchange.opened


def test_a_site_obeys_its_policy(measured: Callable[..., Any]) -> None:
    config, _, plan, sums = measured()
    open_policy = Policy(allow_without_ledger=True)
    Exchange(config, plan, sums, open_policy)
    for policy, rule in (
        (Policy(allow_without_ledger=True, metrics=("auroc",)), "metrics = auroc"),
        (Policy(allow_without_ledger=True, smallest_cohort=5), "smallest_cohort = 5"),
    ):
        with pytest.raises(PolicyError, match=rule):
            Exchange(config, plan, sums, policy)


def test_two_sites_are_refused(measured: Callable[..., Any]) -> None:
    config, _, plan, sums = measured()
    with pytest.raises(ProtocolError, match="2 sites"):
        Exchange(config, replace(plan, sites=2), dict(list(sums.items())[:2]))


def test_more_records_than_fit_are_refused_before_anything_is_sent(
    measured: Callable[..., Any],
) -> None:
    config, _, plan, sums = measured()
    huge = [replace(empty(plan)[0], records=plan.largest_records + 1), *empty(plan)[1:]]
    with pytest.raises(PlanError, match="held-out records"):
        Exchange(config, plan, {**sums, "site-01": huge})


# Who owns held-out patients


def test_every_held_out_patient_is_at_one_site(measured: Callable[..., Any]) -> None:
    _, data, _, _ = measured()
    owners: dict[str, set[str]] = {}
    for patient, site in zip(data.test.patient_ids, data.test.sites, strict=True):
        owners.setdefault(patient, set()).add(site)
    assert all(len(sites) == 1 for sites in owners.values())
    assert {site for sites in owners.values() for site in sites} == set(data.sites)
    parts = [data.test.of_site(name, ("image", "text")) for name in data.sites]
    assert sum(len(part.patient_ids) for part in parts) == len(data.test.patient_ids)


def test_a_site_measures_only_with_what_it_holds(measured: Callable[..., Any]) -> None:
    _, data, plan, sums = measured(federation__modalities="1:0:3")
    first = data.test.of_site("site-01", ("image",))
    assert not first.batch.present["text"].any()
    by_cell = dict(zip(plan.cells, sums["site-01"], strict=True))
    assert by_cell["image only"].records > 0
    assert by_cell["both"].records == by_cell["text only"].records == 0


# Whole runs


def finish(config: RunConfig, data: PreparedData, path: Path, observer: Any = None) -> Any:
    run = start_run(path, config, make_plan(config, data.declarations), data)
    assert complete_run(run, config, data, observer=observer) is not None
    return run


class Losses:
    """Keeps the losses that a display is told."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def told(*words: Any) -> None:
            if name == "round_finished":
                self.losses.append(words[1])

        return told


def test_a_run_writes_down_nothing_but_the_sums(
    tiny: Callable[..., RunConfig], prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever measures pooled held-out patients is taken away, and the run does not miss it."""
    from privfin.federation import local, training_run

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("pooled held-out patients were measured")

    for module, name in (
        (training_run, "assess"),
        (training_run, "assess_groups"),
        (local, "held_out_loss"),
    ):
        monkeypatch.setattr(module, name, forbidden)
    config = tiny(**FOUR, training__rounds=1)
    observer = Losses()
    run = finish(config, prepared(config), tmp_path / "run", observer)
    assert observer.losses and all(map(math.isnan, observer.losses))
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["groups"] == {}
    federated = metrics["federated"]
    assert federated["sites"] == 4
    for name, cell in metrics["cells"].items():
        assert cell["macro_auroc"] == federated["cells"][name]["macro"]["auroc"]["value"]
        assert cell["macro_auroc_low"] is cell["macro_auroc_high"] is None
        assert (cell["bootstrap"], cell["records"]) == (0, federated["cells"][name]["records"])
    assert metrics["cells"]
    statement = json.loads((run.path / "privacy.json").read_text())
    assert any("secure metrics" in line for line in statement["not_covered"])
    events = [event["event"] for event in run.events()]
    assert events.count("metrics-started") == events.count("metrics-finished") == 1
    text = (run.path / "metrics.json").read_text() + (run.path / "events.jsonl").read_text()
    for site in prepared(config).sites:
        assert site not in json.dumps(federated)
    assert "positives" in text


def test_a_run_that_stopped_before_its_metrics_measures_when_it_is_resumed(
    tiny: Callable[..., RunConfig], prepared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exchange starts again with new keys and the next attempt; training is not repeated."""
    from privfin.federation import secure_metrics

    config = tiny(**FOUR, training__rounds=1)
    data = prepared(config)
    run = start_run(tmp_path / "run", config, make_plan(config, data.declarations), data)
    opened = secure_metrics.federated_metrics

    def crash(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(secure_metrics, "federated_metrics", crash)
    with pytest.raises(KeyboardInterrupt):
        complete_run(run, config, data)
    assert not run.is_finished
    monkeypatch.setattr(secure_metrics, "federated_metrics", opened)
    assert complete_run(load_run(run.path), config, data) is not None
    events = load_run(run.path).events()
    assert [e["attempt"] for e in events if e["event"] == "metrics-started"] == [1, 2]
    assert sum(e["event"] == "site-round-started" for e in events) == 4
    assert load_run(run.path).metrics["federated"]["cells"]


@pytest.mark.parametrize("left_out", METRICS)
def test_a_metric_that_is_not_listed_is_not_sent(
    measured: Callable[..., Any], left_out: str
) -> None:
    listed = [m for m in METRICS if m != left_out]
    config, _, plan, sums = measured(evaluation__metrics=listed)
    own = sums["site-01"][0].labels
    sent = {
        "brier": any(one.squared_error for one in own),
        "loss": any(one.loss for one in own),
        "calibration": any(one.probability.size for one in own),
    }
    assert all(sent[name] == (name != left_out) for name in sent)
    cell = next(iter(Exchange(config, plan, sums).measure().to_dict()["cells"].values()))
    key = {"calibration": "ece"}.get(left_out, left_out)
    assert key not in cell["macro"]
    assert all(key not in label for label in cell["labels"])


def test_without_ranking_no_histogram_is_sent(measured: Callable[..., Any]) -> None:
    _, _, plan, _ = measured(evaluation__metrics=["brier"])
    assert plan.edges.size == 0 and plan.calibration_bins == 0


def test_two_sites_say_why_there_is_no_number(
    tiny: Callable[..., RunConfig], prepared: Any, tmp_path: Path
) -> None:
    config = tiny(**{**FOUR, "federation__sites": 2}, training__rounds=1)
    run = finish(config, prepared(config), tmp_path / "run")
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["cells"] == metrics["federated"]["cells"] == {}
    assert all("2 sites" in why for why in metrics["federated"]["not_opened"].values())
    assert "metrics-started" not in [event["event"] for event in run.events()]


@pytest.mark.parametrize(
    "options",
    [
        {"crypto__encryption": "none"},
        {"evaluation__choose_round": "validation"},
        {"training__fine_tune_steps": 2},
    ],
)
def test_what_would_show_more_than_sums_is_refused(
    tiny: Callable[..., RunConfig], options: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"evaluation\.secure does not go with"):
        tiny(**FOUR, **options)
