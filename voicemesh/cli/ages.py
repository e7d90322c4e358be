"""How long ago: `90s`, `30m`, `1h30m`, `2d`, or a time of day."""

import re
from datetime import datetime
from typing import Final

from voicemesh.cli.exits import usage

_UNITS_S: Final = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_AGE: Final = re.compile(
    r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?"
)
_MOST_S: Final = 100 * 365 * 86_400


def age_s(option: str, text: str, now_s: float) -> float:
    """Return how many seconds ago `text` was, which is above 0.

    Args:
        option: Whose value it is, for the error.
        text: An age, or a time in ISO 8601; one without a zone is this machine's.
        now_s: Seconds since 1970.

    Raises:
        Failure: It is neither, or not in the past.

    """
    match = _AGE.fullmatch(text.strip())
    if match and any(match.groups()):
        age = sum(
            float(number) * seconds
            for number, seconds in zip(match.groups(), _UNITS_S.values(), strict=True)
            if number
        )
    else:
        try:
            age = now_s - datetime.fromisoformat(text.strip()).astimezone().timestamp()
        except (ValueError, OverflowError, OSError):
            raise usage(
                f"{option}: {text[:40]!r} is no age and no time",
                "an age is 90s, 30m, 1h, 1h30m or 2d; a time 2026-11-21T09:30, or with a zone behind it",
            ) from None
    if not 0 < age <= _MOST_S:
        raise usage(f"{option}: {text[:40]!r} is not in the past, or too long ago")
    return age
