"""What it costs to sum and sign entries: `python -m benchmarks.cache_sums`.

Medians of one run, for an entry of 2 s of audio at 24 kHz with 6 words. The ratio is what signing adds.
"""

import statistics
import time
from collections.abc import Callable

from services.cache import codec
from services.cache.sums import PLAIN, Sums
from services.cache.values import PCM_S16LE, AudioFormat, AudioValue, WordTiming

ROUNDS = 2000
NAME = "voicemesh:v3:audio:a:b:c:" + "0" * 64


def median_us(work: Callable[[], object]) -> float:
    """Return the median of one call in microseconds."""
    times = []
    for _ in range(ROUNDS):
        began_ns = time.perf_counter_ns()
        work()
        times.append((time.perf_counter_ns() - began_ns) / 1000)
    return statistics.median(times)


def main() -> None:
    """Print the medians."""
    words = tuple(WordTiming(f"word{number}", 5 * number, 5, 8000 * number) for number in range(6))
    value = AudioValue(AudioFormat(PCM_S16LE, 24_000, 1), bytes(range(256)) * 375, words)
    signing = Sums((b"k" * 32,))
    for what, sums in (("checked", PLAIN), ("signed", signing)):
        data = codec.encode(value, NAME, sums=sums)
        written = median_us(lambda sums=sums: codec.encode(value, NAME, sums=sums))  # type: ignore[misc]
        read = median_us(lambda data=data, sums=sums: codec.decode(data, "audio", NAME, sums))  # type: ignore[misc]
        print(f"{what}: write {written:.0f} us, read {read:.0f} us, {len(data)} bytes")


if __name__ == "__main__":
    main()
