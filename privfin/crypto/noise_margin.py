"""How surely a sum of BFV ciphertexts decrypts: a bound on failure, and the margin that is left.

Encryption with the public key, as Microsoft SEAL does it (``Encryptor::encrypt_zero_internal``
with modulus switching; Fan and Vercauteren 2012): two polynomials c'0 + c'1 s = e are made modulo
q p, p the special prime, then divided by p and rounded, and round(q m / t) is added to the first.
Write rho for the rounding errors, coefficients in [-1/2, 1/2]. The ciphertext satisfies

    c0 + c1 s = (q / t) m + r + v   (mod q),      v = rho0 + rho1 s + e / p,

with |r| <= 1 a coefficient. A sum of K of them decrypts to the sum of the messages modulo t if no
coefficient of the K added terms r + v reaches q / (2 t).

**Bounded terms.** |r| <= 1 and |rho0| <= 1/2. e = u e_pk + e1 + e2 s with u, s in {-1, 0, 1} and
errors of at most 21 (SEAL's centred binomial), so |e / p| <= 21 (2 N + 1) / 2^59, below 1e-12.
Together they take less than 2 K from the limit.

**Random term.** c'1 = u a + e2 is a sample of ring learning with errors under the public key, hence
uniform modulo p for everybody efficient, whatever s is; the coefficients of rho1 are then
independent and uniform on the multiples of 1/p around zero. Such a variable is sub-Gaussian with
the variance proxy 1/12, as the uniform one on [-1/2, 1/2] is. A coefficient of rho1 s has at most N
terms with signs, and K ciphertexts are independent: the proxy of the sum is K N / 12. So

    P(a coefficient of a sum fails) <= 2 exp(-T^2 / (2 K N / 12)),       T = q / (2 t) - 2 K,

and the union over every coefficient of every sum of a run bounds the run. The bound holds for the
uniform rho1; the true probability differs from it by what a distinguisher of ring learning with
errors gains, nothing that 128-bit security leaves.

Failure needs no attacker: what a decryption failure shows depends on the secret key, so it must
not happen at all.
"""

from __future__ import annotations

import math

from privfin.crypto.bfv_format import ciphertext_primes
from privfin.crypto.pack import POLY_DEGREE, Packing
from privfin.errors import PlanError

LARGEST_FAILURE_LOG2 = -40.0
"""A run may fail to decrypt with a probability below 2 to this."""

SMALLEST_MARGIN_BITS = 4
"""Doublings that a sum over the largest cohort must survive."""


def _limit(packing: Packing, summands: int) -> float:
    """T: what the random term must stay below, in units of ciphertext coefficients."""
    return math.prod(ciphertext_primes(packing)) / (2 * packing.modulus) - 2 * summands


def failure_log2(packing: Packing, summands: int, ciphertexts: int) -> float:
    """Base-2 logarithm of the bound on the probability that any sum of a run does not decrypt.

    Args:
        packing: the layout, for its plain modulus t.
        summands: K, ciphertexts added up in each sum, at least 1.
        ciphertexts: sums of one ciphertext each that the whole run decrypts, at least 1.

    Returns:
        at most 0; 0 where nothing is bounded.
    """
    limit = _limit(packing, summands)
    if limit <= 0:
        return 0.0
    exponent = limit**2 / (2 * summands * POLY_DEGREE / 12)
    return min(0.0, 1 + math.log2(ciphertexts * POLY_DEGREE) - exponent / math.log(2))


def margin_bits(packing: Packing, summands: int) -> int:
    """Doublings that a sum of ``summands`` fresh ciphertexts is expected to survive, at least 0.

    From the usual largest coefficient of a sum: the variance of rho1 s with a secret key of which
    two thirds of the coefficients are not zero, times sqrt(2 ln 2N). The measured margins (see
    ``bfv``) are the same; a test measures the largest cohort again.
    """
    usual = math.sqrt(summands * POLY_DEGREE / 18 * 2 * math.log(2 * POLY_DEGREE))
    limit = _limit(packing, summands)
    return max(0, math.floor(math.log2(limit / usual))) if limit > 0 else 0


def check_noise(packing: Packing, sites: int, ciphertexts: int) -> None:
    """Refuse a plan whose sums might not decrypt.

    Args:
        packing: the layout.
        sites: sites in the largest cohort, at least 1.
        ciphertexts: sums of one ciphertext each that the whole run decrypts, at least 1.

    Raises:
        PlanError: the failure bound is not below 2^-40, or fewer than 4 bits of margin remain.
    """
    bound = failure_log2(packing, sites, ciphertexts)
    margin = margin_bits(packing, sites)
    if bound < LARGEST_FAILURE_LOG2 and margin >= SMALLEST_MARGIN_BITS:
        return
    raise PlanError(
        f"a sum over {sites} sites with packing '{packing.name}' might not decrypt: "
        f"{margin} bits of noise margin ({SMALLEST_MARGIN_BITS} needed), failure bound "
        f"2^{bound:.0f} (2^{LARGEST_FAILURE_LOG2:.0f} allowed): use fewer sites"
    )
