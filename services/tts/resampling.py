"""Audio at another rate than the engine's, by soxr.

    engine's samples   0 1 2 3 4 5 6 7 …      n
    wanted samples     0  1   2  3   4 …      n * wanted / engine's, to the nearest

What comes out depends on all of the samples and not on the slices in which they come, so an offset
means the same sample every time, and a chunk that was broken off goes on bit by bit as it would have.
soxr does that in floating point; with 16-bit samples its result depends on the slices. So samples
become floats here, and are rounded here.

What comes out is behind what went in, all the time and not at the beginning alone: an engine that speaks
in real time is heard so much later. For higher rates it is the filter that sees 240 samples ahead (11 ms of
22,050 Hz): soxr runs as for a rate that varies. For lower ones it cannot, since its filters have no end
then and a chunk would not go on bit by bit; with fixed rates it works block by block, 37 to 160 ms behind
(`benchmarks/audio_formats.py`). Neither costs silence where an engine makes more than that at once.

Workers import this module: standard library only. numpy and soxr are loaded with the first request
for another rate, which the service is told: that may take seconds on a machine that is busy. An engine
that has loaded numpy anyway has soxr loaded behind it.
"""

import importlib.util
import sys
from functools import cache
from typing import Any, Final, Protocol

from services.tts.engines.base import CannotSpeakError
from services.tts.engines.loading import loading
from voicemesh.runtime.frames import BYTES_PER_SAMPLE

RENDERING: Final = 2
"""Raised whenever this module makes other samples of the same audio."""

_CONTEXT_MS: Final = 500
"""Blocks and filter together are shorter: what is further back leaves no trace, not in the last bit."""
_QUALITY: Final = "HQ"
"""20 bits: its errors stay below the last bit of a sample. So they do with rates that vary: -110 dB."""


@cache
def missing() -> str:
    """Return which package is not installed that other rates need; "" where all are."""
    return next((name for name in ("numpy", "soxr") if importlib.util.find_spec(name) is None), "")


class Rates(Protocol):
    """What stands between the edges of a chunk and its frames."""

    context_samples: int
    """Samples of the engine in front of one that leave their mark on it."""

    def push(self, pcm: bytes) -> bytes:
        """Take s16le mono PCM at the engine's rate, whole samples; return what may leave now."""
        ...

    def skip(self, samples: int) -> int:
        """Take `samples` of the engine as pushed that nobody made; return how many wanted ones are past."""
        ...

    def finish(self) -> bytes:
        """Return what is left behind the last sample."""
        ...

    def wanted(self, samples: int) -> int:
        """Return which wanted sample is heard with sample `samples` of the engine."""
        ...

    def engines(self, samples: int) -> int:
        """Return which sample of the engine is heard with wanted sample `samples`."""
        ...


class SameRate:
    """For who wants the engine's rate: everything passes as it is."""

    context_samples = 0

    def push(self, pcm: bytes) -> bytes:
        """See `Rates`."""
        return pcm

    def skip(self, samples: int) -> int:
        """See `Rates`."""
        return samples

    def finish(self) -> bytes:
        """See `Rates`."""
        return b""

    def wanted(self, samples: int) -> int:
        """See `Rates`."""
        return samples

    def engines(self, samples: int) -> int:
        """See `Rates`."""
        return samples


class Resampler:
    """See the module.

    Args:
        engine_hz: Samples per second that go in.
        wanted_hz: Samples per second that come out.

    """

    def __init__(self, engine_hz: int, wanted_hz: int) -> None:
        self._engine_hz, self._wanted_hz = engine_hz, wanted_hz
        self.context_samples = _CONTEXT_MS * engine_hz // 1000
        self._np: Any = None
        self._stream: Any = None
        self._taken = 0
        self._given = 0

    def push(self, pcm: bytes) -> bytes:
        """See `Rates`.

        Raises:
            CannotSpeakError: A package is not installed.

        """
        return self._resampled(pcm, last=False) if pcm else b""

    def skip(self, samples: int) -> int:
        """See `Rates`. Silence stands for what was left out: it keeps soxr's clock right."""
        return len(self.push(bytes(samples * BYTES_PER_SAMPLE))) // BYTES_PER_SAMPLE

    def finish(self) -> bytes:
        """See `Rates`."""
        if self._stream is None:
            return b""
        due = (2 * self._taken * self._wanted_hz + self._engine_hz) // (2 * self._engine_hz) - self._given
        rest = self._resampled(b"", last=True)
        # With rates that vary soxr gives one sample too many or too few at times.
        return rest[: due * BYTES_PER_SAMPLE].ljust(due * BYTES_PER_SAMPLE, b"\0")

    def wanted(self, samples: int) -> int:
        """See `Rates`."""
        return samples * self._wanted_hz // self._engine_hz

    def engines(self, samples: int) -> int:
        """See `Rates`."""
        return samples * self._engine_hz // self._wanted_hz

    def _resampled(self, pcm: bytes, *, last: bool) -> bytes:
        if self._stream is None:
            self._open()
        np = self._np
        floats = self._stream.resample_chunk(np.frombuffer(pcm, "<i2").astype(np.float32), last=last)
        self._taken += len(pcm) // BYTES_PER_SAMPLE
        self._given += len(floats)
        # Between two loud samples the wave may go above the loudest one that there is.
        return bytes(np.clip(np.rint(floats), -32768, 32767).astype("<i2").tobytes())

    def _open(self) -> None:
        # Imported here, in the thread of the engine: see the module.
        if "soxr" not in sys.modules:
            loading("the resampler")
        try:
            import numpy as np  # noqa: PLC0415 - see above
            import soxr  # noqa: PLC0415 - see above
        except ImportError as error:
            raise CannotSpeakError(
                f"{self._wanted_hz} Hz instead of its own {self._engine_hz} needs a package: {error}"
            ) from None
        self._np = np
        self._stream = soxr.ResampleStream(
            self._engine_hz,
            self._wanted_hz,
            1,
            dtype="float32",
            quality=_QUALITY,
            vr=self._wanted_hz > self._engine_hz,
        )


def prepare() -> None:
    """Load soxr where that costs little: an engine has loaded numpy."""
    if "numpy" in sys.modules and not missing():
        import soxr  # noqa: F401, PLC0415 - see the module


def rates(engine_hz: int, wanted_hz: int) -> Rates:
    """Return what makes `wanted_hz` of `engine_hz`; 0 asks for the engine's own."""
    return SameRate() if wanted_hz in (0, engine_hz) else Resampler(engine_hz, wanted_hz)
