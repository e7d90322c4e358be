"""Turns made up, so that what made them slow is known."""

import random
from collections.abc import Mapping
from typing import Any

from voicemesh.critical_path import FirstChunk, Measure, Population, Turn
from voicemesh.critical_path.turns import UNATTRIBUTED

USUAL_MS = {
    "admission": 0.5,
    "history": 2.0,
    "reply_cache": 1.0,
    "llm_connect": 5.0,
    "llm_ttft": 150.0,
    "llm_text": 80.0,
    "chunk_hold": 20.0,
    "audio_cache": 1.0,
    "tts_queue": 1.0,
    "tts_synthesis": 30.0,
    "transport": 8.0,
    "gateway": 2.0,
}


def turn(turn_id: str = "t", /, more: Mapping[str, float] | None = None, **values: Any) -> Turn:
    """Return a usual turn, but for `more` milliseconds in some parts."""
    more = dict(more or {})
    unattributed_ms = more.pop(UNATTRIBUTED, 0.0)
    stages = {name: usual_ms + more.pop(name, 0.0) for name, usual_ms in USUAL_MS.items()}
    assert not more, more
    ttfa_ms = sum(stages.values()) + unattributed_ms
    given: dict[str, Any] = {
        "outcome": "completed",
        "trace_id": "0" * 31 + "1",
        "ttfa_ms": ttfa_ms,
        "total_ms": ttfa_ms + 4000,
        "unattributed_ms": unattributed_ms,
        "hops": {"llm": stages["transport"] / 2, "tts": stages["transport"] / 2},
        "reply_cache": "miss",
        "provider": "openai",
        "first": FirstChunk("clause", "miss", 900.0),
        "audio_ms": 9000.0,
    }
    return Turn(turn_id=turn_id, stages=stages, **{**given, **values})


def noisy(count: int, seed: int = 1, sigma: float = 0.05) -> list[Turn]:
    """Return turns that vary a little in every stage, by nobody's fault."""
    chance = random.Random(seed)
    return [
        turn(
            f"n{number:05}",
            {name: usual_ms * chance.uniform(-sigma, sigma) for name, usual_ms in USUAL_MS.items()},
            began_unix_us=1_000_000 * (number + 1),
        )
        for number in range(count)
    ]


def population(turns: list[Turn], by: Measure = "ttfa", slowest: int = 20, **options: Any) -> Population:
    """Return a population of turns."""
    taken = Population(by, slowest, **options)
    taken.extend(turns)
    return taken
