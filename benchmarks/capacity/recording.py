"""From the turns of a mesh to a profile."""

import datetime as dt
import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from benchmarks.capacity.measuring import Loaded, Measuring
from benchmarks.capacity.scenarios import QUESTIONS, Scenario
from benchmarks.meshes import prompts, running_mesh
from voicemesh.capacity import profile as profiles
from voicemesh.capacity.demand import per_engine
from voicemesh.capacity.model import pace_of
from voicemesh.capacity.profile import CALLER, CPU
from voicemesh.cli import machine
from voicemesh.cli.bench_options import PRIMED

_MOST_HITS: Final = 0.97
"""Of turns whose CPU is that of turns from the cache."""
_OTHERS: Final = 0.05
"""From this share of the machine's CPUs on, what others do is in the figures."""
_PATIENT_MS: Final = 2000


def sample(turn: Mapping[str, Any]) -> profiles.TurnSample:
    """Return what a turn that waited for nobody took. A hop is half its caller's work, half the other's."""
    stages, hops = turn["stages"], turn["hops"]
    half = {name: ms / 2 for name, ms in hops.items()}
    path = {name: half.get(name, 0.0) for name in ("llm", "chunker", "tts", "cache", CALLER)}
    path["tts"] += stages["tts_queue"]
    path["cache"] += stages["audio_cache"] + stages["reply_cache"]
    own = ("admission", "history", "gateway")
    path["gateway"] = (
        sum(stages[name] for name in own) + sum(half.values()) + max(0.0, turn["unattributed_ms"])
    )
    asked_ms = [
        chunk["first_frame_ms"] - chunk["queue_ms"] - chunk["synthesis_ms"] for chunk in turn["chunks"]
    ]
    chunks = [
        profiles.ChunkSample(
            max(0.0, at_ms - asked_ms[0]), chunk["audio_ms"], chunk["synthesis_ms"], lease_ms
        )
        for chunk, at_ms, lease_ms in zip(
            turn["chunks"], asked_ms, leases_ms(turn["chunks"], turn["engine_ms"]), strict=True
        )
    ]
    ttft_ms = stages["llm_connect"] + stages["llm_ttft"]
    return profiles.TurnSample(
        ttft_ms=ttft_ms,
        llm_ms=ttft_ms + stages["llm_text"],
        hold_ms=stages["chunk_hold"],
        path_ms=path,
        chunks=tuple(chunks),
    )


def leases_ms(chunks: Sequence[Mapping[str, Any]], engine_ms: float) -> list[float]:
    """Return how long each chunk of a turn held its slot: its first frame, and its share of the rest."""
    firsts = sum(chunk["synthesis_ms"] for chunk in chunks)
    audio_ms = sum(chunk["audio_ms"] for chunk in chunks) or 1.0
    rest_ms = max(0.0, engine_ms - firsts)
    return [chunk["synthesis_ms"] + rest_ms * chunk["audio_ms"] / audio_ms for chunk in chunks]


def by_prompt(turns: Sequence[dict[str, Any]], fastest: int) -> list[dict[str, Any]]:
    """Return turns in the order of their prompts, as many of each: the fastest ones, or with 0 all."""
    order = {prompt: [turn for turn in turns if turn["prompt"] == prompt] for prompt in QUESTIONS}
    each = min(len(found) for found in order.values())
    if fastest:
        order = {prompt: sorted(found, key=_first_audio) for prompt, found in order.items()}
        each = min(each, fastest)
    return [turn for found in order.values() for turn in found[:each]]


def _first_audio(turn: Mapping[str, Any]) -> float:
    return float(turn["ttfa_ms"])


