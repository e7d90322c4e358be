"""Which entries memory should give up: LRU, S3-FIFO, W-TinyLFU, on audio of recorded conversations.

    .venv/bin/python -m benchmarks.eviction [--crowd 4] [--seed 1]

The trace is that of `benchmarks.conversations`: each sentence of a reply is one entry, for each tenant
apart, of as many bytes as it takes to say it (15 characters a second, 22,050 Hz). It is played three
times: as it is; with scans, which is what a batch of one-off texts does (a book of 500 sentences every
quarter of an hour); and with a third of all requests one-off. Hits are of the conversations' own requests.
Lifetimes are left out: the trace is as long as audio lives. An operation is a look-up and, where it
misses, the store with its evictions.
"""

import argparse
import random
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from benchmarks.conversations import record, replies
from services.cache.eviction import LeastRecent, Order, S3Fifo

MIB: Final = 1024 * 1024
BYTES_PER_CHARACTER: Final = 22_050 * 2 // 15
BUDGETS_MIB: Final = (6, 12, 24, 48, 96, 192)
"""192 MiB is what audio has of the default `VOICEMESH_CACHE_MEMORY_BYTES`."""
SCAN_EVERY_MS: Final = 15 * 60 * 1000
SCAN_SENTENCES: Final = 500

Request = tuple[str, int, bool]
"""Name, size in bytes, and whether its hit counts."""


class Frequencies:
    """How often a name was asked for lately: a count-min sketch of 4 rows that halves itself."""

    ROWS: Final = 4

    def __init__(self, names: int) -> None:
        self._width = 1 << max(6, (4 * names).bit_length())
        self._rows = [bytearray(self._width) for _ in range(self.ROWS)]
        self._left = self._sample = 10 * names

    def _places(self, name: str) -> Iterator[tuple[bytearray, int]]:
        digest = hash(name)
        for row in self._rows:
            digest = (digest * 0x9E3779B97F4A7C15 + 1) & 0xFFFF_FFFF_FFFF_FFFF
            yield row, (digest >> 32) % self._width

    def add(self, name: str) -> None:
        """Note that a name was asked for."""
        for row, at in self._places(name):
            if row[at] < 15:
                row[at] += 1
        self._left -= 1
        if self._left == 0:
            self._left = self._sample
            self._rows = [bytearray(count >> 1 for count in row) for row in self._rows]

    def of(self, name: str) -> int:
        """Return how often: never too low, but halved with time."""
        return min(row[at] for row, at in self._places(name))


