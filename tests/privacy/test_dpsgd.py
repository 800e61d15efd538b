"""The DP-SGD step keeps its promises on the real model: who can move what, by how much, and with
how much noise. Every check is also run on a step that was broken on purpose."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from privfin.config import RunConfig
from privfin.errors import PrivfinError
from privfin.models.multimodal import Batch, MultimodalModel, masked_bce
from privfin.models.scattering import scattering_width
from privfin.models.segments import freeze_untrained, initial_model
from privfin.privacy import dpsgd
from privfin.privacy.dpsgd import CryptographicNoiseOptimizer, DpSgd, DpSgdSettings
from privfin.randomness import RandomStream

RECORDS = 12
LABELS = 3
WIDTH = 8
LENGTH = 5
WEIGHT = 0.5
# Two configurations that use every encoder between them.
ENCODERS = {"fixed": ("scattering", "hashed-ngrams"), "trained": ("cnn", "transformer")}
SITES = {"image-only": ("image",), "text-only": ("text",), "paired": ("image", "text")}
# Clipping in float32 may overshoot C by rounding, never by more than this share of it.
ROUNDING = 1e-4
# Bounds at which a right step fails by chance less than once in 10^6 tests.
CHANCE = 1e-8


@dataclass
class Site:
    """A site with random rows: a model whose untrained segments are frozen, rows, and a loss."""

    model: MultimodalModel
    batch: Batch

    def record_loss(self, records: np.ndarray) -> Tensor:
        return self.model.per_record_loss(self.batch.rows(torch.from_numpy(records)), WEIGHT)

    def without_hooks(self) -> Site:
        return Site(copy.deepcopy(self.model), self.batch)


def make_config(encoders: str = "fixed") -> RunConfig:
    image, text = ENCODERS[encoders]
    return RunConfig.model_validate(
        {
            "data": {"image_size": 16},
            "modalities": {
                "image": {"encoder": image, "kind": "image"},
                "text": {"encoder": text, "kind": "text", "features": 16, "length": LENGTH},
            },
            "model": {
                "width": WIDTH,
                "imputer": "fin",
                "fin": {"layers": 1, "heads": 2, "feedforward": 8, "tokens": 2},
            },
        }
    )


def make_site(encoders: str = "fixed", kind: str = "paired", seed: int = 1) -> Site:
    """Random parameters (a new head is zero and would pass no gradient on) and random rows."""
    model = initial_model(make_config(encoders), LABELS)
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=random) * 0.4)
    freeze_untrained(model, SITES[kind], "fin")
    if encoders == "fixed":
        image = torch.randn(RECORDS, scattering_width(1), generator=random)
        text = torch.randn(RECORDS, 16, generator=random)
    else:
        image = torch.randn(RECORDS, 1, 16, 16, generator=random)
        text = torch.randint(0, 2048, (RECORDS, LENGTH), generator=random).float()
    has_image = torch.full((RECORDS,), kind != "text-only")
    has_text = torch.full((RECORDS,), kind != "image-only")
    if kind == "paired":  # a paired site has records that lack one of the two
        has_image[1::4] = False
        has_text[2::4] = False
    image[~has_image] = 0.0
    text[~has_text] = 0.0
    labels = torch.randint(0, 2, (RECORDS, LABELS), generator=random).float()
    labels[0, 0] = labels[5] = math.nan  # one unknown label, and one record without any
    return Site(
        model, Batch({"image": image, "text": text}, {"image": has_image, "text": has_text}, labels)
    )


def make_dpsgd(
    site: Site,
    *,
    clip_norm: float = 1.0,
    noise_multiplier: float = 1.0,
    sampling_rate: float = 0.5,
    batch_size: int = 7,
    physical_batch: int = 5,
    patients: Sequence[Sequence[int]] = tuple((i,) for i in range(RECORDS)),
    record_loss: Callable[[np.ndarray], Tensor] | None = None,
    learning_rate: float = 0.0,
    noise: RandomStream | None = None,
    sampling: RandomStream | None = None,
) -> DpSgd:
    return DpSgd(
        site.model,
        record_loss or site.record_loss,
        patients,
        DpSgdSettings(clip_norm, noise_multiplier, sampling_rate, batch_size, physical_batch),
        lambda parameters: torch.optim.SGD(parameters, lr=learning_rate),
        noise=noise or RandomStream.reproducible(1, "noise"),
        sampling=sampling or RandomStream.reproducible(1, "sampling"),
    )


class ChosenSampling(RandomStream):
    """A sampling stream whose numbers belong to patients, not to positions in the stream.

    Leaving a patient out therefore leaves everyone else's choices as they were, which is how
    neighbouring data sets are compared.
    """

    def __init__(self, inclusion: Sequence[float], pick: Sequence[float], rate: float) -> None:
        super().__init__(bytes(32), reproducible=True)
        self._inclusion, self._pick = np.array(inclusion), np.array(pick)
        self._rate = rate
        self._asked = 0

    def uniform(self, count: int) -> np.ndarray:
        drawn = self._inclusion < self._rate
        answer = self._inclusion if self._asked % 2 == 0 else self._pick[drawn]
        self._asked += 1
        assert count == len(answer)
        return answer


def trained(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().double().flatten() for t in tensors])


def record_gradients(site: Site) -> Tensor:
    """(records, parameters): every record alone, by plain autograd without any hook."""
    plain = site.without_hooks()
    rows = []
    for i in range(RECORDS):
        loss = plain.record_loss(np.array([i])).sum()
        grads = torch.autograd.grad(loss, trained(plain.model), allow_unused=True)
        pairs = zip(grads, trained(plain.model), strict=True)
        rows.append(flat([torch.zeros_like(p) if g is None else g for g, p in pairs]))
    return torch.stack(rows)


def clip_rows(gradients: Tensor, clip_norm: float) -> Tensor:
    norms = gradients.norm(dim=1, keepdim=True)
    return gradients * (clip_norm / (norms + 1e-6)).clamp(max=1.0)


def clipped_sum(site: Site, records: Sequence[int], **options: object) -> Tensor:
    trainer = make_dpsgd(site, **options)
    try:
        return flat(trainer.clipped_sum(np.array(records, dtype=np.int64)))
    finally:
        trainer.close()


def sum_of_step(site: Site, **options) -> Tensor:
    """What a whole step would release without its noise, times the divisor."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dpsgd, "gaussian_noise", lambda stream, count: np.zeros(count))
        trainer = make_dpsgd(site, **options)
        try:
            trainer.step()
        finally:
            trainer.close()
    return flat([p.grad for p in trained(site.model)]) * options.get("batch_size", 7)


