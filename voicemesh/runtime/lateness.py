"""What is later than usual."""

from collections import deque
from typing import Final

LEAST_SEEN: Final = 20
"""Times before anything is known."""
_SEEN: Final = 256
_LATE: Final = 0.95
_MARGIN: Final = 1.1


class Lateness:
    """How long something takes: the last 256 times, in microseconds."""

    def __init__(self) -> None:
        self._took_us: deque[int] = deque(maxlen=_SEEN)
        self._late_us = 0

    def took(self, took_us: int) -> None:
        """Take a time; of what was given up before its end, the time until then."""
        self._took_us.append(took_us)
        self._late_us = 0

    @property
    def late_us(self) -> int:
        """What is later than 95 % of them, and a tenth more; 0 while too little is known."""
        if len(self._took_us) < LEAST_SEEN:
            return 0
        if not self._late_us:
            ordered = sorted(self._took_us)
            self._late_us = max(1, round(ordered[int(_LATE * len(ordered))] * _MARGIN))
        return self._late_us
