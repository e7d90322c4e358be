"""What is usual: of each kind of turn, the median of each part of its time, and how far it strays from it.

A part of a turn is *unusual* where it is above the median by more than three standard deviations of the
usual turns, estimated by the median of the distances to the median (MAD, times 1.4826), and by a tenth of
it and two milliseconds at least. So neither a stage that is always long nor one that always varies is to
blame, as long as fewer than half of the turns have the cause.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from voicemesh.critical_path.turns import KINDS, PARTS, Turn

ENOUGH_TURNS: Final = 20
"""Nothing is said to be usual of fewer turns."""
_LEAST_EXCESS_MS: Final = 2.0
_LEAST_SHARE: Final = 0.1
_DEVIATIONS: Final = 3 * 1.4826


@dataclass(frozen=True, slots=True)
class Usual:
    """The usual turn of a kind.

    Attributes:
        turns: How many it is made from.
        own_kind: False where there are too few of the kind, and it is made from turns of every kind.
        parts: The median of each part, in the order of `PARTS`.
        bounds: Above its median by more than this, a part is unusual.
        hops: The median of each hop.
        chunk_audio_ms: The median length of the first chunk; 0 where that is not known.
        audio_ms: The median length of the whole.

    """

    turns: int
    own_kind: bool
    parts: tuple[float, ...]
    bounds: tuple[float, ...]
    hops: dict[str, float]
    chunk_audio_ms: float
    audio_ms: float


def usual_of(turns: Sequence[Turn]) -> dict[str, Usual]:
    """Return the usual turn of each kind; nothing where there are too few turns of all kinds."""
    if len(turns) < ENOUGH_TURNS:
        return {}
    everything = _usual(turns, own_kind=False)
    by_kind: dict[str, list[Turn]] = {kind: [] for kind in KINDS}
    for turn in turns:
        by_kind[turn.kind].append(turn)
    return {
        kind: _usual(alike, own_kind=True) if len(alike) >= ENOUGH_TURNS else everything
        for kind, alike in by_kind.items()
    }


def _usual(turns: Sequence[Turn], *, own_kind: bool) -> Usual:
    columns = list(zip(*(turn.parts() for turn in turns), strict=True))
    assert len(columns) == len(PARTS)
    medians = tuple(median(column) for column in columns)
    bounds = tuple(
        max(
            _DEVIATIONS * median(abs(value - middle) for value in column),
            _LEAST_SHARE * middle,
            _LEAST_EXCESS_MS,
        )
        for column, middle in zip(columns, medians, strict=True)
    )
    hops = {hop for turn in turns for hop in turn.hops}
    return Usual(
        turns=len(turns),
        own_kind=own_kind,
        parts=medians,
        bounds=bounds,
        hops={hop: median(turn.hops.get(hop, 0.0) for turn in turns) for hop in sorted(hops)},
        chunk_audio_ms=median(turn.first.audio_ms if turn.first else 0.0 for turn in turns),
        audio_ms=median(turn.audio_ms for turn in turns),
    )