def equals_reference(site: Site, clip_norm: float, **options: object) -> bool:
    """The clipped sum is the sum of gradients that were each computed and clipped alone."""
    wanted = clip_rows(record_gradients(site), clip_norm).sum(dim=0)
    found = clipped_sum(site, range(RECORDS), clip_norm=clip_norm, **options)
    return bool((found - wanted).norm() <= ROUNDING * wanted.norm())


def middle_norm(site: Site) -> float:
    """A clipping norm that clips some records and leaves others as they are."""
    norms = record_gradients(site).norm(dim=1)
    clip_norm = float(norms.median())
    assert (norms > clip_norm * 1.01).sum() >= 3
    assert (norms < clip_norm * 0.99).sum() >= 3
    return clip_norm


# The clipped sum


@pytest.mark.parametrize("kind", SITES)
@pytest.mark.parametrize("encoders", ENCODERS)
@pytest.mark.parametrize("physical_batch", [1, 5, 64])
def test_the_clipped_sum_is_that_of_records_taken_alone(encoders, kind, physical_batch):
    """Opacus' hooks, the masking and the micro-batches change nothing: each record's own gradient
    over all trained parameters is clipped as one vector."""
    site = make_site(encoders, kind)
    assert equals_reference(site, middle_norm(site), physical_batch=physical_batch)