def record(
    measuring: Measuring, of: Scenario, *, rounds: int, fastest: int, command: str
) -> profiles.Profile:
    """Measure a mesh; return its profile."""
    before = machine.machine()  # behind the loads it would be of those
    measuring.settle(2 * len(QUESTIONS))
    alone = measuring.load("--turns", str(rounds * len(QUESTIONS)), "--concurrency", "1")
    others = [alone.others]
    turns = by_prompt(alone.turns, fastest)
    curve, loaded = [], alone
    waves = max(4 if of.kind == CPU else 2, rounds // 2)
    for count in (2, 6, of.full):
        loaded = measuring.load(
            "--turns", str(waves * max(len(QUESTIONS), count)), "--concurrency", str(count)
        )
        others.append(loaded.others)
        curve.append(_point(count, loaded))
        print(f"  {curve[-1]}", flush=True)
    made = profiles.Kind(loaded.cpu_ms, [sample(turn) for turn in turns])
    measured = {
        "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "machine": before,
        "versions": machine.versions(),
        "command": command,
        "others": round(max(others), 4),
        "busy": max(others) > _OTHERS,
        "turns": len(alone.turns),
        "kept": len(turns),
        "alone": _point(1, alone),
        "curve": curve,
    }
    engine = profiles.Engine(
        voice=f"{of.voice['engine']}:{of.voice['name']}",
        kind=of.kind,
        device=of.device,
        workers=of.voice.get("replicas", 1),
        slots=of.slots,
        # A CPU's is in the simulation of its cores; a device has one, and timers are late among others.
        slowdown=slowdowns(curve, alone, of) if of.kind != CPU else (),
    )
    return profiles.Profile(
        of.name, measured, engine, made, model=str(alone.turns[0]["model"]), tokens_per_s=pace_of(alone.turns)
    )


def best_of(found: profiles.Profile) -> float:
    """Return the turns a second that a mesh of one of each does at most, as was measured."""
    if found.engine.kind == CPU:
        return max(float(point["turns_per_s"]) for point in found.measured["curve"])
    # What engines that wait can do is known better than a loop of callers shows, who ask again a moment late.
    return per_engine(found)


def with_given(found: profiles.Profile, of: Scenario, rounds: int, fastest: int) -> profiles.Profile:
    """Measure turns that the cache gives; return the profile with them, or without where it gave too few.

    In a mesh of its own: replies that are cut at a number of tokens are not kept. So these are longer, and
    what comes behind the first frame counts as far as a turn that is made has it. And one that waits
    for its cache: a gateway gives a lookup 20 ms, and behind one that took longer asks for none for a second.
    A mesh whose two cores are full is that late now and then, and turns of that second are made.
    """
    environment = {
        name: value for name, value in of.environment.items() if name != "VOICEMESH_LLM_MAX_TOKENS"
    }
    environment |= {
        name: str(_PATIENT_MS)
        for name in ("VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS", "VOICEMESH_GATEWAY_HISTORY_TIMEOUT_MS")
    }
    with (
        prompts(QUESTIONS) as path,
        running_mesh(VOICEMESH_TTS_VOICES=json.dumps(of.voices), **environment) as mesh,
    ):
        measuring = Measuring(mesh, path)
        measuring.settle(2 * len(QUESTIONS), cached=True)  # what is asked for below is in the cache then
        alone = measuring.load("--turns", str(rounds * len(QUESTIONS)), "--concurrency", "1", cached=True)
        many = measuring.load("--turns", str(3 * rounds * len(QUESTIONS)), "--concurrency", "4", cached=True)
    hits = [turn for turn in alone.turns if turn["reply_cache"] == "hit" and not turn["engine_ms"]]
    given_of_many = sum(turn["reply_cache"] == "hit" and not turn["engine_ms"] for turn in many.turns)
    if len(hits) < len(alone.turns) / 2 or given_of_many < _MOST_HITS * len(many.turns):
        # CPU is counted by process, and what is made would be in that of what is given.
        print(f"the cache gave {len(hits)} of {len(alone.turns)}, then {given_of_many} of {len(many.turns)}")
        print(f"given up meanwhile: {alone.degraded or 'nothing'}, then {many.degraded or 'nothing'}")
        return replace(found, cached=None)
    count = len(hits)
    if fastest:
        hits = sorted(hits, key=_first_audio)[: fastest * PRIMED]
    kind = profiles.Kind(many.cpu_ms, [replace(sample(turn), chunks=()) for turn in hits])
    longer = statistics.fmean(turn["audio_ms"] for turn in many.turns) / 1000 / found.made.audio_s
    path_ms = kind.path_ms
    cpu_ms = {
        name: min(path_ms[name], ms) + max(0.0, ms - path_ms[name]) / longer
        for name, ms in many.cpu_ms.items()
    }
    others = round(max(alone.others, many.others), 4)
    measured = {"others": others, "busy": others > _OTHERS, "turns": count, "kept": len(hits)}
    return replace(
        found, measured={**found.measured, "cached": measured}, cached=replace(kind, cpu_ms=cpu_ms)
    )


def slowdowns(curve: Sequence[Mapping[str, Any]], alone: Loaded, of: Scenario) -> list[float]:
    """Return how many times longer a lease takes with 1, 2, … at once, by the points that were measured."""
    usual_s = alone.engine_s
    points = [(1.0, 1.0)]
    for point in curve:
        # Little's law: leases at once are engine seconds in a second.
        at_once = point["engine_s_per_s"] / of.voice.get("replicas", 1)
        if at_once > points[-1][0]:
            points.append((at_once, max(1.0, point["engine_s"] / usual_s)))
    most = min(of.slots, max(1, round(points[-1][0])))
    return [_between(points, count) for count in range(1, most + 1)]


def _between(points: Sequence[tuple[float, float]], at: float) -> float:
    for (low, low_factor), (high, factor) in itertools.pairwise(points):
        if low <= at <= high:
            return low_factor + (factor - low_factor) * (at - low) / (high - low)
    return points[-1][1]


def _point(callers: int, loaded: Loaded) -> dict[str, Any]:
    return {
        "callers": callers,
        "turns_per_s": round(loaded.per_s, 3),
        "ttfa_p50_ms": round(loaded.ttfa(50), 1),
        "ttfa_p95_ms": round(loaded.ttfa(95), 1),
        "engine_s_per_s": round(loaded.slots, 3),
        "engine_s": round(loaded.engine_s, 4),
        "cpu_ms": {name: round(ms, 2) for name, ms in loaded.cpu_ms.items()},
    }
