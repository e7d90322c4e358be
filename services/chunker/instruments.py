"""What the chunker measures. `docs/metrics.md` says it for people, and is made from this."""

from typing import Final

from services.chunker.policy import Reason
from voicemesh.runtime.instruments import Instrument, Kind

_REASON: Final = {"reason": tuple(reason.value for reason in Reason)}
CHUNKS: Final = Instrument(
    kind=Kind.COUNTER,
    name="voicemesh.chunker.chunks",
    unit="{chunk}",
    description="Chunks that were cut, by why they end where they do.",
    labels=_REASON,
)
HOLD: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.chunker.hold",
    unit="s",
    description="From the arrival of a chunk's last character to its cut.",
    labels=_REASON,
    buckets=(0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0),
)
SIZE: Final = Instrument(
    kind=Kind.HISTOGRAM,
    name="voicemesh.chunker.chunk.size",
    unit="{character}",
    description="Characters of a chunk, as it is spoken.",
    labels=_REASON,
    buckets=(5, 10, 20, 30, 40, 60, 80, 100, 150, 200, 300, 400, 600, 1000),
)
