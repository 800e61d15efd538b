"""What encryption costs for a run's model and cohort on this machine, measured now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from privfin.config import RunConfig
from privfin.crypto import ckks
from privfin.crypto.bfv import ciphertext_bytes
from privfin.crypto.cost import SECURITY_BITS, Cost, SchemeName, measure
from privfin.crypto.noise_margin import check_noise, failure_log2, margin_bits
from privfin.crypto.pack import LAYOUTS, POLY_DEGREE, Packing, chunks_for
from privfin.federation.plan import check_cohort, message_values, site_names

SAMPLE = 250_000
"""Most numbers that are measured; a longer update is taken in proportion."""

ROWS: tuple[SchemeName, ...] = ("2x20", "3x15", "2x28", "ckks", "nvflare", "plain")

NVFLARE_CHUNK = POLY_DEGREE // 2


@dataclass(frozen=True)
class SchemeSize:
    """One scheme for this model and cohort.

    Attributes:
        scheme: which.
        is_own: whether the run is configured so.
        parameters: of the scheme, in words.
        security_bits: 0 without encryption.
        bytes_a_value: bytes of an update over its numbers.
        bytes_up: bytes of one site's update; the sum is as long.
        site_seconds: CPU seconds of a site in a round.
        mask_seconds: the part of that for masks.
        coordinator_seconds: CPU seconds of the coordinator in a round.
        margin_bits: doublings that the noise of a sum survives; None where sums are not exact.
        failure_log2: base-2 logarithm of the bound on the probability that any sum of the run does
            not decrypt; likewise.
    """

    scheme: SchemeName
    is_own: bool
    parameters: str
    security_bits: int
    bytes_a_value: float
    bytes_up: int
    site_seconds: float
    mask_seconds: float
    coordinator_seconds: float
    margin_bits: int | None
    failure_log2: float | None


@dataclass(frozen=True)
class Sizing:
    """All schemes, and what they were measured with."""

    values: int
    sites: int
    rounds: int
    measured_values: int
    repeats: int
    schemes: tuple[SchemeSize, ...]


def own_scheme(config: RunConfig) -> SchemeName:
    """What the run is configured for."""
    if config.crypto.encryption == "bfv":
        return config.crypto.layout
    return "ckks" if config.crypto.encryption == "ckks" else "plain"


def size_up(
    config: RunConfig, repeats: int, on_step: Callable[[], object] = lambda: None
) -> Sizing:
    """Measure every scheme in turn with a sample of the run's update.

    Args:
        config: the run's configuration.
        repeats: measurements of each scheme; medians are reported.
        on_step: called after each of the ``repeats * len(ROWS)`` measurements.

    Raises:
        PlanError: the run's own scheme cannot sum its cohort.
    """
    sites, values = len(site_names(config)), message_values(config)
    rounds = config.training.rounds
    if config.privacy.trust == "shared":
        rounds *= config.training.local_steps
    check_cohort(config, sites)
    if config.crypto.encryption == "bfv":
        packing = Packing.named(config.crypto.layout)
        check_noise(packing, sites, rounds * chunks_for(packing.masked_slots(values)))
    sample = min(values, SAMPLE)
    costs = measure(ROWS, sample, max(sites, 2), repeats=repeats, on_step=on_step)
    own = own_scheme(config)
    return Sizing(
        values=values,
        sites=sites,
        rounds=rounds,
        measured_values=sample,
        repeats=repeats,
        schemes=tuple(_size(cost, values, sites, rounds, own) for cost in costs),
    )


def _size(cost: Cost, values: int, sites: int, rounds: int, own: SchemeName) -> SchemeSize:
    sent = _bytes(cost, values)
    # Time goes with ciphertexts, so that a small model pays for whole ones.
    factor = sent / cost.bytes_up
    margin: int | None = None
    failure: float | None = None
    if cost.scheme in LAYOUTS:
        packing = Packing.named(cost.scheme)
        margin = margin_bits(packing, sites)
        failure = failure_log2(packing, sites, rounds * chunks_for(packing.masked_slots(values)))
    return SchemeSize(
        scheme=cost.scheme,
        is_own=cost.scheme == own,
        parameters=cost.parameters,
        security_bits=0 if cost.scheme == "plain" else SECURITY_BITS,
        bytes_a_value=sent / values,
        bytes_up=sent,
        site_seconds=factor * cost.site_seconds,
        mask_seconds=factor * cost.seconds["mask"],
        coordinator_seconds=factor * sites * cost.seconds["add"],
        margin_bits=margin,
        failure_log2=failure,
    )


def _bytes(cost: Cost, values: int) -> int:
    """Bytes of an update of ``values`` numbers."""
    if cost.scheme == "plain":
        return 4 * values
    if cost.scheme == "ckks":
        return ckks.ciphertext_bytes(values)
    if cost.scheme == "nvflare":
        chunks, measured = -(-values // NVFLARE_CHUNK), -(-cost.values // NVFLARE_CHUNK)
        return round(cost.bytes_up * chunks / measured)
    return ciphertext_bytes(values, Packing.named(cost.scheme))
