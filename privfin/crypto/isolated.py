"""Keys whose decryption happens in another process, so that bad bytes cost a message and no more.

Structure is checked before the native library sees a byte (``bfv_format.py``). This is the second
fence: should a ciphertext or a key still crash the library or hang it, the worker process dies, the
message is refused, and the next one gets a new worker.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import select
import subprocess
import sys
import time
from typing import IO

import numpy as np
import numpy.typing as npt

from privfin.crypto import ckks_format
from privfin.crypto.bfv import BfvKey, BfvPublic
from privfin.crypto.bfv_format import public_part
from privfin.crypto.ckks import CkksKey, CkksPublic
from privfin.crypto.decryption_worker import CKKS, frame_parts
from privfin.crypto.encoding import HoldsSecret
from privfin.crypto.pack import POLY_DEGREE, Packing, chunks_for
from privfin.errors import ProtocolError

_COMMAND = (sys.executable, "-m", "privfin.crypto.decryption_worker")
_START_SECONDS = 60.0
# A ciphertext takes milliseconds; a busy machine may take far longer.
_SECONDS_A_CIPHERTEXT = 5.0
_MOST_CIPHERTEXTS = 64
"""Decrypted at once: bounds the memory of both processes."""


class _Worker:
    """One worker process. It knows at most one key."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("pipes were asked for")
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self.key_id = ""

    def ask(self, kind: bytes, parts: list[bytes], seconds: float) -> bytes:
        """The answer to a request.

        Raises:
            ProtocolError: the worker refused it, died on it or did not answer in time; it is then
                gone.
        """
        request = kind + frame_parts(parts)
        deadline = time.monotonic() + seconds
        try:
            self._requests.write(len(request).to_bytes(8, "big") + request)
            self._requests.flush()
            size = int.from_bytes(_read(self._answers, 8, deadline), "big")
            answer = _read(self._answers, size, deadline)
        except (OSError, EOFError, TimeoutError) as error:
            self.stop()
            how = "did not end" if isinstance(error, TimeoutError) else "crashed"
            raise ProtocolError(f"reading it {how}: it is refused") from error
        if answer[:1] != b"+":
            raise ProtocolError(answer[1:].decode(errors="replace"))
        return answer[1:]

    @property
    def is_alive(self) -> bool:
        """Whether it can take a request."""
        return self._process.poll() is None

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()


def _read(pipe: IO[bytes], size: int, deadline: float) -> bytes:
    """``size`` bytes from a pipe. EOFError if it ends, TimeoutError if the time is up."""
    found = bytearray()
    descriptor = pipe.fileno()
    while len(found) < size:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([descriptor], [], [], left)[0]:
            raise TimeoutError
        piece = os.read(descriptor, min(size - len(found), 1 << 20))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)


class _Pool:
    """The worker of this process: one for all keys, so that many simulated sites cost one."""

    def __init__(self) -> None:
        self._worker: _Worker | None = None

    def with_key(self, name: bytes, secret: bytes) -> _Worker:
        """A worker that has this key. ProtocolError if it refuses it."""
        key_id = hashlib.sha256(secret).hexdigest()
        worker = self._worker
        if worker is None or not worker.is_alive:
            worker = self._worker = _Worker()
        if worker.key_id != key_id:
            worker.key_id = ""
            worker.ask(b"K", [name, secret], _START_SECONDS)
            worker.key_id = key_id
        return worker

    def stop(self) -> None:
        """End the worker, if there is one."""
        if self._worker is not None:
            self._worker.stop()
            self._worker = None


_pool = _Pool()
atexit.register(_pool.stop)


