"""Sums are exact and masked: what sites hold after a round, and what one ciphertext shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chisquare

from privfin.config import RunConfig
from privfin.crypto import ckks
from privfin.crypto.masks import MaskBook, MaskContext
from privfin.crypto.quantize import Quantizer
from privfin.errors import ProtocolError
from privfin.federation.local import train_locally
from privfin.federation.plan import make_plan
from privfin.federation.training_run import start_run

Federations = Callable[..., Any]
LAYOUTS = {"2x20": 16, "3x15": 11}
PATTERNS = {2: "1:0:1", 3: "1:1:1", 4: "1:1:2", 5: "2:2:1"}


def divisors(plan: Any, cohort: Any = None) -> npt.NDArray[np.float32]:
    """What divides the sum of every parameter, (parameters,)."""
    found: npt.NDArray[np.float32] = plan.spread(
        [np.float32(segment.divisor(cohort)) for segment in plan.segments]
    )
    return found


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("sites", PATTERNS)
def test_encrypted_and_plain_rounds_end_in_the_same_bits(
    federation: Federations, sites: int, layout: str
) -> None:
    options = {
        "federation__sites": sites,
        "federation__modalities": PATTERNS[sites],
        "crypto__layout": layout,
        "crypto__value_bits": LAYOUTS[layout],
    }
    encrypted = federation(**options).train()
    plain = federation(crypto__encryption="none", **options).train()
    assert len(encrypted.cohort) == sites
    models = {
        tuple(v.tobytes() for v in kept)
        for one in (encrypted, plain)
        for kept in one.applied.values()
    }
    assert len(models) == 1  # every site, after every round, in both runs
    assert len(next(iter(models))) == encrypted.plan.rounds
    finals = {s.final().tobytes() for one in (encrypted, plain) for s in one.states.values()}
    assert len(finals) == 1
    moved = encrypted.applied["site-01"][1] != encrypted.applied["site-01"][0]
    assert moved.mean() > 0.5


def test_ckks_rounds_end_in_the_same_model_everywhere_without_rounding(
    federation: Federations,
) -> None:
    """Sites agree to the bit, and on the exact average of real numbers but for 1e-6."""
    one = federation(crypto__encryption="ckks").train()
    kept = {tuple(v.tobytes() for v in applied) for applied in one.applied.values()}
    assert len(kept) == 1
    bound = one.config.crypto.update_bound
    total = np.zeros(one.plan.parameters)
    for site in one.cohort:
        mask = one.plan.trained_mask(one.plan.site(site).modalities, one.config.model.imputer)
        total += np.where(mask, np.clip(one.changes[site][1], -bound, bound), 0)
    wanted = _initial(one) + total / divisors(one.plan)
    assert np.abs(one.applied["site-01"][0] - wanted).max() < 1e-6
    update = one.update_of("site-01", 1).reply
    assert len(update) < one.plan.bytes_up + 4096


def test_a_key_holder_reads_single_ckks_updates_and_a_site_refuses_to_apply_one(
    federation: Federations,
) -> None:
    """What the statement says of ckks; and the coordinator cannot make a site open one update."""
    one = federation(crypto__encryption="ckks").agree()
    replies = {site: one.sites[site].handle(one.task("update", 1)) for site in one.cohort}
    blobs = _parts(one, replies["site-02"], "site-02")
    key = one.sites["site-01"]._protection._key
    found = key.decrypt(blobs)[:, : ckks.DATA_SLOTS].reshape(-1)[: one.plan.values]
    have = one.plan.site("site-02").modalities
    sent = np.where(one.plan.trained_mask(have, "fin"), one.changes["site-02"][1], 0)
    assert np.abs(found - sent).max() < 1e-6
    with pytest.raises(ProtocolError, match="stopped for good"):
        one.sites["site-01"].handle(one.task("update", 2, *blobs))


def test_a_ckks_sum_of_another_round_stops_a_site(federation: Federations) -> None:
    """It has the right number of updates; its tags say that it is the sum of the round before."""
    one = federation(crypto__encryption="ckks").agree()
    old = _ckks_sum(one, 1)
    site = one.sites["site-01"]
    site.handle(one.task("update", 2, *old))
    with pytest.raises(ProtocolError, match="stopped for good"):
        site.handle(one.task("finish", 2, *old))


def _ckks_sum(one: Any, number: int) -> list[bytes]:
    total = ckks.CkksSum(ckks.chunks_for(one.plan.values))
    for site in one.cohort:
        reply = one.sites[site].handle(one.task("update", number))
        total.add(_parts(one, reply, site))
    return total.result()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_sum_is_the_integer_sum_of_what_the_sites_encoded(
    federation: Federations, layout: str
) -> None:
    bits = LAYOUTS[layout]
    one = federation(crypto__layout=layout, crypto__value_bits=bits).train()
    wanted = sum(one.codes(site, 1).astype(np.int64) for site in one.cohort)
    relayed = list(one.update_of("site-01", 2).task.parts)
    for site in one.cohort:
        protection = one.sites[site]._protection
        total = protection.reveal(relayed, one.plan.parameters, 1, 1, one.cohort)
        assert np.array_equal(total.astype(np.int64), wanted)
    # The model moves by the decoded sum over the public number of sites that train a segment.
    mean = Quantizer(one.config.crypto.update_bound, bits).decode_sum(
        wanted, len(one.cohort)
    ) / divisors(one.plan)
    before = _initial(one)
    after = (before + mean.astype(np.float32)).astype(np.float32)
    assert np.array_equal(one.applied["site-03"][0], after)


def _initial(one: Any) -> Any:
    from privfin.models.segments import flatten, initial_model

    return flatten(initial_model(one.config, len(one.plan.label_names)))


def test_rounding_changes_an_average_by_less_than_a_level(federation: Federations) -> None:
    """The whole way from training to the model, against the average in floating point."""
    one = federation(real_training=True).train(1)
    total = np.zeros(one.plan.parameters)
    for site in one.cohort:
        have = one.plan.site(site).modalities
        total += np.where(one.plan.trained_mask(have, "fin"), one.changes[site][1], 0)
    wanted = _initial(one) + total / divisors(one.plan)
    error = np.abs(one.applied["site-01"][0] - wanted)
    level = Quantizer(one.config.crypto.update_bound, 16).step
    assert error.max() <= len(one.cohort) * level


def test_flower_changes_nothing(
    federation: Federations, tiny: Callable[..., RunConfig], prepared: Any, tmp_path: Any
) -> None:
    """Real training ends in the same bits with and without Flower, encrypted or not."""
    direct = federation(real_training=True).train()
    for encryption in ("bfv", "none"):
        config = tiny(privacy__reproducible=True, crypto__encryption=encryption)
        data = prepared(config)
        plan = make_plan(config, data.declarations)
        run = start_run(tmp_path / encryption, config, plan, data)
        outcome = train_locally(config, plan, data, run)
        assert outcome.is_complete
        assert outcome.vector.tobytes() == direct.states["site-02"].final().tobytes()


def test_the_real_program_trains_with_ckks(
    tiny: Callable[..., RunConfig], prepared: Any, tmp_path: Any
) -> None:
    """Through Flower, next to the plain sum, which differs by its rounding only."""
    vectors = []
    for encryption in ("ckks", "none"):
        config = tiny(
            privacy__reproducible=True,
            crypto__encryption=encryption,
            crypto__value_bits=18,
            training__rounds=1,
        )
        data = prepared(config)
        plan = make_plan(config, data.declarations)
        run = start_run(tmp_path / encryption, config, plan, data)
        outcome = train_locally(config, plan, data, run)
        assert outcome.is_complete
        vectors.append(outcome.vector)
    step = Quantizer(config.crypto.update_bound, 18).step
    assert np.abs(vectors[0] - vectors[1]).max() <= 1.01 * len(plan.sites) * step
    assert not np.array_equal(vectors[0], vectors[1])


# --- masks ----------------------------------------------------------------------------------


def _parts(one: Any, reply: bytes, site: str) -> list[bytes]:
    """The ciphertexts of one site's update in round 1."""
    from privfin.crypto.envelope import ExpectedHeader, open_envelope

    key_id = one.sites[site]._protection.key_id
    expected = ExpectedHeader(
        "update", one.run.run_id, 1, 1, (site,), key_id, one.run.config_digest
    )
    return list(open_envelope(reply, one.roster, expected).parts)


