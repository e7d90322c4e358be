"""What may go to a terminal of what others wrote."""

from unicodedata import category


def printable(text: str) -> str:
    """Return `text` without control characters other than newline and tab: it may come from a model."""
    return "".join(char for char in text if is_harmless(char))


def is_harmless(char: str) -> bool:
    """Say whether a character cannot move a terminal: also spaces that Python does not call printable."""
    return char.isprintable() or char in "\n\t" or category(char) == "Zs"
