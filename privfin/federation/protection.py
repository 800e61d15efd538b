"""How a site protects the numbers that it sends, and reads the sum: mask, encrypt; decrypt.

BFV comes with masks, always. CKKS has none: see ``privfin.crypto.ckks``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from privfin.config import CryptoConfig
from privfin.crypto import ckks, plain
from privfin.crypto.encoding import HoldsSecret, frame
from privfin.crypto.isolated import IsolatedCkksKey, IsolatedKey
from privfin.crypto.keys import Roster, SiteIdentity, seal, unseal
from privfin.crypto.masks import MaskBook, MaskContext, pair_secrets
from privfin.crypto.pack import Packing, chunks_for
from privfin.crypto.secure_sum import protect, reveal, tags_for
from privfin.errors import ProtocolError
from privfin.federation.messages import Numbers, RunIdentity


class UpdateProtection(HoldsSecret):
    """One site's keys and masks. BFV and masks are used together or not at all."""

    def __init__(
        self, config: CryptoConfig, identity: SiteIdentity, roster: Roster, run: RunIdentity
    ) -> None:
        self._config = config
        self._identity = identity
        self._roster = roster
        self._run = run
        self._packing = Packing.named(config.layout)
        self._masks = MaskBook(identity.name, pair_secrets(identity, roster))
        self._is_real = config.encryption == "ckks"
        self._key: IsolatedKey | IsolatedCkksKey | None = None

    @property
    def key_id(self) -> str:
        """Identifier of the encryption key, or "" before there is one."""
        return "" if self._key is None else self._key.public().key_id

    def make_key(self) -> list[bytes]:
        """A fresh key: its public bytes, and one sealed box for each other site in order.

        Raises:
            ProtocolError: this site is not the one that makes the key, or has one already.
        """
        self._refuse_second_key()
        maker, *others = self._roster
        if maker != self._identity.name:
            raise ProtocolError(f"the key is made by site '{maker}', not '{self._identity.name}'")
        if self._is_real:
            self._key = IsolatedCkksKey.generate()
        else:
            self._key = IsolatedKey.generate(self._packing)
        secret = self._key.secret_bytes()
        boxes = [
            seal(self._roster[site], self._identity, secret, self._box_context()) for site in others
        ]
        return [self._key.public().to_bytes(), *boxes]

    def take_key(self, box: bytes) -> None:
        """Open the box that the key's maker sealed for this site.

        Raises:
            ProtocolError: it was sealed by someone else, for someone else or for another run.
        """
        self._refuse_second_key()
        maker = next(iter(self._roster))
        secret = unseal(self._identity, self._roster[maker], box, self._box_context())
        if self._is_real:
            self._key = IsolatedCkksKey.from_secret_bytes(secret)
        else:
            self._key = IsolatedKey.from_secret_bytes(secret, self._packing)

    def check_ready(self) -> None:
        """Raise ProtocolError if updates are to be encrypted and there is no key yet."""
        if self._config.encryption != "none":
            self._own_key()

    def protect(
        self,
        numbers: Numbers,
        round_number: int,
        attempt: int,
        cohort: tuple[str, ...],
        piece: int = 0,
        purpose: str = "update",
    ) -> list[bytes]:
        """A piece of a payload (n,) as the parts of a message: codes, or real numbers with CKKS.

        Raises:
            ProtocolError: no key yet, or this piece of this round and attempt was protected before.
        """
        if self._config.encryption == "none":
            return plain.to_bytes(numbers.astype(np.uint32, copy=False))
        key = self._own_key()
        context = self._context(round_number, attempt, cohort, piece, purpose)
        if isinstance(key, IsolatedCkksKey):
            tags = self._real_tags(context, numbers.size)
            return key.public().encrypt(numbers.astype(np.float64, copy=False), tags)
        codes = numbers.astype(np.uint32, copy=False)
        slots = self._packing.masked_slots(codes.size)
        mask = self._masks.take(context, self._packing.modulus, slots)
        return protect(codes, self._packing, mask, key.public(), self._tags(context, codes.size))

    def empty_sum(self, values: int) -> Numbers:
        """Room for a sum of this many numbers, of the type that :meth:`reveal` gives."""
        if self._is_real:
            return np.empty(values, dtype=np.float64)
        return np.empty(values, dtype=np.uint32)

    def reveal(
        self,
        parts: list[bytes],
        values: int,
        round_number: int,
        attempt: int,
        cohort: tuple[str, ...],
        piece: int = 0,
        purpose: str = "update",
    ) -> Numbers:
        """A piece of the sum of a whole cohort's codes or real numbers, (values,).

        Raises:
            ProtocolError: no key, malformed parts, or a sum that is not this piece of that cohort's
                in this round and attempt.
        """
        if self._config.encryption == "none":
            return plain.from_bytes(parts, values)
        key = self._own_key()
        context = self._context(round_number, attempt, cohort, piece, purpose)
        if isinstance(key, IsolatedCkksKey):
            real = self._real_tags(context, values)
            bound = self._config.update_bound
            return ckks.read_sum(key.decrypt(parts), values, len(cohort), bound, real)
        tags = self._tags(context, values) * len(cohort) % self._packing.modulus
        return reveal(parts, key, values, self._packing, tags)

    def _context(
        self, round_number: int, attempt: int, cohort: tuple[str, ...], piece: int, purpose: str
    ) -> MaskContext:
        return MaskContext(
            run_id=self._run.run_id,
            key_id=self.key_id,
            plan_digest=self._run.config_digest,
            round=round_number,
            attempt=attempt,
            cohort=cohort,
            purpose=f"{purpose}/{piece}",
        )

    def _tags(self, context: MaskContext, values: int) -> npt.NDArray[np.int64]:
        chunks = chunks_for(self._packing.masked_slots(values))
        secret = self._own_key().secret_bytes()
        return tags_for(secret, context, self._packing.modulus, chunks)

    def _real_tags(self, context: MaskContext, values: int) -> npt.NDArray[np.float64]:
        secret, chunks = self._own_key().secret_bytes(), ckks.chunks_for(values)
        return ckks.real_tags(tags_for(secret, context, ckks.TAG_MODULUS, chunks))

    def _own_key(self) -> IsolatedKey | IsolatedCkksKey:
        if self._key is None:
            raise ProtocolError(f"site '{self._identity.name}' has no encryption key yet")
        return self._key

    def _refuse_second_key(self) -> None:
        if self._key is not None:
            raise ProtocolError(f"site '{self._identity.name}' already has an encryption key")

    def _box_context(self) -> bytes:
        return frame(
            "privfin/federation-key/v1",
            self._run.run_id,
            self._run.config_digest,
            self._roster.digest,
        )