@pytest.mark.parametrize("kind", SITES)
def test_only_trained_segments_move(kind):
    """A site's update says nothing in segments that the site does not train."""
    site = make_site("trained", kind)
    before = {n: p.detach().clone() for n, p in site.model.named_parameters()}
    trainer = make_dpsgd(site, learning_rate=0.1)
    trainer.step()
    trainer.close()
    for name, p in site.model.named_parameters():
        assert torch.equal(p, before[name]) != p.requires_grad, name
    missing = {"image-only": "encoder.text", "text-only": "encoder.image", "paired": None}[kind]
    frozen = {n.split(".")[0] + "." + n.split(".")[1] for n in before if not _trains(site, n)}
    assert (missing in frozen) if missing else not frozen


def _trains(site: Site, name: str) -> bool:
    return site.model.get_parameter(name).requires_grad


@pytest.mark.parametrize("encoders", ENCODERS)
def test_one_record_is_clipped_to_the_norm_and_small_ones_are_left_alone(encoders):
    site = make_site(encoders)
    norms = record_gradients(site).norm(dim=1)
    clip_norm = middle_norm(site)
    for i in range(RECORDS):
        found = float(clipped_sum(site, [i], clip_norm=clip_norm).norm())
        assert found == pytest.approx(min(clip_norm, float(norms[i])), rel=1e-3, abs=1e-6)
        assert found <= clip_norm * (1 + ROUNDING)


def test_a_clipped_sum_does_not_remember_the_one_before():
    """Stale per-sample gradients would let one batch's patients into the next one's release."""
    site = make_site()
    trainer = make_dpsgd(site)
    first = flat(trainer.clipped_sum(np.arange(4)))
    trainer.clipped_sum(np.arange(4, 12))
    empty = flat(trainer.clipped_sum(np.array([], dtype=np.int64)))
    again = flat(trainer.clipped_sum(np.arange(4)))
    trainer.close()
    assert torch.equal(first, again)
    assert not empty.any()


def test_hooks_come_off_and_go_on_again():
    """A site makes a new trainer every round on one model; evaluation must leave no trace."""
    site = make_site()
    first = clipped_sum(site, range(RECORDS))
    assert torch.equal(first, clipped_sum(site, range(RECORDS)))
    assert not any(m._forward_hooks or m._backward_hooks for m in site.model.modules())
    site.record_loss(np.arange(3)).sum().backward()
    assert all(getattr(p, "grad_sample", None) is None for p in site.model.parameters())


# Sensitivity: one patient more or less

SHARED = {name: make_site(*name) for name in [("fixed", "paired"), ("trained", "paired")]}


@st.composite
def sampled_patients(draw):
    """Patients of one to three records each, who is drawn, which record, and who leaves."""
    groups, start = [], 0
    while start < RECORDS:
        size = min(draw(st.integers(1, 3)), RECORDS - start)
        groups.append(list(range(start, start + size)))
        start += size
    share = st.floats(0, 1, exclude_max=True)
    inclusion = [draw(share) for _ in groups]
    pick = [draw(share) for _ in groups]
    return groups, inclusion, pick, draw(st.integers(0, len(groups) - 1))


def change_without(site, groups, inclusion, pick, leaving, **options) -> Tensor:
    """How far the sum of a step moves when one patient leaves the data set."""

    def release(kept: list[int]) -> Tensor:
        sampling = ChosenSampling([inclusion[i] for i in kept], [pick[i] for i in kept], 0.5)
        patients = [groups[i] for i in kept]
        return sum_of_step(site, patients=patients, sampling=sampling, **options)

    everyone = list(range(len(groups)))
    return (release(everyone) - release([i for i in everyone if i != leaving])).norm()


@pytest.mark.parametrize("name", SHARED)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(case=sampled_patients(), clip_norm=st.sampled_from([0.05, 0.7, 5.0]))
def test_one_patient_moves_a_whole_step_by_at_most_the_clipping_norm(name, case, clip_norm):
    _, inclusion, _, leaving = case
    moved = change_without(SHARED[name], *case, clip_norm=clip_norm)
    assert moved <= clip_norm * (1 + 10 * ROUNDING)
    if inclusion[leaving] >= 0.5:
        # Someone who was not drawn moves nothing but the rounding of the others' sums.
        assert moved <= clip_norm * 10 * ROUNDING


# Ten patients with every record in the step, and the first with three of them.
EVERYONE = ([[0, 1, 2], *([i] for i in range(3, RECORDS))], [0.0] * 10, [0.0] * 10)


