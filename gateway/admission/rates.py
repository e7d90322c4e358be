"""What each key may take: turns that begin, characters, turns at once.

A bucket holds what a minute brings, and fills evenly. A turn may begin while anything is left: what it takes
beyond, its characters among it, is owed, and the next one waits until that is paid. So a text that is longer
than the bucket is spoken, and not for ever refused, and no sum has to be known before a reply is written.

Sans-I/O: times are passed in, in nanoseconds.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from gateway.access.caller import Limits

MOST_KEYS: Final = 10_000
"""Keys that are remembered; beyond, those that are idle for longest are forgotten."""
_MINUTE_S: Final = 60.0
KeyName = tuple[str, str]
"""A tenant, and the id of one of its keys; "" where it has shown none."""


class Bucket:
    """What is left of a minute's worth. Never more than that; less than nothing where something is owed.

    Args:
        per_min: What a minute brings.
        now_ns: Now: it is full.
        most: What it holds, where that is no minute's worth.

    """

    __slots__ = ("_at_ns", "_left", "_most", "_per_min")

    def __init__(self, per_min: float, now_ns: int, most: float | None = None) -> None:
        self._per_min = per_min
        self._most = per_min if most is None else most
        self._left = self._most
        self._at_ns = now_ns

    @property
    def most(self) -> float:
        """What it holds."""
        return self._most

    def left(self, now_ns: int) -> float:
        """Return what is left."""
        elapsed_s = (now_ns - self._at_ns) / 1e9
        self._left = min(self._most, self._left + elapsed_s * self._per_min / _MINUTE_S)
        self._at_ns = now_ns
        return self._left

    def take(self, amount: float, now_ns: int) -> None:
        """Take `amount`, also what is not there."""
        self._left = self.left(now_ns) - amount

    def wait_ms(self, amount: float, now_ns: int) -> int:
        """Return in how many milliseconds `amount` will be there; 0 where it is."""
        missing = min(amount, self._most) - self.left(now_ns)
        return 0 if missing <= 0 else max(1, round(missing * _MINUTE_S * 1000 / self._per_min))


@dataclass(slots=True)
class _Key:
    limits: Limits
    requests: Bucket | None
    characters: Bucket | None
    turns: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a key has no more for now.

    Attributes:
        limit: `requests`, `characters` or `turns`.
        most: What it may have.
        wait_ms: When it has some again; for `turns`, which end when they end, a guess.

    """

    limit: str
    most: int
    wait_ms: int


class Rates:
    """The buckets of all keys that have limits."""

    def __init__(self) -> None:
        self._keys: OrderedDict[KeyName, _Key] = OrderedDict()

    def __len__(self) -> int:
        """Keys that are remembered."""
        return len(self._keys)

    def refusal(self, name: KeyName, limits: Limits, now_ns: int) -> Refusal | None:
        """Return why no turn of a key may begin now; None where one may. Takes nothing."""
        if limits == _NONE:
            return None
        key = self._known(name, limits, now_ns)
        if limits.turns and key.turns >= limits.turns:
            return Refusal("turns", limits.turns, _TURN_MS)
        if key.requests is not None and (wait_ms := key.requests.wait_ms(1, now_ns)):
            return Refusal("requests", limits.requests_per_min, wait_ms)
        # A debt is paid when one more character is there.
        if key.characters is not None and (wait_ms := key.characters.wait_ms(1, now_ns)):
            return Refusal("characters", limits.characters_per_min, wait_ms)
        return None

    def begin(self, name: KeyName, limits: Limits, now_ns: int) -> None:
        """Take what a turn takes that begins."""
        if limits == _NONE:
            return
        key = self._known(name, limits, now_ns)
        key.turns += 1
        if key.requests is not None:
            key.requests.take(1, now_ns)

    def spend(self, name: KeyName, characters: int, now_ns: int) -> None:
        """Take characters of a turn, as they become known."""
        key = self._keys.get(name)
        if key is not None and key.characters is not None:
            key.characters.take(characters, now_ns)

    def end(self, name: KeyName) -> None:
        """Take note that a turn of a key has ended."""
        key = self._keys.get(name)
        if key is not None:
            key.turns = max(0, key.turns - 1)

    def _known(self, name: KeyName, limits: Limits, now_ns: int) -> _Key:
        key = self._keys.get(name)
        if key is None or key.limits != limits:
            key = _Key(
                limits,
                Bucket(limits.requests_per_min, now_ns) if limits.requests_per_min else None,
                Bucket(limits.characters_per_min, now_ns) if limits.characters_per_min else None,
                key.turns if key is not None else 0,
            )
            self._keys[name] = key
            self._forget()
        self._keys.move_to_end(name)
        return key

    def _forget(self) -> None:
        """Forget the key that is idle for longest. One with turns is none: its turns are yet to end."""
        if len(self._keys) > MOST_KEYS:
            idle = next((name for name, key in self._keys.items() if not key.turns), None)
            if idle is not None:
                del self._keys[idle]


_NONE: Final = Limits()
_TURN_MS: Final = 1_000
