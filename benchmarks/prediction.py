"""Whether it would pay to speak the next chunk ahead because it followed before.

    .venv/bin/python -m benchmarks.prediction [--crowd 1] [--sure 2] [--memory-alone]

Plays the sentences of `benchmarks.conversations` against memory of the default size and a Redis that is
given what was asked for twice. Behind each sentence of a reply the next one is predicted: what followed
this sentence most often among the last 8 times, for each tenant apart, if it did so at least `--sure`
times. A prediction pays only where it is right and the cache has not got the audio; where it is wrong and
the cache has not got it either, an engine works for nothing. Chunks of a cached reply are known, so nothing
is predicted for them: only for the turns whose reply an ideal cache would not have is a line counted.
"""

import argparse
import re
from collections import Counter, defaultdict, deque
from typing import Final

from benchmarks.conversations import record, replies
from benchmarks.eviction import BYTES_PER_CHARACTER, MIB
from services.cache.eviction import S3Fifo

AUDIO_BYTES: Final = 48 * MIB
"""What audio has of the default memory."""
REPLY_TTL_MS: Final = 30 * 60 * 1000
BYTES_PER_S: Final = 22_050 * 2


class Store:
    """What the two tiers have of audio: memory by S3-FIFO, Redis what was asked for twice."""

    def __init__(self, *, redis: bool) -> None:
        self._has_redis = redis
        self._order = S3Fifo(AUDIO_BYTES)
        self._memory: dict[str, int] = {}
        self._requests: Counter[str] = Counter()
        self._redis: set[str] = set()

    def has(self, name: str) -> bool:
        """Return whether audio is there, without asking for it."""
        return name in self._memory or name in self._redis

    def ask(self, name: str, size_bytes: int) -> bool:
        """Ask for audio, which is stored where it is missing; return whether it was there."""
        found = self.has(name)
        self._requests[name] += 1
        if self._has_redis and self._requests[name] >= 2:
            self._redis.add(name)
        if name in self._memory:
            self._order.use(name)
            return True
        while sum(self._memory.values()) + size_bytes > AUDIO_BYTES:
            self._memory.pop(self._order.evict(), None)
        self._order.add(name, size_bytes)
        self._memory[name] = size_bytes
        return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crowd", type=int, default=1, help="so many times as many people")
    parser.add_argument("--sure", type=int, default=2, help="times that it must have followed")
    parser.add_argument("--memory-alone", action="store_true", help="without a Redis")
    arguments = parser.parse_args()
    store = Store(redis=not arguments.memory_alone)
    followed: defaultdict[str, deque[str]] = defaultdict(lambda: deque(maxlen=8))
    made_ms: dict[tuple[str, str], int] = {}
    counts: Counter[str] = Counter()
    seconds = {"rightly": 0.0, "wrongly": 0.0}
    for turn, reply in replies(record(arguments.seed, crowd=arguments.crowd)):
        known = (
            turn.use == "phrase"
            or turn.at_ms - made_ms.get((turn.tenant, reply), -REPLY_TTL_MS) < REPLY_TTL_MS
        )
        if not known:
            made_ms[turn.tenant, reply] = turn.at_ms
        before = ""
        for sentence in re.split(r"(?<=[.!?]) ", reply):
            name, size_bytes = f"{turn.tenant}:{sentence}", len(sentence) * BYTES_PER_CHARACTER
            guess, times = (Counter(followed[before]).most_common(1) or [("", 0)])[0]
            if before and not known:
                counts["chunks behind another, of replies that are new"] += 1
                if times >= arguments.sure:
                    counts["predicted"] += 1
                    counts["predicted rightly"] += guess == name
                    if not store.has(guess):
                        kind = "rightly" if guess == name else "wrongly"
                        counts[f"predicted {kind} and not in the cache"] += 1
                        seconds[kind] += (
                            (len(guess) - len(turn.tenant) - 1) * BYTES_PER_CHARACTER / BYTES_PER_S
                        )
            found = store.ask(name, size_bytes)
            if before and not known:
                counts["of them not in the cache"] += not found
            if before:
                followed[before].append(name)
            before = name
    for what in (
        "chunks behind another, of replies that are new",
        "of them not in the cache",
        "predicted",
        "predicted rightly",
        "predicted rightly and not in the cache",
        "predicted wrongly and not in the cache",
    ):
        print(f"{what:<48} {counts[what]:>7}")
    print(f"{'seconds of audio spoken ahead that are heard':<48} {seconds['rightly']:>7.0f}")
    print(f"{'seconds of audio spoken ahead for nothing':<48} {seconds['wrongly']:>7.0f}")


if __name__ == "__main__":
    main()