def keeps_the_bound(site: Site, clip_norm: float, **options) -> bool:
    return largest_change(site, clip_norm, **options) <= clip_norm * (1 + 10 * ROUNDING)


def largest_change(site: Site, clip_norm: float, **options) -> float:
    options = {"clip_norm": clip_norm, "physical_batch": 64, **options}
    return max(float(change_without(site, *EVERYONE, i, **options)) for i in range(10))


def test_the_bound_is_reached_but_kept():
    """The sensitivity check has teeth: some patient moves the sum by all of C."""
    assert keeps_the_bound(make_site(), 0.05)
    assert largest_change(make_site(), 0.05) == pytest.approx(0.05, rel=1e-3)


def test_each_patient_gives_at_most_one_record_a_step():
    """Several studies of a patient must not add up within a step."""
    site = make_site()
    groups = [[0, 1, 2], [3, 4], [5], [6, 7, 8, 9], [10, 11]]
    owner = {record: i for i, group in enumerate(groups) for record in group}
    seen: list[int] = []

    def spy(records: np.ndarray) -> Tensor:
        seen.extend(records.tolist())
        return site.record_loss(records)

    used = set()
    trainer = make_dpsgd(site, patients=groups, record_loss=spy, sampling_rate=0.7)
    for _ in range(40):
        seen.clear()
        trainer.step()
        patients = [owner[record] for record in seen]
        assert len(set(patients)) == len(patients)
        used.update(seen)
    trainer.close()
    assert used == set(range(RECORDS))  # and no record is left out for good


# Noise and divisor


class NoiseCheck:
    """Steps of a site, and the noise that each of them really added to the clipped sum."""

    def __init__(self, sampling_rate: float, *, batch_size: int = 7, steps: int = 20) -> None:
        self.clip_norm, self.sigma, self.batch_size = 0.3, 1.7, batch_size
        site = make_site()
        realised = []
        trainer = make_dpsgd(
            site,
            clip_norm=self.clip_norm,
            noise_multiplier=self.sigma,
            sampling_rate=sampling_rate,
            batch_size=batch_size,
        )
        original, sums = trainer.clipped_sum, []

        def keep(records: np.ndarray) -> list[Tensor]:
            realised.append(len(records))
            found = original(records)
            sums.append(flat(found))
            return found

        trainer.clipped_sum = keep
        draws = []
        for _ in range(steps):
            trainer.step()
            released = flat([p.grad for p in trained(site.model)])
            draws.append(released * batch_size - sums[-1])
        trainer.close()
        self.realised = realised
        self.draws = torch.stack(draws).numpy() / (self.sigma * self.clip_norm)

    def has_right_spread(self) -> bool:
        low, high = stats.chi2.ppf([CHANCE, 1 - CHANCE], self.draws.size)
        return bool(low <= (self.draws**2).sum() <= high)

    def has_mean_zero(self) -> bool:
        return _within_chance(self.draws.sum() / math.sqrt(self.draws.size))

    def steps_are_independent(self) -> bool:
        products = self.draws[1:] * self.draws[:-1]
        return _within_chance(products.sum() / math.sqrt(products.size))

    def parameters_are_independent(self) -> bool:
        products = self.draws[:, 1:] * self.draws[:, :-1]
        return _within_chance(products.sum() / math.sqrt(products.size))


def _within_chance(score: float) -> bool:
    return bool(abs(score) <= stats.norm.isf(CHANCE))


@pytest.mark.parametrize("sampling_rate", [1e-12, 0.4, 1.0])
def test_every_step_adds_fresh_noise_of_the_stated_size(sampling_rate):
    """Whoever is in the batch, nobody included: N(0, (sigma C)^2) on every parameter, divided by
    the fixed expected batch size."""
    check = NoiseCheck(sampling_rate)
    assert check.draws.size > 100_000
    if sampling_rate == 1e-12:
        assert set(check.realised) == {0}
    assert check.has_right_spread()
    assert check.has_mean_zero()
    assert check.steps_are_independent()
    assert check.parameters_are_independent()


