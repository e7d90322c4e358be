"""What a model takes, where it is not the one that a profile was recorded with.

A profile that comes along was recorded with the rehearsal model: its first token comes at the same moment of
every turn, which no provider does. What callers' own model takes is said in one of two ways:

    --ttft 350ms,900ms    half of all first tokens within 350 ms, 95 of 100 within 900: a lognormal
                          distribution through these two points
    --model-from FILE     turns that `voicemesh bench --json` ran with it: its own times, as they were

Times of first tokens are given out by quantiles and not drawn, so that two plans have the same ones and their
p95 is what was said. A lognormal has the long tail that measured times of providers have, and two points
are all that their status pages, or a bench of one's own, tell.
"""

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

from voicemesh.capacity.profile import Kind, Profile, TurnSample

_Z95: Final = NormalDist().inv_cdf(0.95)
_SAMPLES: Final = 400
"""Turns of a profile, at least, that get a model's times: their slowest is beyond the 99.8th of 100."""
_CHARS_A_TOKEN: Final = 4
"""Where a provider does not count its tokens."""
_LEAST_TURNS: Final = 20
_MAX_BYTES: Final = 256 * 1024 * 1024


@dataclass(frozen=True)
class Model:
    """What a model takes; None: as the profile's own."""

    ttft_ms: Sequence[float] | None = None
    """Prompt to first token, of as many turns as there are; every one counts the same."""
    text_ms: Sequence[float] | None = None
    """First token to the words of the first chunk, of the same turns; None: by `tokens_per_s`."""
    tokens_per_s: float | None = None
    """What it writes behind its first token."""


def lognormal(p50_ms: float, p95_ms: float, count: int = _SAMPLES) -> list[float]:
    """Return quantiles of the lognormal distribution through a median and a 95th percentile.

    ln X is normal, with the mean ln p50 and the deviation (ln p95 - ln p50) / 1.645.
    """
    spread = math.log(p95_ms / p50_ms) / _Z95
    normal = NormalDist()
    return [p50_ms * math.exp(spread * normal.inv_cdf((place + 0.5) / count)) for place in range(count)]


def with_model(profile: Profile, model: Model, seed: int) -> Profile:
    """Return `profile` with turns whose words come from another model.

    Which turn gets which time is drawn by the seed. Chunks behind the first one are asked for as their words
    come: with a model that writes half as fast, after twice the time.

    Raises:
        ValueError: The profile does not say what its own model took.

    """
    made, own_per_s = profile.made, profile.tokens_per_s
    if any(turn.ttft_ms is None for turn in made.turns):
        raise ValueError(
            f"the profile {profile.name} does not say when its model's first tokens came: record it again "
            "(docs/capacity.md), with this model or any other"
        )
    slower = 1.0
    if model.tokens_per_s is not None:
        if own_per_s is None:
            raise ValueError(
                f"the profile {profile.name} does not say how fast its model wrote: record it again "
                "(docs/capacity.md), with this model or any other"
            )
        slower = own_per_s / model.tokens_per_s
    given = model.ttft_ms
    turns: Sequence[TurnSample] = made.turns
    if given is None:
        return replace(profile, made=Kind(made.cpu_ms, [_paced(turn, None, None, slower) for turn in turns]))
    # Each measured turn as often as any other, and each time of the model nearly so.
    times = max(1, math.ceil(max(_SAMPLES, len(given)) / len(turns)))
    count = times * len(turns)
    places = [place * len(given) // count for place in range(count)]
    random.Random(f"{seed} model").shuffle(places)  # noqa: S311 - keeps no secret
    words = model.text_ms
    paced = [
        _paced(turns[at % len(turns)], given[place], words[place] if words is not None else None, slower)
        for at, place in enumerate(places)
    ]
    return replace(profile, made=Kind(made.cpu_ms, paced))


def _paced(turn: TurnSample, ttft_ms: float | None, text_ms: float | None, slower: float) -> TurnSample:
    assert turn.ttft_ms is not None
    first_ms = turn.ttft_ms if ttft_ms is None else ttft_ms
    words_ms = (turn.llm_ms - turn.ttft_ms) * slower if text_ms is None else text_ms
    chunks = tuple(replace(chunk, asked_ms=chunk.asked_ms * slower) for chunk in turn.chunks)
    return replace(turn, ttft_ms=first_ms, llm_ms=first_ms + words_ms, chunks=chunks)


# ---- from turns of a bench --------------------------------------------------------------------


def pace_of(turns: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the tokens a second of those who wrote turns of a bench, by their first chunks; None: unknown.

    A first chunk is heard of when the last token that it needed has come, which the gateway tells with the
    turn; later ones are held back by what is still to be heard.
    """
    tokens = seconds = 0.0
    for turn in turns:
        if not turn["chunks"] or not turn["text"] or turn["stages"]["llm_text"] <= 0:
            continue
        written = turn["tokens"]["output"] or len(turn["text"]) / _CHARS_A_TOKEN
        # The first one is there at the beginning.
        tokens += max(0.0, written * len(turn["chunks"][0]["text"]) / len(turn["text"]) - 1)
        seconds += turn["stages"]["llm_text"] / 1000
    return tokens / seconds if tokens and seconds else None


def read_model(path: Path) -> Model:
    """Read what a model took from what `voicemesh bench --json` printed.

    Turns that the cache gave, and those that failed, do not count.

    Raises:
        ValueError: It cannot be read, is something else, or has too few turns.

    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{path}: is larger than {_MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from None
    try:
        found = [turn for turn in json.loads(text)["turns"] if _asked_a_model(turn)]
        ttft_ms = [float(turn["stages"]["llm_connect"] + turn["stages"]["llm_ttft"]) for turn in found]
        text_ms = [float(turn["stages"]["llm_text"]) for turn in found]
        tokens_per_s = pace_of(found)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ValueError(f"{path}: is not what `voicemesh bench --json` prints") from None
    if len(found) < _LEAST_TURNS:
        raise ValueError(
            f"{path}: has {len(found)} turns that a model answered, and a p95 takes {_LEAST_TURNS} or more: "
            "run `voicemesh bench --no-cache --turns 100 --json` against it"
        )
    numbers = [*ttft_ms, *text_ms]
    if not all(math.isfinite(ms) and 0 <= ms < 3.6e6 for ms in numbers):
        raise ValueError(f"{path}: has times of a model that are no times")
    # By the first token, so that a plan gives them out in the order of quantiles.
    ordered = sorted(zip(ttft_ms, text_ms, strict=True))
    return Model([first for first, _ in ordered], [words for _, words in ordered], tokens_per_s)


def _asked_a_model(turn: Mapping[str, Any]) -> bool:
    return bool(
        turn["outcome"] == "completed" and turn["reply_cache"] not in ("hit", "similar") and turn["tokens"]
    ) and bool(turn["chunks"] and turn["stages"]["llm_ttft"])