class WTinyLfu:
    """W-TinyLFU in bytes: a window of LRU, then segmented LRU that only lets in who is asked for more often.

        new ──> window ──>  duel ──> probation ── used ──> protected (80% of the rest)
                                  └─ lost: out

    Where one large newcomer needs the room of several, it must be asked for more often than all of them
    together ("aggregated victims" of Einziger et al., "Lightweight robust size aware cache management").
    """

    def __init__(self, budget_bytes: int, window_share: float = 0.01) -> None:
        self._window_bytes = int(budget_bytes * window_share)
        self._main_bytes = budget_bytes - self._window_bytes
        self._window: OrderedDict[str, int] = OrderedDict()
        self._probation: OrderedDict[str, int] = OrderedDict()
        self._protected: OrderedDict[str, int] = OrderedDict()
        self._used = {id(queue): 0 for queue in (self._window, self._probation, self._protected)}
        self._frequencies = Frequencies(max(64, budget_bytes // 65_536))

    def _push(self, queue: OrderedDict[str, int], name: str, size_bytes: int) -> None:
        queue[name] = size_bytes
        self._used[id(queue)] += size_bytes

    def _pop(self, queue: OrderedDict[str, int], name: str) -> int:
        size_bytes = queue.pop(name)
        self._used[id(queue)] -= size_bytes
        return size_bytes

    def _queue(self, name: str) -> OrderedDict[str, int] | None:
        return next((q for q in (self._window, self._probation, self._protected) if name in q), None)

    def add(self, name: str, size_bytes: int) -> None:
        """Note a new entry."""
        self._frequencies.add(name)
        self._push(self._window, name, size_bytes)

    def use(self, name: str) -> None:
        """Note that an entry was asked for."""
        self._frequencies.add(name)
        queue = self._queue(name)
        if queue is None:
            return
        if queue is not self._probation:
            queue.move_to_end(name)
            return
        self._push(self._protected, name, self._pop(self._probation, name))
        while self._used[id(self._protected)] > self._main_bytes * 4 // 5:
            oldest = next(iter(self._protected))
            self._push(self._probation, oldest, self._pop(self._protected, oldest))

    def remove(self, name: str) -> None:
        """Note that an entry is gone."""
        queue = self._queue(name)
        if queue is not None:
            self._pop(queue, name)

    def _victims(self, needed: int) -> list[str]:
        found: list[str] = []
        for queue in (self._probation, self._protected):
            for name, size_bytes in queue.items():
                if needed <= 0:
                    return found
                found.append(name)
                needed -= size_bytes
        return found

    def evict(self) -> str:
        """Choose the entry that makes room: the newcomer that loses its duel, or who loses to it."""
        while self._window:
            in_main = self._used[id(self._probation)] + self._used[id(self._protected)]
            if self._used[id(self._window)] <= self._window_bytes and in_main:
                break
            candidate, size_bytes = next(iter(self._window.items()))
            victims = self._victims(in_main + size_bytes - self._main_bytes)
            least = sum(map(self._frequencies.of, victims))
            if victims and self._frequencies.of(candidate) <= least:
                self._pop(self._window, candidate)
                return candidate
            self._push(self._probation, candidate, self._pop(self._window, candidate))
            if victims:
                break
        victim = next(iter(self._probation or self._protected))
        self.remove(victim)
        return victim


POLICIES: Final[dict[str, Callable[[int], Order]]] = {
    "LRU": lambda budget_bytes: LeastRecent(),  # noqa: ARG005 - it needs none
    "S3-FIFO": S3Fifo,
    "W-TinyLFU": WTinyLfu,
    "W-TinyLFU, 10%": partial(WTinyLfu, window_share=0.1),
}


def conversations(seed: int, crowd: int) -> list[tuple[int, str, int]]:
    """Return the time in ms, the name and the size in bytes of each sentence that is to be spoken."""
    return [
        (turn.at_ms, f"{turn.tenant}:{sentence}", len(sentence) * BYTES_PER_CHARACTER)
        for turn, reply in replies(record(seed, crowd=crowd))
        for sentence in re.split(r"(?<=[.!?]) ", reply)
    ]


def trace(seed: int, crowd: int, *, scans: bool = False, one_off: float = 0.0) -> list[Request]:
    """Return the requests: conversations, with what is added to them."""
    draw = random.Random(seed)
    sizes = conversations(seed, crowd)
    requests: list[Request] = []
    next_scan_ms, number = SCAN_EVERY_MS, 0
    for at_ms, name, size_bytes in sizes:
        while scans and at_ms >= next_scan_ms:
            next_scan_ms += SCAN_EVERY_MS
            for _ in range(SCAN_SENTENCES):
                number += 1
                requests.append((f"scan {number}", draw.choice(sizes)[2], False))
        while draw.random() < one_off:
            number += 1
            requests.append((f"one-off {number}", draw.choice(sizes)[2], False))
        requests.append((name, size_bytes, True))
    return requests


def play(order: Order, budget_bytes: int, requests: Sequence[Request]) -> tuple[float, float, float]:
    """Return the share of requests that hit, the share of bytes, and microseconds an operation took."""
    sizes: dict[str, int] = {}
    used = hits = hit_bytes = 0
    began_ns = time.perf_counter_ns()
    for name, size_bytes, counts in requests:
        if name in sizes:
            order.use(name)
            if counts:
                hits += 1
                hit_bytes += size_bytes
            continue
        while used + size_bytes > budget_bytes:
            used -= sizes.pop(order.evict())
        order.add(name, size_bytes)
        sizes[name] = size_bytes
        used += size_bytes
    took_us = (time.perf_counter_ns() - began_ns) / 1000 / len(requests)
    asked = [size_bytes for _, size_bytes, counts in requests if counts]
    return hits / len(asked), hit_bytes / sum(asked), took_us


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--crowd", type=int, default=4, help="so many times as many people")
    arguments = parser.parse_args()
    traces = {
        "as it is": trace(arguments.seed, arguments.crowd),
        "with scans": trace(arguments.seed, arguments.crowd, scans=True),
        "a third one-off": trace(arguments.seed, arguments.crowd, one_off=1 / 3),
    }
    for title, requests in traces.items():
        footprint = sum({name: size for name, size, _ in requests}.values()) / MIB
        print(f"\n{title}: {len(requests)} requests for {footprint:.0f} MiB")
        print(f"{'hits, and of bytes':<22}" + "".join(f"{name:>20}" for name in POLICIES))
        times: dict[str, list[float]] = {name: [] for name in POLICIES}
        for budget in BUDGETS_MIB:
            cells = []
            for name, make in POLICIES.items():
                hits, of_bytes, took_us = play(make(budget * MIB), budget * MIB, requests)
                times[name].append(took_us)
                cells.append(f"{hits:>12.1%}{of_bytes:>8.1%}")
            print(f"{budget:>4} MiB, {budget / footprint:>7.1%} of it" + "".join(cells))
        print(f"{'µs an operation':<22}" + "".join(f"{sum(t) / len(t):>20.2f}" for t in times.values()))


if __name__ == "__main__":
    main()
