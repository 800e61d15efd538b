"""What the chosen encryption promises, in the words of plans and privacy statements."""

from __future__ import annotations

from typing import Any

from privfin.config import CryptoConfig, Encryption
from privfin.crypto.noise_margin import LARGEST_FAILURE_LOG2

CKKS_IS_WEAKER = (
    "ckks has no masks: the coordinator together with any site can read single updates; and "
    "decrypted sums are approximate in a way that depends on the key, so they must not be shared "
    "with anyone who has the ciphertexts"
)
"""What choosing CKKS gives up; every command that plans or trains with it says so."""

_SCHEMES: dict[Encryption, str] = {
    "bfv": "BFV, N 8192, 128-bit security, pairwise masks",
    "ckks": "CKKS, N 8192, 128-bit security, no masks",
    "none": "none",
}


def encryption_statement(crypto: CryptoConfig) -> dict[str, Any]:
    """The ``encryption`` part of ``privacy.json`` and of a plan."""
    exact, real = crypto.encryption == "bfv", crypto.encryption == "ckks"
    return {
        "scheme": _SCHEMES[crypto.encryption],
        "layout": crypto.layout if exact else None,
        "value_bits": None if real else crypto.value_bits,
        # Planning refuses whatever could fail more often.
        "log2_decryption_failure_below": LARGEST_FAILURE_LOG2 if exact else None,
        "weaker": CKKS_IS_WEAKER if real else None,
    }
