"""Pairwise masks: what one site adds another subtracts, so that only the whole sum is readable.

After Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine
Learning", without its secret sharing: a round that loses a site is repeated among the rest.
Each pair of sites expands its X25519 secret, through HKDF-SHA256 over everything that names the
payload, into an AES-256 counter-mode stream of integers uniform modulo the plain modulus. The
masks of a cohort sum to zero; those of any part of it are uniform to whoever lacks one pair's
secret, so even the holder of the decryption key learns nothing from a single update.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privfin.crypto.encoding import HoldsSecret, digest, frame
from privfin.crypto.keys import Roster, SiteIdentity
from privfin.errors import ProtocolError

_BLOCK = 1 << 14
"""Numbers that are made at once: 128 KiB of key stream."""

_ZEROS = bytes(8 * _BLOCK)


@dataclass(frozen=True)
class MaskContext:
    """What a mask is for. Sites must agree on every field, or their masks do not cancel.

    Args:
        run_id: the run.
        key_id: the id of the BFV public key.
        plan_digest: digest of the agreed plan (layout, segments, bounds, ...).
        round: round number, from 0.
        attempt: attempt at this round, from 0; a repeated round takes the next one.
        cohort: the names of all sites that take part, in any order; at least two.
        purpose: which payload of the round, such as ``"update"`` or ``"metrics"``.

    Raises:
        ProtocolError: a negative number, fewer than two sites or a doubled one.
    """

    run_id: str
    key_id: str
    plan_digest: str
    round: int
    attempt: int
    cohort: tuple[str, ...]
    purpose: str = "update"

    def __post_init__(self) -> None:
        if self.round < 0 or self.attempt < 0:
            raise ProtocolError(f"round {self.round}, attempt {self.attempt}: below 0")
        ordered = tuple(sorted(self.cohort))
        if len(ordered) < 2 or len(set(ordered)) != len(ordered):
            raise ProtocolError(
                f"a masked sum needs two or more different sites, got {list(ordered)}"
            )
        object.__setattr__(self, "cohort", ordered)

    @property
    def cohort_digest(self) -> str:
        """SHA-256 over the sorted names, 64 hexadecimal digits."""
        return digest("privfin/cohort/v1", *self.cohort)

    def pair_info(self, first: str, second: str) -> bytes:
        """The HKDF info of the stream that ``first`` adds and ``second`` subtracts."""
        return self.info("privfin/mask/v1", first, second)

    def info(self, use: str, *more: str) -> bytes:
        """HKDF info that binds a ``use`` to everything that this context says."""
        return frame(
            use,
            self.run_id,
            self.key_id,
            self.plan_digest,
            self.purpose,
            self.round,
            self.attempt,
            self.cohort_digest,
            *more,
        )


def uniform_blocks(key: bytes, modulus: int, length: int) -> Iterator[npt.NDArray[np.int64]]:
    """:func:`uniform_stream` in blocks that stay in the processor's cache.

    A block is valid until the next one is asked for: they share memory.
    """
    if not 1 < modulus < 2**62:
        raise ValueError(f"modulus must lie in (1, 2^62), got {modulus}")
    encryptor = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    low = np.uint64((1 << modulus.bit_length()) - 1)
    # The cipher asks for room of one AES block less one byte beyond what it writes.
    buffer = np.empty(_BLOCK + 2, dtype="<u8")
    left = length
    while left > 0:
        encryptor.update_into(_ZEROS, buffer.data.cast("B"))
        draw = buffer[:_BLOCK]
        draw &= low
        # Next to a power of two hardly anything is skipped: look before paying for a copy.
        kept = draw if int(draw.max()) < modulus else draw[draw < np.uint64(modulus)]
        kept = kept[:left]
        left -= kept.size
        yield kept.astype(np.uint64, copy=False).view(np.int64)


def uniform_stream(key: bytes, modulus: int, length: int) -> npt.NDArray[np.int64]:
    """``length`` integers uniform on [0, ``modulus``) from a 32-byte ``key``, by rejection.

    Each 8 bytes of the AES-256-CTR key stream give one candidate: its lowest bits, as many as
    ``modulus`` has (at most 62). Candidates at or above ``modulus`` are skipped. A key must
    serve one stream only.
    """
    out = np.empty(length, dtype=np.int64)
    at = 0
    for block in uniform_blocks(key, modulus, length):
        out[at : at + block.size] = block
        at += block.size
    return out


def mask_for(
    site: str,
    context: MaskContext,
    secrets: Mapping[str, bytes],
    modulus: int,
    length: int,
) -> npt.NDArray[np.int64]:
    """The mask of ``site``: ``length`` integers in [0, ``modulus``).

    Over the sites of the cohort the masks sum to zero modulo ``modulus``. Prefer
    :meth:`MaskBook.take`, which never gives a mask twice.

    Args:
        site: whose mask; one of the cohort.
        context: what the mask is for.
        secrets: the 32-byte pair secret of every other site of the cohort.
        modulus: the plain modulus t, below 2^62.
        length: number of slots.

    Raises:
        ProtocolError: ``site`` is not in the cohort, or a pair secret is missing.
    """
    if site not in context.cohort:
        raise ProtocolError(f"site {site} is not in the cohort {list(context.cohort)}")
    total = np.zeros(length, dtype=np.int64)
    # As many streams as 63 bits can hold: a remainder costs more than all the rest.
    most, added = (2**63 - 1) // modulus, 0
    for peer in context.cohort:
        if peer == site:
            continue
        if peer not in secrets:
            raise ProtocolError(f"site {site} shares no secret with {peer}: is it in the roster?")
        first, second = sorted((site, peer))
        info = context.pair_info(first, second)
        key = HKDF(SHA256(), 32, salt=None, info=info).derive(secrets[peer])
        at = 0
        for block in uniform_blocks(key, modulus, length):
            part = total[at : at + block.size]
            if site == first:
                part += block
            else:
                part -= block
            at += block.size
        added += 1
        if added == most:
            total %= modulus
            added = 1  # what is left is below one stream
    total %= modulus
    return total


class MaskBook(HoldsSecret):
    """One site's masks: each (run, purpose, round, attempt) is given out once, in rising order.

    A mask used for two payloads would cancel in their difference, so the book keeps, for every
    run and purpose, the last (round, attempt) it served and refuses that and anything before
    it, whatever the cohort. A site that resumes passes :meth:`marks` as ``after``, and takes
    the next attempt.

    Args:
        site: the site's name.
        secrets: pair secrets by peer (see :func:`pair_secrets`).
        after: marks of an earlier book, from :meth:`marks`.
    """

    def __init__(
        self,
        site: str,
        secrets: Mapping[str, bytes],
        after: Mapping[tuple[str, str], tuple[int, int]] | None = None,
    ) -> None:
        self.site = site
        self._secrets = dict(secrets)
        self._last = dict(after or {})

    def __repr__(self) -> str:
        return f"MaskBook({self.site!r}, {len(self._secrets)} peers)"

    def marks(self) -> dict[tuple[str, str], tuple[int, int]]:
        """The last (round, attempt) served, by (run id, purpose): store before sending."""
        return dict(self._last)

    def take(self, context: MaskContext, modulus: int, length: int) -> npt.NDArray[np.int64]:
        """The mask for ``context``, as :func:`mask_for`.

        Raises:
            ProtocolError: this or a later (round, attempt) was served before.
        """
        line = (context.run_id, context.purpose)
        now = (context.round, context.attempt)
        last = self._last.get(line)
        if last is not None and now <= last:
            raise ProtocolError(
                f"site {self.site} already masked round {last[0]}, attempt {last[1]} of "
                f"{context.purpose}; it refuses round {now[0]}, attempt {now[1]}: "
                "a mask is never used twice"
            )
        mask = mask_for(self.site, context, self._secrets, modulus, length)
        self._last[line] = now
        return mask


def pair_secrets(
    identity: SiteIdentity, roster: Roster, peers: Iterable[str] | None = None
) -> dict[str, bytes]:
    """The 32-byte secrets that ``identity`` shares with ``peers`` (default: all of ``roster``)."""
    names = roster if peers is None else peers
    return {name: identity.agree(roster[name]) for name in names if name != identity.name}
