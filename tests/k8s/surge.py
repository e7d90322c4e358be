"""A day of a mesh: callers come and go, pods start and end, and the shipped autoscaler decides.

What callers want is given. A turn holds a lease of the TTS service half of its time; while every slot is
taken, the door refuses. Pods of the TTS service take their time to start. All that Prometheus would scrape is
kept, so that the rules can be asked whether they say what was decided by.
"""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

from tests.support.autoscaler import SYNC_S, Autoscaler

SLOTS: Final = 8
"""Of a pod."""
START_S: Final = 100
"""From the decision for a pod to its first chunk."""
TURN_S: Final = 12.0
LEASES_A_TURN: Final = 0.5
AHEAD_S: Final = 120.0
"""voicemesh:tts_pod_start:seconds"""
TREND_S: Final = 180


@dataclass
class Scrape:
    """What is known of one moment."""

    turns: float
    refused: float
    """Since the beginning."""
    leases: float
    """Of each pod."""
    queued: float
    pods: int
    """Those that serve."""
    busy: float = 0.0
    """namespace:voicemesh_tts_pods_wanted:max"""
    ahead: float = 0.0
    """namespace:voicemesh_tts_pods_wanted:ahead"""


@dataclass
class Day:
    """What came of it."""

    scrapes: list[Scrape] = field(default_factory=list)
    pods: list[int] = field(default_factory=list)
    """That there are to be, by round."""

    def refused(self, begin_min: float = 0, end_min: float = math.inf) -> float:
        """Return how many turns were refused between two moments."""
        steps = range(len(self.scrapes))
        inside = [self.scrapes[i].refused for i in steps if begin_min * 60 <= i * SYNC_S <= end_min * 60]
        return inside[-1] - inside[0]

    def pods_at(self, minute: float) -> int:
        """Return how many there are to be at a moment."""
        return self.pods[int(minute * 60 / SYNC_S)]

    def reversals(self, begin_min: float, end_min: float) -> int:
        """Return how often their number went up behind it went down, between two moments."""
        pods = self.pods[int(begin_min * 60 / SYNC_S) : int(end_min * 60 / SYNC_S)]
        changes = [after - before for before, after in pairwise(pods) if after != before]
        return sum(was < 0 < now for was, now in pairwise(changes))


Query = Callable[[Scrape], float]


def live(wanted: Sequence[float], scaler: Autoscaler, query: Query, target: float) -> Day:
    """Let a day pass.

    Args:
        wanted: Turns that callers want to have at once, every 15 s.
        scaler: Decides.
        query: What it asks Prometheus, of the rules' figures.
        target: For each pod.

    """
    day = Day()
    starts = [0] * scaler.least  # when each pod serves
    refused = 0.0
    for step, callers in enumerate(wanted):
        now_s = step * SYNC_S
        serving = sum(at_s <= now_s for at_s in starts)
        room = serving * SLOTS / LEASES_A_TURN
        turns = min(callers, room)
        refused += (callers - turns) / TURN_S * SYNC_S
        busy_slots = round(turns * LEASES_A_TURN, 4)
        scrape = Scrape(round(turns, 4), round(refused, 4), round(busy_slots / serving, 6), 0.0, serving)
        day.scrapes.append(scrape)
        _record(day.scrapes)
        # The round of the autoscaler sees what was scraped and recorded at the one before it.
        seen = day.scrapes[max(step - 1, 0)]
        pods = scaler.decide(now_s, len(starts), [(query(seen), target)])
        starts += [now_s + START_S] * (pods - len(starts))
        starts = sorted(starts)[:pods]  # those that do not serve yet go first
        day.pods.append(pods)
    return day


def _record(scrapes: list[Scrape]) -> None:
    """Work out for the last scrape what the rules record."""
    now = scrapes[-1]
    minute = scrapes[-1 - 60 // SYNC_S :]
    rate = (now.refused - minute[0].refused) / ((len(minute) - 1) * SYNC_S) if len(minute) > 1 else 0.0
    away = min(rate * TURN_S, now.turns)
    factor = (now.turns + away) / now.turns if now.turns else 1.0
    now.busy = (now.leases * now.pods + now.queued) / SLOTS * factor
    trend = [scrape.busy for scrape in scrapes[-1 - TREND_S // SYNC_S :]]
    now.ahead = now.busy + max(_slope(trend), 0.0) * AHEAD_S


def _slope(values: Sequence[float]) -> float:
    """Return what they grow by a second, by the least squares that `deriv` takes."""
    count = len(values)
    if count < 2:
        return 0.0
    times = [SYNC_S * index for index in range(count)]
    mean_t, mean_v = sum(times) / count, sum(values) / count
    moved = sum((t - mean_t) * (v - mean_v) for t, v in zip(times, values, strict=True))
    return moved / sum((t - mean_t) ** 2 for t in times)


def callers(*legs: tuple[float, float], noise: float = 0.1, seed: int = 1) -> list[float]:
    """Return what callers want every 15 s: from point to point of (minute, turns), with noise."""
    chance = random.Random(seed)
    wanted = []
    for (begin, low), (end, high) in pairwise(legs):
        steps = round((end - begin) * 60 / SYNC_S)
        for index in range(steps):
            level = low + (high - low) * index / steps
            wanted.append(max(0.0, level * (1 + noise * chance.uniform(-1, 1))))
    return wanted