@pytest.mark.parametrize("realised", [0, 1, 3, RECORDS])
@pytest.mark.parametrize("physical_batch", [2, 64])
def test_the_divisor_is_the_expected_batch_size(realised, physical_batch):
    """Dividing by the realised size would make the noise depend on who is in the batch."""
    assert divides_by_the_expected_size(realised, physical_batch)


def divides_by_the_expected_size(realised: int, physical_batch: int = 5) -> bool:
    site = make_site()
    inclusion = [0.0] * realised + [0.9] * (RECORDS - realised)
    wanted = clip_rows(record_gradients(site), 1.0)[:realised].sum(dim=0)
    found = sum_of_step(
        site,
        sampling=ChosenSampling(inclusion, [0.0] * RECORDS, 0.5),
        batch_size=4,
        physical_batch=physical_batch,
    )
    return bool((found - wanted).norm() <= ROUNDING * wanted.norm())


def test_the_optimiser_takes_the_noisy_gradient_and_nothing_else():
    """The parameters change by exactly -rate times what was released."""
    site = make_site()
    before = flat(trained(site.model))
    trainer = make_dpsgd(site, learning_rate=0.25)
    trainer.step()
    trainer.close()
    released = flat([p.grad for p in trained(site.model)])
    assert torch.allclose(flat(trained(site.model)), before - 0.25 * released, atol=1e-5)


# Broken on purpose


def no_clipping(optimizer: CryptographicNoiseOptimizer) -> None:
    for p in optimizer.params:
        p.summed_grad += p.grad_sample.sum(dim=0)


def clipping_by_layer(optimizer: CryptographicNoiseOptimizer) -> None:
    for p in optimizer.params:
        norms = p.grad_sample.flatten(1).norm(dim=1)
        factor = (optimizer.max_grad_norm / (norms + 1e-6)).clamp(max=1.0)
        p.summed_grad += torch.einsum("i,i...", factor, p.grad_sample)


@pytest.mark.parametrize("broken", [no_clipping, clipping_by_layer])
def test_broken_clipping_is_caught(monkeypatch, broken):
    site = make_site()
    clip_norm = middle_norm(site)
    assert equals_reference(site, clip_norm)
    monkeypatch.setattr(CryptographicNoiseOptimizer, "clip_and_accumulate", broken)
    assert not equals_reference(site, clip_norm)
    assert not keeps_the_bound(site, 0.05)


@pytest.mark.parametrize("factor", [0.5, 0.97, 1.03])
def test_wrong_noise_is_caught(monkeypatch, factor):
    real = dpsgd.gaussian_noise
    monkeypatch.setattr(dpsgd, "gaussian_noise", lambda stream, n: real(stream, n) * factor)
    assert not NoiseCheck(0.4).has_right_spread()


def test_repeated_noise_is_caught(monkeypatch):
    real = dpsgd.gaussian_noise
    same = RandomStream.reproducible
    monkeypatch.setattr(dpsgd, "gaussian_noise", lambda _, n: real(same(1), n))
    check = NoiseCheck(0.4)
    assert not check.steps_are_independent()


def test_noise_left_out_of_empty_batches_is_caught(monkeypatch):
    real = CryptographicNoiseOptimizer.add_noise

    def only_with_patients(optimizer: CryptographicNoiseOptimizer) -> None:
        real(optimizer)
        for p in optimizer.params:
            if not p.summed_grad.any():
                p.grad = torch.zeros_like(p)

    monkeypatch.setattr(CryptographicNoiseOptimizer, "add_noise", only_with_patients)
    assert not NoiseCheck(1e-12).has_right_spread()


def test_a_realised_divisor_is_caught(monkeypatch):
    sizes = []
    real = dpsgd.one_record_each

    def counted(stream, groups, chosen):
        sizes.append(max(len(chosen), 1))
        return real(stream, groups, chosen)

    def by_realised_size(optimizer: CryptographicNoiseOptimizer) -> None:
        for p in optimizer.params:
            p.grad /= sizes[-1]

    assert divides_by_the_expected_size(3)
    monkeypatch.setattr(dpsgd, "one_record_each", counted)
    monkeypatch.setattr(CryptographicNoiseOptimizer, "scale_grad", by_realised_size)
    assert not divides_by_the_expected_size(3)
    assert not NoiseCheck(0.4).has_right_spread()


