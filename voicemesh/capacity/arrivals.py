"""When turns begin, in seconds from the start of the load."""

import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_LOW = 0.1
"""Between bursts, of the mean rate."""
_LEAST_S = 0.001
_MAX_BYTES = 64 * 1024 * 1024


def poisson(rate_per_s: float, chance: random.Random) -> Iterator[float]:
    """Give the arrivals of callers who know nothing of one another."""
    at_s = 0.0
    while True:
        at_s += chance.expovariate(rate_per_s)
        yield at_s


def bursty(rate_per_s: float, peak: float, burst_s: float, chance: random.Random) -> Iterator[float]:
    """Give arrivals in bursts: `peak` times the mean rate for `burst_s` on average, and little between them.

    A Markov-modulated Poisson process of two states. Between bursts the rate is a tenth of the mean, and the
    time between them is as long as the mean rate over both asks for.

    Args:
        rate_per_s: Mean rate.
        peak: Above 1.
        burst_s: Seconds.
        chance: Draws.

    """
    calm_s = cycle_s(peak, burst_s) - burst_s
    rates, lengths = (peak * rate_per_s, _LOW * rate_per_s), (burst_s, calm_s)
    # The chance to begin within a burst is the share of time that is one.
    state = 0 if chance.random() < burst_s / (burst_s + calm_s) else 1
    begin_s = 0.0
    while True:
        end_s = begin_s + chance.expovariate(1 / lengths[state])
        at_s = begin_s
        while (at_s := at_s + chance.expovariate(rates[state])) < end_s:
            yield at_s
        begin_s, state = end_s, 1 - state


def cycle_s(peak: float, burst_s: float) -> float:
    """Return how long a burst and the calm behind it are in the mean, in seconds."""
    return burst_s + burst_s * (peak - 1) / (1 - _LOW)


def trace(times_s: list[float], rate_per_s: float) -> Iterator[float]:
    """Give recorded arrivals, again and again, with their pauses scaled to a mean rate."""
    length_s = times_s[-1] - times_s[0] + (times_s[-1] - times_s[0]) / (len(times_s) - 1)
    scale = len(times_s) / length_s / rate_per_s
    for round_ in itertools.count():
        for time_s in times_s:
            yield (time_s - times_s[0] + round_ * length_s) * scale


def read_trace(path: Path) -> list[float]:
    """Read when turns began: seconds, one a line, or what `voicemesh bench --json` printed.

    Raises:
        ValueError: It cannot be read, or is something else.

    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{path}: is larger than {_MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    times_s = _of_bench(path, text) if text.lstrip().startswith("{") else _of_lines(path, text)
    if len(times_s) < 2 or max(times_s) - min(times_s) < _LEAST_S:
        raise ValueError(f"{path}: has no two moments at which a turn began, a millisecond apart or more")
    return sorted(times_s)


def _of_lines(path: Path, text: str) -> list[float]:
    times_s = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            time_s = float(line)
        except ValueError:
            time_s = -1.0
        if not 0 <= time_s < 1e9:
            raise ValueError(f"{path}, line {number}: must be seconds, 0 or more, and is {line[:40]!r}")
        times_s.append(time_s)
    return times_s


def _of_bench(path: Path, text: str) -> list[float]:
    try:
        found: Any = json.loads(text)
        return [float(turn["run"]["due_s"]) for turn in found["turns"] if turn["run"]["due_s"] is not None]
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: is not what `voicemesh bench --rate … --json` prints") from None
