"""The entries of one Redis, as bytes: none longer than what is taken, each summed in the same way."""

from services.cache import codec
from services.cache.codec import CorruptEntryError, Head
from services.cache.keys import StoredKey
from services.cache.sums import PLAIN, Sums
from services.cache.values import Value


class TooLongError(Exception):
    """An entry would be longer than any that is read."""


class Entries:
    """Writes and reads the bytes of entries.

    Args:
        max_bytes: Longest entry that is written, and that is read: what is longer is none of ours.
        sums: How entries are summed.

    """

    def __init__(self, max_bytes: int = 16 * 1024 * 1024, sums: Sums = PLAIN) -> None:
        self.max_bytes = max_bytes
        self._sums = sums

    def encode(self, key: StoredKey, value: Value) -> bytes:
        """Return the bytes of an entry, with version 0.

        Raises:
            TooLongError: They are too many. Control characters take six bytes each, so that a text may be
                longer here than it was.

        """
        data = codec.encode(value, key.name, sums=self._sums)
        if len(data) > self.max_bytes:
            raise TooLongError(f"{len(data)} bytes; the limit is {self.max_bytes}")
        return data

    def decode(self, key: StoredKey, data: bytes) -> tuple[Value, int]:
        """Return what is in an entry, and its version.

        Raises:
            CorruptEntryError: It is none under this key.

        """
        self._check(len(data))
        return codec.decode(data, key.kind, key.name, self._sums)

    def decode_head(self, key: StoredKey, data: bytes, entry_bytes: int) -> Head | None:
        """Return what the first bytes of an entry of audio hold; None where they are too few to tell.

        Raises:
            CorruptEntryError: They are not those of an entry of that length, under this key.

        """
        self._check(entry_bytes)
        return codec.decode_head(data, entry_bytes, key.name, self._sums)

    def _check(self, size: int) -> None:
        if size > self.max_bytes:
            raise CorruptEntryError("longer than any entry")
