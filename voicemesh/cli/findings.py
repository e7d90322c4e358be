"""What `voicemesh doctor` finds."""

import json
import os
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


def is_declared(engine: str) -> bool:
    """Return whether a voice of this engine is declared: what it needs is required then."""
    try:
        voices = json.loads(os.environ.get("VOICEMESH_TTS_VOICES", "") or "[]")
        return any(voice.get("engine") == engine for voice in voices)
    except (ValueError, AttributeError, TypeError):
        return False  # what is wrong with it is said where it is read