def _slots_of_one_site(one: Any, site: str) -> Any:
    """Decrypt one site's ciphertexts from the transcript, as a coordinator with a key could."""
    key = one.sites["site-03"]._protection._key
    blobs = _parts(one, one.update_of(site, 1).reply, site)
    return key.decrypt(blobs, one.packing.masked_slots(one.plan.parameters))


def _p_uniform(slots: Any, modulus: int) -> float:
    counts = np.bincount((slots.astype(np.float64) / modulus * 64).astype(int), minlength=64)
    low = np.bincount((slots % 64).astype(int), minlength=64)
    return float(min(chisquare(counts).pvalue, chisquare(low).pvalue))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_update_decrypts_to_uniform_noise(federation: Federations, layout: str) -> None:
    """Whoever holds the key and one site's ciphertexts, but not all other sites, learns nothing.

    Fails by chance with probability below 1e-7.
    """
    one = federation(
        real_training=True, crypto__layout=layout, crypto__value_bits=LAYOUTS[layout]
    ).train(1)
    for site in one.cohort[:2]:
        slots = _slots_of_one_site(one, site)
        assert _p_uniform(slots, one.packing.modulus) > 1e-8
        sent = one.packing.pack(one.codes(site, 1))
        assert (slots[: sent.size] == sent).mean() < 0.01


def test_without_masks_the_same_test_sees_the_update(
    federation: Federations, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_mask(self: MaskBook, context: MaskContext, modulus: int, length: int) -> Any:
        return np.zeros(length, dtype=np.int64)

    monkeypatch.setattr(MaskBook, "take", no_mask)
    one = federation(real_training=True).train(1)
    slots = _slots_of_one_site(one, "site-01")
    assert _p_uniform(slots, one.packing.modulus) < 1e-100
    sent = one.packing.pack(one.codes("site-01", 1))
    assert np.array_equal(slots[: min(sent.size, 8191)], sent[:8191])


def test_masks_differ_between_rounds_and_sites(federation: Federations) -> None:
    """The same update twice gives unrelated ciphertexts: the difference stays uniform."""
    one = federation()
    for site in one.sites.values():
        site._work._trainer.inner.train = lambda start, number, steps: np.zeros_like(start)
    one.train()
    seen = []
    for site in one.cohort:
        seen.append(_slots_of_one_site(one, site))
    for first in range(3):
        for second in range(first):
            gap = (seen[first] - seen[second]) % one.packing.modulus
            assert _p_uniform(gap, one.packing.modulus) > 1e-8
    # Together they cancel: zeros everywhere, which is the code of zero three times.
    assert len(np.unique(sum(seen) % one.packing.modulus)) <= 3
