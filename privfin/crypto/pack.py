"""Several small integers in one plaintext slot, so that one encrypted addition sums them all.

A slot holds ``fields`` integers of ``field_bits`` bits side by side. Slots add modulo the plain
modulus t of BFV, so a sum of packed slots is exact as long as no field spills into its neighbour
and the whole stays below t. t is the largest prime below 2^(fields*field_bits) that allows
batching (t = 1 modulo 2N, N = 8192). It is a little below that power of two, so full fields would
wrap: :meth:`Packing.largest_cohort` therefore bounds the packed sum against t itself, not
against the power of two. A prime one bit longer would avoid the bound and cost one bit of noise
budget; no cohort is lost without it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from privfin.errors import ConfigError, PlanError, nearest

POLY_DEGREE = 8192
"""N: coefficients of the ciphertext ring, and slots of one ciphertext."""

DATA_SLOTS = POLY_DEGREE - 1
"""Slots of one ciphertext that carry values."""

PIECE_CIPHERTEXTS = 64
"""Ciphertexts in one message: a longer update travels, and is summed, in pieces of this size."""

MAX_SUMMANDS = 64
"""Most ciphertexts in one sum, in a layout with one prime: 64 fresh ones leave at least 4 bits of
noise margin in either (measured, see ``bfv``)."""


def chunks_for(n_slots: int) -> int:
    """How many ciphertexts hold ``n_slots`` slots."""
    return -(-n_slots // POLY_DEGREE)


@dataclass(frozen=True)
class Packing:
    """A named layout of fields in a slot. Make one with :meth:`named`.

    Args:
        name: a key of :data:`LAYOUTS`.
        fields: integers in a slot.
        field_bits: bits of a field, headroom included.
        modulus: the plain modulus t.
        primes: 60-bit primes that make up the modulus q of a ciphertext; its bytes grow with them.
        max_summands: most ciphertexts in one sum, see ``noise_margin``.
    """

    name: str
    fields: int
    field_bits: int
    modulus: int
    primes: int = 1
    max_summands: int = MAX_SUMMANDS

    @classmethod
    def named(cls, name: str) -> Packing:
        """The layout called ``name``; ConfigError if there is none."""
        if name not in LAYOUTS:
            raise ConfigError(
                f"unknown packing '{name}' (choose from {', '.join(sorted(LAYOUTS))})"
                f"{nearest(name, LAYOUTS)}"
            )
        return LAYOUTS[name]

    def slots(self, n_values: int) -> int:
        """How many slots ``n_values`` values fill."""
        return -(-n_values // self.fields)

    def masked_slots(self, n_values: int) -> int:
        """Slots of a whole update of ``n_values`` values: the length of its mask.

        A multiple of 8192; the last slot of every ciphertext is a check that carries no value
        (see ``secure_sum``).
        """
        return -(-self.slots(n_values) // DATA_SLOTS) * POLY_DEGREE

    def pieces(self, n_values: int) -> list[slice]:
        """The pieces that an update of ``n_values`` values travels in: slices of its values."""
        size = PIECE_CIPHERTEXTS * DATA_SLOTS * self.fields
        return [slice(start, min(start + size, n_values)) for start in range(0, n_values, size)]

    def pack(self, values: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.int64]:
        """Pack values (n,) in [0, 2^field_bits) into slots (ceil(n / fields),) in [0, t).

        Raises:
            ValueError: not one-dimensional, or a value too large for a field or the modulus.
        """
        if values.ndim != 1:
            raise ValueError(f"values to pack must have one dimension, got {values.ndim}")
        if values.size and int(values.max()) >> self.field_bits:
            raise ValueError(f"a value does not fit a field of {self.field_bits} bits")
        count = self.slots(values.size)
        padded = np.zeros(count * self.fields, dtype=np.int64)
        padded[: values.size] = values.astype(np.int64)
        slots = np.zeros(count, dtype=np.int64)
        for field, column in enumerate(padded.reshape(self.fields, count)):
            slots += column << (field * self.field_bits)
        if count and int(slots.max()) >= self.modulus:
            raise ValueError(f"a packed slot reaches the plain modulus {self.modulus}")
        return slots

    def unpack(self, slots: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.uint64]:
        """The first ``n`` field sums of packed ``slots``: the inverse of :meth:`pack`.

        Args:
            slots: (ceil(n / fields),) integers in [0, t).
            n: number of values.

        Raises:
            ValueError: the number of slots does not belong to ``n``, or a slot is out of range.
        """
        if slots.shape != (self.slots(n),):
            raise ValueError(f"{n} values need {self.slots(n)} slots, got shape {slots.shape}")
        if slots.size and (slots.min() < 0 or int(slots.max()) >= self.modulus):
            raise ValueError("a slot lies outside [0, plain modulus)")
        low = (1 << self.field_bits) - 1
        columns = [(slots >> (field * self.field_bits)) & low for field in range(self.fields)]
        return np.concatenate(columns)[:n].astype(np.uint64)

    def largest_cohort(self, value_bits: int) -> int:
        """The most sites whose values of ``value_bits`` bits sum exactly (0 if none).

        Three conditions hold up to it: no field spills over, the packed sum stays below t, and
        the ciphertext noise leaves a margin (``max_summands``).
        """
        top = (1 << value_bits) - 1
        ones = sum(1 << (field * self.field_bits) for field in range(self.fields))
        by_field: int = (2**self.field_bits - 1) // top
        by_modulus: int = (self.modulus - 1) // (top * ones)
        return min(by_field, by_modulus, self.max_summands)

    def largest_value_bits(self, sites: int) -> int:
        """The most bits a value may have for ``sites`` sites (0 if none)."""
        fitting = [b for b in range(1, self.field_bits + 1) if self.largest_cohort(b) >= sites]
        return max(fitting, default=0)

    def check_headroom(self, sites: int, value_bits: int) -> None:
        """Refuse a plan whose sum could overflow a field, wrap modulo t or drown in noise.

        Args:
            sites: sites in the largest cohort, at least 1.
            value_bits: bits of an encoded value, at least 1.

        Raises:
            PlanError: it could; the message says what to change.
        """
        if sites < 1 or value_bits < 1:
            raise PlanError(f"need at least one site and one bit, got {sites} and {value_bits}")
        largest = self.largest_cohort(value_bits)
        if sites <= largest:
            return
        advice = [f"at most {largest} sites"] if largest else []
        bits = self.largest_value_bits(sites)
        if bits:
            advice.append(f"value_bits of at most {bits}")
        advice += [
            f"packing '{other.name}'"
            for other in LAYOUTS.values()
            if other is not self and other.largest_cohort(value_bits) >= sites
        ]
        raise PlanError(
            f"packing '{self.name}' cannot sum {sites} sites of {value_bits}-bit values "
            f"(largest cohort {largest}): use {' or '.join(advice) or 'fewer sites'}"
        )


LAYOUTS: dict[str, Packing] = {
    "2x20": Packing("2x20", fields=2, field_bits=20, modulus=1_099_511_480_321),
    "3x15": Packing("3x15", fields=3, field_bits=15, modulus=35_184_371_613_697),
    "2x28": Packing(
        "2x28",
        fields=2,
        field_bits=28,
        modulus=72_057_594_037_616_641,
        primes=2,
        max_summands=1024,
    ),
}
"""The layouts: 8.0, 5.3 and 16.0 bytes a parameter. With 16 sites, values of 16 and 11 bits; the
last one holds values of 16 bits of up to 1,024 sites."""
