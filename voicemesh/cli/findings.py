"""What `voicemesh doctor` finds."""

from dataclasses import dataclass
from typing import Final

OK: Final = "ok"
MISSING: Final = "missing"
NOTE: Final = "note"


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        state: "ok"; "missing": the mesh cannot run without it; "note": it can, with less.
        detail: What was found.
        fix: How to get what is missing, or "".

    """

    name: str
    state: str
    detail: str
    fix: str = ""
