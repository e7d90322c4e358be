"""What tells that the bytes of an entry are those that were written, and by whom.

    Checks      CRC-32: finds what broke by itself. Whoever can write to Redis can make one.
    Signatures  HMAC-SHA256 with a key that Redis never sees: finds what anybody else wrote.

With keys the first signs and each is tried for reading, so that they can be changed while all is running:
add the new one behind, everywhere; put it in front, everywhere; take the old one out.
"""

import hashlib
import hmac
import zlib
from collections.abc import Callable, Sequence
from typing import Final

SUM_BYTES: Final = 16
MOST_KEYS: Final = 4

Sum = Callable[[bytes | memoryview], bytes]
"""Returns what stands for some bytes: at most `SUM_BYTES`."""


def check(data: bytes | memoryview) -> bytes:
    """Return the CRC-32 of `data`."""
    return zlib.crc32(data).to_bytes(4, "big")


class Sums:
    """How the entries of one cache are summed.

    Args:
        keys: With which entries are signed, the first for writing; none for checks alone.

    """

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        self.signs = bool(keys)
        self.all: tuple[Sum, ...] = tuple(map(_signing, keys)) or (check,)
        """Those that are tried for reading, in this order."""

    @property
    def first(self) -> Sum:
        """The one for writing."""
        return self.all[0]


def _signing(key: bytes) -> Sum:
    # A digest of the key, so that one of any length is as good as its letters are.
    derived = hashlib.sha256(b"voicemesh cache\0" + key).digest()

    def sign(data: bytes | memoryview) -> bytes:
        return hmac.digest(derived, data, "sha256")[:SUM_BYTES]

    return sign


PLAIN: Final = Sums()
