"""How the command line ends: exit statuses, and failures that know their status and a way out."""

import sys
from typing import Final

from voicemesh.cli.characters import is_harmless

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
STOPPED: Final = 130

EPILOG: Final = (
    "Exit status: 0 done · 1 the turn (or a process of the mesh) failed · 2 wrong use or setting · "
    "3 the mesh cannot be reached, a port is in use, or the servers are not here · 130 interrupted."
)


class Failure(Exception):  # noqa: N818 - what the user did may be the error, not this
    """The command cannot go on.

    Attributes:
        status: Exit status of the process.
        reason: Why, for programs.
        message: Why, for people.
        hint: What to do about it, or "".

    """

    def __init__(self, status: int, reason: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.hint = hint


def usage(message: str, hint: str = "") -> Failure:
    """Return the failure of being used wrongly."""
    return Failure(USAGE, "USAGE", message, hint)


def report(failure: Failure) -> None:
    """Print a failure on standard error."""
    print(f"error: {_shown(failure.reason)}: {_shown(failure.message)}", file=sys.stderr)
    if failure.hint:
        print(f"hint: {_shown(failure.hint)}", file=sys.stderr)


def _shown(text: str) -> str:
    """Return `text` with escapes for what could move a terminal, and for an argument that is not UTF-8.

    It may be a gateway's, and quote whoever that has spoken to.
    """
    return "".join(char if is_harmless(char) else repr(char)[1:-1] for char in text)