class IsolatedKey(HoldsSecret):
    """The key pair of a run as a site uses it: encryption here, decryption in a worker process.

    Make one with :meth:`generate` or :meth:`from_secret_bytes`.
    """

    def __init__(self, secret: bytes, public: BfvPublic) -> None:
        self._secret = secret
        self._public = public

    def __repr__(self) -> str:
        return f"IsolatedKey({self._public.packing.name}, key {self._public.key_id[:16]})"

    @classmethod
    def generate(cls, packing: Packing) -> IsolatedKey:
        """A fresh key pair; see :meth:`BfvKey.generate`."""
        key = BfvKey.generate(packing)
        return cls(key.secret_bytes(), key.public())

    @classmethod
    def from_secret_bytes(cls, data: bytes, packing: Packing) -> IsolatedKey:
        """Read :meth:`secret_bytes` of another site, in the worker first.

        Raises:
            ProtocolError: see :meth:`BfvKey.from_secret_bytes`; or it crashes the library.
        """
        public = public_part(data, packing)
        _pool.with_key(packing.name.encode(), data)
        return cls(data, BfvPublic(public, packing))

    def secret_bytes(self) -> bytes:
        """Both keys, unencrypted: only for sealing to another site."""
        return self._secret

    def public(self) -> BfvPublic:
        """The public half."""
        return self._public

    def decrypt(self, blobs: list[bytes], n_slots: int) -> npt.NDArray[np.int64]:
        """As :meth:`BfvKey.decrypt`, in the worker.

        Raises:
            ProtocolError: not exactly ceil(n_slots / 8192) well-formed ciphertexts, or they crash
                the library.
        """
        packing = self._public.packing
        self._public.check(blobs, chunks_for(n_slots))
        found = _decrypt(packing.name.encode(), self._secret, blobs)
        return np.frombuffer(found, dtype="<i8").astype(np.int64)[:n_slots]


class IsolatedCkksKey(HoldsSecret):
    """As :class:`IsolatedKey`, for CKKS."""

    def __init__(self, secret: bytes, public: CkksPublic) -> None:
        self._secret = secret
        self._public = public

    def __repr__(self) -> str:
        return f"IsolatedCkksKey(key {self._public.key_id[:16]})"

    @classmethod
    def generate(cls) -> IsolatedCkksKey:
        """A fresh key pair; see :meth:`CkksKey.generate`."""
        key = CkksKey.generate()
        return cls(key.secret_bytes(), key.public())

    @classmethod
    def from_secret_bytes(cls, data: bytes) -> IsolatedCkksKey:
        """Read :meth:`secret_bytes` of another site, in the worker first.

        Raises:
            ProtocolError: see :meth:`CkksKey.from_secret_bytes`; or it crashes the library.
        """
        public = ckks_format.public_part(data)
        _pool.with_key(CKKS, data)
        return cls(data, CkksPublic(public))

    def secret_bytes(self) -> bytes:
        """Both keys, unencrypted: only for sealing to another site."""
        return self._secret

    def public(self) -> CkksPublic:
        """The public half."""
        return self._public

    def decrypt(self, blobs: list[bytes]) -> npt.NDArray[np.float64]:
        """As :meth:`CkksKey.decrypt`, in the worker.

        Raises:
            ProtocolError: malformed ciphertexts, or they crash the library.
        """
        for blob in blobs:
            ckks_format.read_ciphertext(blob)
        found = _decrypt(CKKS, self._secret, blobs)
        return np.frombuffer(found, dtype="<f8").astype(np.float64).reshape(-1, ckks_format.SLOTS)


def _decrypt(name: bytes, secret: bytes, blobs: list[bytes]) -> bytes:
    """The slots of all ciphertexts, as the worker writes them."""
    worker = _pool.with_key(name, secret)
    found = []
    for start in range(0, len(blobs), _MOST_CIPHERTEXTS):
        some = blobs[start : start + _MOST_CIPHERTEXTS]
        slots = (len(some) * POLY_DEGREE).to_bytes(8, "big")
        seconds = _START_SECONDS + _SECONDS_A_CIPHERTEXT * len(some)
        found.append(worker.ask(b"D", [name, slots, *some], seconds))
    return b"".join(found)
