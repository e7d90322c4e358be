"""Seeds: the same text in the same voice gives the same samples."""

import hashlib


def seed_of(text: str, voice: str, model_revision: str, speed: float) -> int:
    """Return a seed from everything that decides the samples: 0 to 2^63 - 1, the same on any machine."""
    digest = hashlib.blake2b(digest_size=8)
    for part in (voice, model_revision, f"{speed:.6g}", text):
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(4, "little") + encoded)
    return int.from_bytes(digest.digest(), "little") >> 1
