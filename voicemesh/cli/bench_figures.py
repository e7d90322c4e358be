"""The figures of a bench, from its turns in their JSON form: those of a run, and of one that was saved."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from voicemesh.cli.stats import percentile, percentiles
from voicemesh.stages import STAGES

Turn = Mapping[str, Any]
"""A turn as `bench --json` prints it."""

KINDS: Final = {"reply": "of a cached reply", "audio": "of cached audio", "none": "of nothing cached"}
"""What the first audio of a turn came from."""
UNATTRIBUTED: Final = "unattributed"
UNKNOWN: Final = "unknown"
CALLER: Final = "caller"
"""What is behind the gateway: the way to the caller, and the caller, which is here the load tool itself."""
BY_DESIGN: Final = "by design"
PARTS: Final = (*(stage.value for stage in STAGES), UNATTRIBUTED)
"""What the time to first audio adds up from, in order of the path."""


def kind_of(turn: Turn) -> str:
    """Return what the first audio of a turn came from: `reply`, `audio` or `none`.

    `reply`: the reply was cached, `audio`: the first chunk's audio was, `none`: neither.
    """
    if turn["reply_cache"] in ("hit", "similar"):
        return "reply"
    return "audio" if turn["chunks"] and turn["chunks"][0]["cache"] not in ("miss", "off") else "none"


def heard_of(turns: Sequence[Turn]) -> list[Turn]:
    """Return the turns that had audio."""
    return [turn for turn in turns if turn["ttfa_ms"] > 0]


def times_of(turns: Sequence[Turn], name: str) -> list[float]:
    """Return the values of a time: TTFT of turns with text, TTFA with audio, total of completed ones."""
    if name == "total_ms":
        return [turn[name] for turn in turns if turn["outcome"] == "completed"]
    return [turn[name] for turn in turns if turn[name] > 0]


def parts_of(turn: Turn) -> dict[str, float]:
    """Return what the time to first audio of a turn adds up from, in milliseconds."""
    stages = turn["stages"]
    return {
        **{stage.value: stages.get(stage.value, 0.0) for stage in STAGES},
        UNATTRIBUTED: turn["unattributed_ms"],
    }


def underruns_by_cause(turns: Sequence[Turn]) -> dict[str, int]:
    """Return how many underruns each stage caused, the most first.

    `by design`: the turn was held, so that the caller lost nothing that could have been had. `caller`: the
    gateway had sent in time, and the caller's player ran dry: what came late did so behind the gateway.
    `unknown`: there is no account of the gateway, or it kept no list of them.
    """
    counted: Counter[str] = Counter()
    for turn in turns:
        listed = [each for chunk in turn["chunks"] for each in chunk.get("underrun_list", ())]
        counted.update((each["cause"] or BY_DESIGN) for each in listed[: turn["underruns"]])
        beyond = _beyond_the_gateway(turn)
        counted[CALLER] += beyond
        counted[UNKNOWN] += max(turn["underruns"] - beyond - len(listed), 0)
    return {cause: count for cause, count in counted.most_common() if count}


def late_behind_the_gateway_ms(turns: Sequence[Turn]) -> float:
    """Return for how long players were dry in sum beyond what the gateway knows of, in milliseconds."""
    return math.fsum(
        max(turn["underrun_ms"] - sum(chunk["underrun_ms"] for chunk in turn["chunks"]), 0.0)
        for turn in turns
        if _beyond_the_gateway(turn)
    )


def _beyond_the_gateway(turn: Turn) -> int:
    """Return how many underruns the caller saw beyond those of the gateway; 0 where it gave no account."""
    chunks = turn["chunks"]
    if not chunks or any("underruns" not in chunk for chunk in chunks):
        return 0
    return max(int(turn["underruns"] - sum(chunk["underruns"] for chunk in chunks)), 0)


def behind_the_gateway_ms(turn: Turn) -> float:
    """Return how long the first audio took from the gateway to the caller, in milliseconds."""
    return float(turn.get("hops", {}).get(CALLER, 0.0))


def errors_of(turns: Sequence[Turn]) -> list[tuple[str, str, str, int]]:
    """Return why turns failed, the most first: reason, the limit met or "", the first message, how many."""
    counted: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], str] = {}
    for turn in turns:
        if (error := turn["error"]) is not None:
            why = error["reason"], error.get("limit", "")
            counted[why] += 1
            first.setdefault(why, error["message"])
    return [(*why, first[why], count) for why, count in counted.most_common()]


def summarise(turns: Sequence[Turn], wall_s: float) -> dict[str, Any]:
    """Return the summary in JSON form.

    Times are percentiles over the turns that have them: TTFT over turns with text, TTFA and stages
    over turns with audio, total over turns that were completed. `by_cache` has them for the turns with
    audio by what it came from: a mixture of cached and other turns has percentiles of neither. `degraded`
    counts turns by what they gave up. `unattributed` is how far stages are from what they add up to.
    """
    heard = heard_of(turns)
    chunks = [chunk for turn in turns for chunk in turn["chunks"]]
    hits = sum(chunk["cache"] != "miss" for chunk in chunks)
    asked = [turn["reply_cache"] for turn in turns if turn["reply_cache"] != "off"]
    cost = _cost(turns)
    return {
        "turns": len(turns),
        "errors": sum(turn["outcome"] == "failed" for turn in turns),
        "errors_by_reason": dict(
            Counter(turn["error"]["reason"] for turn in turns if turn["error"] is not None).most_common()
        ),
        "wall_s": round(wall_s, 3),
        "turns_per_s": round(len(turns) / wall_s, 3) if wall_s else 0.0,
        **_times(turns),
        "stages": {
            stage.value: percentiles([turn["stages"].get(stage.value, 0.0) for turn in heard])
            for stage in STAGES
        },
        UNATTRIBUTED: percentiles([abs(turn["unattributed_ms"]) for turn in heard]),
        "by_cache": {
            kind: {"turns": len(of), **_times(of)}
            for kind in KINDS
            for of in [[turn for turn in heard if kind_of(turn) == kind]]
        },
        "underruns": sum(turn["underruns"] for turn in turns),
        "underruns_by_stage": underruns_by_cause(turns),
        "degraded": dict(Counter(what for turn in turns for what in set(turn["degraded"])).most_common()),
        "lookups": {
            "reply": {outcome: asked.count(outcome) for outcome in ("hit", "similar", "miss")},
            "audio": {"hit": hits, "miss": len(chunks) - hits},
        },
        "hit_rate": {
            "reply": _share(asked.count("hit"), len(asked)),
            "audio": _share(hits, len(chunks)),
        },
        "cost_usd": cost["llm_usd"] + cost["speech_usd"],
        "cost": cost,
    }


def _times(turns: Sequence[Turn]) -> dict[str, Any]:
    return {name: percentiles(times_of(turns, name)) for name in ("ttft_ms", "ttfa_ms", "total_ms")}


def _cost(turns: Sequence[Turn]) -> dict[str, Any]:
    """Return what the run cost and what caches saved, in US dollars, as far as it has prices."""
    sums = {
        name: sum(turn["cost"][name] for turn in turns)
        for name in ("llm_usd", "speech_usd", "saved_usd", "prompt_cache_saved_usd")
    }
    total = sums["llm_usd"] + sums["speech_usd"]
    without = total + sums["saved_usd"] + sums["prompt_cache_saved_usd"]
    each = total / len(turns) if turns else 0.0
    return {
        **sums,
        "per_turn_usd": each,
        "per_1000_turns_usd": 1000 * each,
        "saved_share": _share(sums["saved_usd"], without),
        "unpriced": sorted({name for turn in turns for name in turn["cost"]["unpriced"]}),
        "unpriced_turns": sum(bool(turn["cost"]["unpriced"]) for turn in turns),
        "estimated_turns": sum(turn["cost"]["estimated"] for turn in turns),
    }


def loose_share(turns: Sequence[Turn]) -> float:
    """Return the p95 of the share of the time to first audio that no stage accounts for."""
    return percentile([abs(turn["unattributed_ms"]) / turn["ttfa_ms"] for turn in heard_of(turns)], 0.95)


def _share(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0
