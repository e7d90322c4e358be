"""What somebody should look at now: a few conditions on the figures of the last minutes.

They are those of the shipped alert rules, for whoever has no Prometheus yet. Nothing is sent anywhere.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.live.series import Summary

WINDOW_S: Final = 300
"""How far back the figures reach."""
_TOTAL_P95_MS: Final = 8_000
_TTFA_P95_MS: Final = 1_500
_HIT_RATE: Final = 0.25
_ERROR_RATE: Final = 0.01
_FEW_TURNS: Final = 20
"""Rates of fewer turns say little."""


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


def of_turns(summary: Summary) -> Iterable[Alert]:
    """Return what the turns of the window give rise to."""
    counts = summary.counts
    minutes = f"in the last {summary.window_s // 60} minutes"
    total_ms, ttfa_ms = summary.total_ms(0.95), summary.ttfa_ms(0.95)
    if total_ms is not None and total_ms > _TOTAL_P95_MS:
        yield Alert(
            "turn_latency",
            False,
            f"p95 of whole turns is {total_ms / 1000:.1f} s {minutes} (limit {_TOTAL_P95_MS / 1000:.0f} s)",
            "the widest stage of the slow turns; long replies are slow too: compare with their audio",
        )
    if ttfa_ms is not None and ttfa_ms > _TTFA_P95_MS:
        yield Alert(
            "first_audio",
            False,
            f"p95 of the first audio is {ttfa_ms / 1000:.2f} s {minutes} (limit {_TTFA_P95_MS / 1000:.1f} s)",
            "the chart at p95: the widest stage is what to work on",
        )
    errors = counts.failed + counts.refused
    if counts.turns >= _FEW_TURNS and errors / counts.turns > _ERROR_RATE:
        yield Alert(
            "errors",
            True,
            f"{errors} of {counts.turns} turns failed or were refused {minutes} (limit {_ERROR_RATE:.0%})",
            "the failed turns below: each has its reason",
        )
    if counts.audio_asked >= _FEW_TURNS and counts.audio_found / counts.audio_asked < _HIT_RATE:
        yield Alert(
            "hit_rate",
            False,
            f"{counts.audio_found / counts.audio_asked:.0%} of the audio came from the cache {minutes} "
            f"(limit {_HIT_RATE:.0%})",
            "whether the same texts are asked for at all, and whether the cache is large enough",
        )
    if counts.underruns:
        yield Alert(
            "underruns",
            False,
            f"players ran dry {counts.underruns} times {minutes}",
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