def test_two_records_of_a_patient_are_caught(monkeypatch):
    def every_record(stream, groups, chosen):
        stream.uniform(len(chosen))
        return np.array([r for i in chosen for r in groups[i]], dtype=np.int64)

    monkeypatch.setattr(dpsgd, "one_record_each", every_record)
    assert not keeps_the_bound(make_site(), 0.05)


def test_a_loss_that_couples_records_is_caught():
    """What BatchNorm does: one patient's features shift everybody else's."""
    site = make_site()

    def centred_over_the_batch(records: np.ndarray) -> Tensor:
        rows = site.batch.rows(torch.from_numpy(records))
        features = site.model.encode(rows)
        said = site.model.imputer(features, rows.present)
        full = site.model.complete(features, rows.present, said)
        full = {m: x - x.mean(dim=0) for m, x in full.items()}
        loss = masked_bce(site.model.classify(full, rows.present), rows.labels)
        return loss + said.loss

    options = {"record_loss": centred_over_the_batch, "physical_batch": 64}
    assert not equals_reference(site, middle_norm(site), **options)
    assert not keeps_the_bound(site, 0.05, **options)


# Streams and refusals


def parameters_after(steps: int, *, noise: RandomStream, sampling: RandomStream) -> Tensor:
    site = make_site()
    trainer = make_dpsgd(site, learning_rate=0.1, noise=noise, sampling=sampling)
    for _ in range(steps):
        trainer.step()
    trainer.close()
    return flat(trained(site.model))


def test_streams_alone_decide_the_result():
    """Reproducible streams give equal bits whatever torch's own generator does; every other
    stream, the system's above all, gives another result."""

    def fixed(purpose: str) -> RandomStream:
        return RandomStream.reproducible(3, purpose)

    torch.manual_seed(1)
    first = parameters_after(3, noise=fixed("noise"), sampling=fixed("sampling"))
    torch.manual_seed(2)
    assert torch.equal(first, parameters_after(3, noise=fixed("noise"), sampling=fixed("sampling")))
    others = [
        parameters_after(3, noise=fixed("other"), sampling=fixed("sampling")),
        parameters_after(3, noise=fixed("noise"), sampling=fixed("other")),
        parameters_after(3, noise=RandomStream.system(), sampling=fixed("sampling")),
        parameters_after(3, noise=RandomStream.system(), sampling=RandomStream.system()),
    ]
    for i, other in enumerate(others):
        assert not any(torch.equal(other, seen) for seen in [first, *others[:i]])


@pytest.mark.parametrize("rate", [1e38, math.inf])
def test_parameters_that_are_not_finite_are_never_released(rate):
    trainer = make_dpsgd(make_site(), learning_rate=rate, noise_multiplier=1e3)
    with pytest.raises(PrivfinError, match="training diverged") as caught:
        for _ in range(3):
            trainer.step()
    assert "\n" not in str(caught.value)


def test_a_record_that_is_not_finite_stops_the_step():
    site = make_site()
    site.batch.inputs["image"][0] = math.nan
    trainer = make_dpsgd(site, sampling_rate=1.0)
    with pytest.raises(PrivfinError, match="training diverged"):
        trainer.step()


@pytest.mark.parametrize(
    "wrong",
    [
        {"clip_norm": 0.0},
        {"clip_norm": math.nan},
        {"noise_multiplier": 0.0},
        {"noise_multiplier": -1.0},
        {"noise_multiplier": math.nan},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.1},
        {"sampling_rate": math.nan},
        {"batch_size": 0},
        {"physical_batch": 0},
    ],
)
def test_settings_without_a_guarantee_are_refused(wrong):
    right = {"clip_norm": 1.0, "noise_multiplier": 1.0, "sampling_rate": 0.5, "batch_size": 4}
    DpSgdSettings(**right)
    with pytest.raises(ValueError, match=r"greater than 0|lie in|at least 1"):
        DpSgdSettings(**{**right, **wrong})


def test_a_model_that_couples_records_is_refused():
    """BatchNorm is stopped before it sees a record."""
    with pytest.raises(Exception, match="BatchNorm"):
        make_dpsgd(Site(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)), make_site().batch))
