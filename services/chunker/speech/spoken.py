"""What the speech text filter gives out."""

from typing import NamedTuple


class Spoken(NamedTuple):
    r"""A piece of text to be said, and the piece of the original that it stands for.

    The sources of all pieces, in order, cover the original exactly: each begins where the one before
    ended. Where `len(text) == source_length` the two map character for character; elsewhere `text`
    stands for its source as a whole. A `\n` is a hard boundary: a chunk ends there.
    """

    text: str
    """What is said; empty for markup, code, pictographs and the like."""
    source_offset: int
    """Where the source begins in the original text; code points."""
    source_length: int
    """Length of the source; code points."""
