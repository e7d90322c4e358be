"""What somebody should look at now: a few conditions on the figures of the last minutes.

They are those of the shipped alert rules, for whoever has no Prometheus yet. Nothing is sent anywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.live.series import Counts, Summary

WINDOW_S: Final = 600
"""How far back the figures reach. The limits are those of deploy/observability/prometheus/rules: a test
compares them."""
HIT_WINDOW_S: Final = 3_600
"""How far back the hit rates reach."""
TOTAL_P95_S: Final = 8
TTFA_P95_S: Final = 2
ERROR_RATE: Final = 0.01
REFUSED_RATE: Final = 0.01
FEW_REFUSED: Final = 5
HIT_RATE: Final = 0.25
FEW_LOOKUPS: Final = 200
UNDERRUNS_A_TURN: Final = 0.05
FEW_TURNS: Final = 20
"""Percentiles and rates of fewer turns say little."""
WAITING_A_REPLICA: Final = 4


@dataclass(frozen=True, slots=True)
class Alert:
    """One thing to look at."""

    name: str
    severe: bool
    what: str
    look: str

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"name": self.name, "severe": self.severe, "what": self.what, "look": self.look}


def of_turns(summary: Summary, hour: Counts) -> Iterable[Alert]:
    """Return what the turns give rise to.

    Args:
        summary: Those of `WINDOW_S`.
        hour: Counts of `HIT_WINDOW_S`.

    """
    counts = summary.counts
    ended = counts.turns - counts.refused
    minutes = f"in the last {summary.window_s // 60} minutes"
    if counts.turned_away >= FEW_REFUSED and counts.turned_away > REFUSED_RATE * counts.turns:
        yield Alert(
            "refused",
            False,
            f"{counts.turned_away} of {counts.turns} turns were turned away {minutes} "
            f"(limit {REFUSED_RATE:.0%})",
            "the reason of each below: no place, a queue that is full, or a service that is away",
        )
    if ended >= FEW_TURNS:
        yield from _of_many(summary, ended, minutes)
    for what, found, asked in (
        ("chunks of audio", hour.audio_found, hour.audio_asked),
        ("replies", hour.replies_found, hour.replies_asked),
    ):
        if asked >= FEW_LOOKUPS and found < HIT_RATE * asked:
            yield Alert(
                "hit_rate",
                False,
                f"{found / asked:.0%} of {asked} {what} came from the cache in the last hour "
                f"(limit {HIT_RATE:.0%})",
                "whether the same is asked for at all, and whether the cache is large enough",
            )


def _of_many(summary: Summary, ended: int, minutes: str) -> Iterable[Alert]:
    counts = summary.counts
    total_ms, ttfa_ms = summary.total_ms(0.95), summary.ttfa_ms(0.95)
    # A long reply lasts, because a player paces it: turns are slow where they outlast what they speak.
    if total_ms is not None and total_ms > 1000 * TOTAL_P95_S and counts.total_ms > counts.audio_ms:
        yield Alert(
            "turn_latency",
            False,
            f"p95 of whole turns is {total_ms / 1000:.1f} s {minutes} (limit {TOTAL_P95_S} s), and they last "
            "longer than what they speak",
            "the widest stage of the slow turns, and their chunks",
        )
    if ttfa_ms is not None and ttfa_ms > 1000 * TTFA_P95_S:
        yield Alert(
            "first_audio",
            False,
            f"p95 of the first audio is {ttfa_ms / 1000:.2f} s {minutes} (limit {TTFA_P95_S} s)",
            "the chart at p95: the widest stage is what to work on",
        )
    if counts.faults > ERROR_RATE * ended:
        yield Alert(
            "errors",
            True,
            f"{counts.faults} of {ended} turns failed by no fault of their callers {minutes} "
            f"(limit {ERROR_RATE:.0%})",
            "the failed turns below: each has its reason",
        )
    if counts.underruns > UNDERRUNS_A_TURN * ended:
        yield Alert(
            "underruns",
            False,
            f"players ran dry {counts.underruns} times in {ended} turns {minutes} "
            f"(limit {100 * UNDERRUNS_A_TURN:.0f} in 100)",
            "the chunks of these turns: which stage was late, and with how little in hand",
        )


def of_peers(serving: Mapping[str, bool], cache_breaker: str) -> Iterable[Alert]:
    """Return what services that are away give rise to; `serving` by service."""
    for name, serves in serving.items():
        if not serves:
            needed = name != "cache"
            yield Alert(
                f"{name}_away",
                needed,
                f"the {name} service does not serve" + ("" if needed else ": turns go on without it"),
                f"the log of the {name} service, and whether the gateway reaches its address",
            )
    if serving.get("cache") and cache_breaker != "closed":
        yield Alert(
            "cache_breaker",
            False,
            "the cache serves but failed or was too slow: it is left alone for a while",
            "the cache service and its Redis; VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS says what is too slow",
        )


def of_pools(pools: Iterable[Mapping[str, Any]], lost_lately: Mapping[str, int]) -> Iterable[Alert]:
    """Return what pools give rise to; `lost_lately` has replicas that were replaced while somebody looked."""
    for pool in pools:
        voice = pool["voice"]
        if lost := lost_lately.get(voice, 0):
            yield Alert(
                "replica_lost",
                False,
                f"{voice}: {lost} replicas died or were replaced",
                "the log of the TTS service says why: a crash, a stall, or memory",
            )
        if pool["state"] == "failed":
            yield Alert("voice_failed", True, f"{voice}: {pool['fault']}", "how the voice is declared")
        elif pool["state"] == "ready" and pool["ready"] < pool["declared"]:
            yield Alert(
                "replicas_missing",
                pool["ready"] == 0,
                f"{voice}: {pool['ready']} of {pool['declared']} replicas are ready",
                "whether they start (starting replicas are shown) or keep dying",
            )
        if pool["queued"] > WAITING_A_REPLICA * pool["ready"]:
            yield Alert(
                "queue_long",
                False,
                f"{voice}: {pool['queued']} chunks wait for {pool['ready']} replicas "
                f"(limit {WAITING_A_REPLICA} for each)",
                "whether more is asked than the replicas can speak: add some, or lower the load",
            )
        if pool["breaker"] != "closed":
            yield Alert(
                "engine_breaker",
                True,
                f"{voice}: its engine keeps failing and is left alone ({pool['breaker']})",
                "the failed chunks in the log of the TTS service; turns are spoken by a stand-in meanwhile",
            )


def of_cache(cache: Mapping[str, Any] | None) -> Iterable[Alert]:
    """Return what the cache says of itself gives rise to; None where it said nothing."""
    if cache is not None and cache["redis"] == "away":
        yield Alert(
            "redis_away",
            False,
            "the cache does not reach its Redis: what is new is in its memory alone",
            "Redis itself, and VOICEMESH_REDIS_URL of the cache service",
        )
