"""What turns take, as a profile for `voicemesh capacity`; and whether its simulation hears what a mesh gives.

    .venv/bin/python -m benchmarks.capacity record espeak --out voicemesh/capacity/profiles/espeak.json
    .venv/bin/python -m benchmarks.capacity check waits
    .venv/bin/python -m benchmarks.capacity check espeak

`record` starts a mesh, asks it without load, then with as many callers as it takes to fill it, and writes a
profile: stages and chunks of the turns that waited for nobody, and CPU time of each process a turn.

`check` does the same, then puts 50, 80 and 95% of the capacity on the mesh, open-loop with random arrivals,
and simulates the same arrivals of the same prompts. Both are shown side by side.

    waits    the simulated engine: 3 slots, each held for as long as its text asks. Time is the limit and CPU
             is not, so that other work on the machine changes little
    espeak   espeak-ng: CPU is the limit, shared by the mesh and the load tool. To be run on a quiet machine
    voices   your own: `--voices FILE` (what `VOICEMESH_TTS_VOICES` takes; the first one speaks), with the
             settings of the environment; `--kind gpu --device "1 x L4"` where they run on one, `--slots` as
             the engine has them, and `--full` callers, which must be enough to fill it

On a quiet machine of two cores `record espeak --rounds 20` takes about four minutes. Three minutes each are
enough for a check with `--rounds 3 --seconds 25`; a p95 of so few turns is good to 10% or so, the default of
180 s for each load to 5%. `--profile FILE` leaves out the measuring.

The load tool is `voicemesh bench` on the same machine: its CPU time is a process of the simulation.
"""

import argparse
import datetime as dt
import itertools
import json
import os
import random
import resource
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.meshes import RunningMesh, percentile, prompts, running_mesh
from voicemesh.capacity import profile as profiles
from voicemesh.capacity.demand import Load, cpu_s, per_engine
from voicemesh.capacity.mesh import Layout
from voicemesh.capacity.profile import CALLER, CPU, SERVICES, TIMERS, WORKER
from voicemesh.capacity.simulation import Result, simulate
from voicemesh.cli import machine

SHARES: Final = (0.5, 0.8, 0.95)
TOKENS: Final = 28
"""Of a reply: one or two sentences, as a voice assistant says them."""
TTFT_MS: Final = 80
TOKENS_PER_S: Final = 100
"""Of the model: a small one nearby."""
QUESTIONS: Final = (
    "What is a lighthouse for?",
    "Why is the sky blue at noon and red in the evening?",
    "How do bees find their way home?",
    "Tell me about the tides.",
    "Who was first at the South Pole, and how did he get there?",
    "What does a compiler do?",
    "Why do harbours silt up?",
    "How is paper made?",
    "What makes bread rise?",
    "Can you explain recursion to a child?",
    "When do swallows leave for the south?",
    "What is the difference between weather and climate?",
)
_SETTLE_S: Final = 2.0
_IDLE_S: Final = 8.0
_MOST_HITS: Final = 0.97
"""Of turns whose CPU is that of turns from the cache."""


@dataclass(frozen=True)
class Scenario:
    """A mesh to measure."""

    name: str
    voices: list[dict[str, Any]]
    kind: str
    """Of `voicemesh.capacity.profile.KINDS`."""
    device: str
    full: int
    """Callers that fill it."""
    environment: Mapping[str, str]
    slots: int
    """Chunks that one replica speaks at once."""

    @property
    def voice(self) -> dict[str, Any]:
        """The only voice."""
        return self.voices[0]


def scenario(name: str) -> Scenario:
    """Return one by its name."""
    environment = {
        **_QUIET,
        "VOICEMESH_LLM_MAX_TOKENS": str(TOKENS),
        "VOICEMESH_REHEARSAL_TTFT_MS": str(TTFT_MS),
        "VOICEMESH_REHEARSAL_TOKENS_PER_S": str(TOKENS_PER_S),
    }
    if name == "waits":
        options = {"first_frame_ms": 150, "rtf": 0.15, "slots": 3, "char_ms": 55}
        voice: dict[str, Any] = {"name": "simulated", "engine": "simulated", "options": options}
        return Scenario(name, [voice], TIMERS, "timers that stand for a device", 16, environment, 3)
    voice = {"name": "espeak", "engine": "espeak", "replicas": 2}
    return Scenario(name, [voice], CPU, "the CPU", 24, environment, 1)


def declared(path: Path, kind: str, device: str, full: int, slots: int) -> Scenario:
    """Return that of voices of one's own, with the settings of the environment."""
    voices = json.loads(path.read_text(encoding="utf-8"))
    return Scenario(voices[0]["name"], voices, kind, device, full, _QUIET, slots)


_QUIET: Final = {"VOICEMESH_LOG_LEVEL": "error", "VOICEMESH_GATEWAY_MIN_TURNS": "256"}


# ---- measuring --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loaded:
    """What one load gave."""

    result: dict[str, Any]
    """As `voicemesh bench --json` told it."""
    cpu_ms: dict[str, float]
    """CPU time of a turn by process, without what the mesh takes idle."""
    slots: float
    """Engine seconds in a second."""

    @property
    def turns(self) -> list[dict[str, Any]]:
        """Every turn."""
        return [turn for turn in self.result["turns"] if turn["outcome"] == "completed"]

    @property
    def per_s(self) -> float:
        """Turns that ended in a second, in the middle of the run: it has to fill, and to empty."""
        ended_s = sorted(turn["run"]["ended_s"] for turn in self.turns)
        low, high = len(ended_s) // 5, len(ended_s) - 1 - len(ended_s) // 5
        return (high - low) / float(ended_s[high] - ended_s[low])

    def ttfa(self, percent: float) -> float:
        """Return a percentile of the time to first audio in ms."""
        return percentile([float(turn["ttfa_ms"]) for turn in self.turns], percent)


class Measuring:
    """A mesh under measurement.

    Args:
        mesh: It.
        path: File with the prompts.

    """

    def __init__(self, mesh: RunningMesh, path: str) -> None:
        self._mesh = mesh
        self._path = path
        self._idle = dict.fromkeys((*SERVICES, WORKER), 0.0)
        self._start_s = 0.0

    def settle(self, turns: int, *, cached: bool = False) -> None:
        """Warm everything, and learn what the mesh and a start of the load tool take without turns."""
        self.load("--turns", str(turns), "--concurrency", "4", cached=cached)
        before, began_s = self._cpu_s(), time.perf_counter()
        time.sleep(_IDLE_S)
        idle_s = time.perf_counter() - began_s
        self._idle = {name: (s - before[name]) / idle_s for name, s in self._cpu_s().items()}
        # A run of one turn, twice: what a start costs is what does not grow with turns.
        self._start_s = min(self._tool_s(1) for _ in range(2))

    def _tool_s(self, turns: int) -> float:
        before_s = _children_s()
        self._mesh.bench("--turns", str(turns), "--prompts", self._path, "--no-cache")
        return _children_s() - before_s

    def load(self, *arguments: str, cached: bool = False) -> Loaded:
        """Put a load on it."""
        before, tool_s, began_s = self._cpu_s(), _children_s(), time.perf_counter()
        cache = ("--mix", "cached=1") if cached else ("--no-cache",)
        result = self._mesh.bench("--prompts", self._path, *cache, *arguments)
        time.sleep(_SETTLE_S)
        took_s = time.perf_counter() - began_s
        turns = max(1, len(result["turns"]))
        used = {
            name: max(0.0, s - before[name] - self._idle[name] * took_s) * 1000 / turns
            for name, s in self._cpu_s().items()
        }
        used[CALLER] = max(0.0, _children_s() - tool_s - self._start_s) * 1000 / turns
        wall_s = result["summary"]["wall_s"]
        engine_s = sum(turn["engine_ms"] for turn in result["turns"]) / 1000
        return Loaded(result, used, engine_s / wall_s if wall_s else 0.0)

    def _cpu_s(self) -> dict[str, float]:
        """Return CPU seconds of every process of the mesh until now."""
        found = {}
        for name, (own, *workers) in self._mesh.processes().items():
            times = own.cpu_times()
            found[name] = times.user + times.system
            if name == "tts":
                of = [worker.cpu_times() for worker in workers]
                found[WORKER] = sum(each.user + each.system for each in of)
        return found


def _children_s() -> float:
    """Return CPU seconds of processes that this one started and that have ended: load tools."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ---- from turns to a profile ------------------------------------------------------------------


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
    return profiles.TurnSample(
        llm_ms=stages["llm_connect"] + stages["llm_ttft"] + stages["llm_text"],
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
    measuring.settle(2 * len(QUESTIONS))
    alone = measuring.load("--turns", str(rounds * len(QUESTIONS)), "--concurrency", "1")
    turns = by_prompt(alone.turns, fastest)
    curve, loaded = [], alone
    waves = max(4 if of.kind == CPU else 2, rounds // 2)
    for count in (2, 6, of.full):
        loaded = measuring.load(
            "--turns", str(waves * max(len(QUESTIONS), count)), "--concurrency", str(count)
        )
        curve.append(_point(count, loaded))
        print(f"  {curve[-1]}", flush=True)
    made = profiles.Kind(loaded.cpu_ms, [sample(turn) for turn in turns])
    measured = {
        "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d"),
        "machine": machine.machine(),
        "versions": machine.versions(),
        "command": command,
        "busy": bool(machine.busy(machine.machine())),
        "model": f"rehearsal, {TTFT_MS} ms to its first token, {TOKENS_PER_S} tokens a second",
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
        slowdown=slowdowns(curve, alone, of) if of.kind == profiles.GPU else (),
    )
    return profiles.Profile(of.name, measured, engine, made)


def best_of(found: profiles.Profile) -> float:
    """Return the turns a second that a mesh of one of each does at most, as was measured."""
    if found.engine.kind == CPU:
        return max(float(point["turns_per_s"]) for point in found.measured["curve"])
    # What engines that wait can do is known better than a loop of callers shows, who ask again a moment late.
    return per_engine(found)


def given(of: Scenario, audio_s: float, rounds: int) -> profiles.Kind | None:
    """Measure turns that the cache gives; None where it gave too few.

    In a mesh of its own: replies that are cut at a number of tokens are not kept. So these are longer, and
    what comes behind the first frame counts as far as a turn of `audio_s` seconds has it.
    """
    environment = {
        name: value for name, value in of.environment.items() if name != "VOICEMESH_LLM_MAX_TOKENS"
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
        return None
    kind = profiles.Kind(many.cpu_ms, [replace(sample(turn), chunks=()) for turn in hits])
    longer = statistics.fmean(turn["audio_ms"] for turn in many.turns) / 1000 / audio_s
    path_ms = kind.path_ms
    cpu_ms = {
        name: min(path_ms[name], ms) + max(0.0, ms - path_ms[name]) / longer
        for name, ms in many.cpu_ms.items()
    }
    return replace(kind, cpu_ms=cpu_ms)


def slowdowns(curve: Sequence[Mapping[str, Any]], alone: Loaded, of: Scenario) -> list[float]:
    """Return how many times longer a lease takes with 1, 2, … at once, by the points that were measured."""
    usual_s = statistics.fmean(turn["engine_ms"] for turn in alone.turns) / 1000
    points = [(1.0, 1.0)]
    for point in curve:
        # Little's law: leases at once are engine seconds in a second.
        at_once = point["engine_s_per_s"] / of.voice.get("replicas", 1)
        if at_once > points[-1][0]:
            points.append((at_once, max(1.0, point["engine_s_per_s"] / point["turns_per_s"] / usual_s)))
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
        "cpu_ms": {name: round(ms, 2) for name, ms in loaded.cpu_ms.items()},
    }


# ---- the simulation beside it -----------------------------------------------------------------


def like(found: profiles.Profile, loaded: Loaded, *, cores: int, seed: int) -> Result:
    """Simulate what was asked of a mesh: the same prompts at the same moments, on one node."""
    turns = [turn for turn in loaded.result["turns"] if turn["run"]["due_s"] is not None]
    turns.sort(key=lambda turn: turn["run"]["due_s"])
    each = len(found.made.turns) // len(QUESTIONS)
    draw = random.Random(f"{seed} picks")
    place = {prompt: number for number, prompt in enumerate(QUESTIONS)}
    picks = [place[turn["prompt"]] * each + draw.randrange(each) for turn in turns]
    layout = Layout(replicas=dict.fromkeys(SERVICES, 1), nodes=1, cores=cores, callers_too=True)
    arrivals = [turn["run"]["due_s"] for turn in turns]
    return simulate(found, layout, arrivals, seed=seed, end_s=arrivals[-1] + 1e-6, picks=picks)


def check(
    measuring: Measuring, found: profiles.Profile, best: float, seconds: float, seed: int
) -> list[dict[str, Any]]:
    """Put load on a mesh and on its simulation; return both."""
    rows = []
    cores = os.cpu_count() or 1
    for share in SHARES:
        rate = share * best
        turns = max(60, round(rate * seconds))
        loaded = measuring.load(
            "--turns",
            str(turns),
            "--rate",
            f"{rate:.4f}",
            "--arrivals",
            "poisson",
            "--seed",
            str(seed),
            "--warmup",
            "4",
        )
        result = like(found, loaded, cores=cores, seed=seed)
        row = {
            "load": share,
            "rate_per_s": round(rate, 3),
            "turns": len(loaded.turns),
            "failed": len(loaded.result["turns"]) - len(loaded.turns),
            "measured_ms": {f"p{percent}": round(loaded.ttfa(percent), 1) for percent in (50, 95, 99)},
            "simulated_ms": {f"p{percent}": round(result.percentile(percent), 1) for percent in (50, 95, 99)},
            "error": round(result.percentile(95) / loaded.ttfa(95) - 1, 4),
            "cpu_ms": {name: round(ms, 1) for name, ms in loaded.cpu_ms.items()},
            "tool_late_p95_ms": round(percentile([turn["run"]["late_ms"] for turn in loaded.turns], 95), 1),
            "simulated_busy": {name: round(busy, 3) for name, busy in result.busy.items()},
            "nodes_busy": round(result.nodes_busy, 3),
            "waits_p95_ms": {name: round(ms, 1) for name, ms in result.slow_waits().items()},
            "queue_p95_ms": {
                "measured": round(percentile([turn["stages"]["tts_queue"] for turn in loaded.turns], 95), 1)
            },
        }
        rows.append(row)
        print(
            f"{share:4.0%} {rate:6.2f}/s {len(loaded.turns):5} turns   measured p50 {loaded.ttfa(50):7.1f}  "
            f"p95 {loaded.ttfa(95):7.1f}   simulated p50 {result.percentile(50):7.1f}  "
            f"p95 {result.percentile(95):7.1f}   p95 off by {row['error']:+.1%}",
            flush=True,
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=("record", "check"))
    parser.add_argument("scenario", choices=("waits", "espeak", "voices"))
    parser.add_argument("--voices", type=Path, help="of voices: a file with their declarations")
    parser.add_argument(
        "--kind", choices=profiles.KINDS, default=CPU, help="of voices: what its engine needs"
    )
    parser.add_argument("--device", default="the CPU", help="of voices: what it runs on, in words")
    parser.add_argument(
        "--slots", type=int, default=1, help="of voices: chunks that a replica speaks at once"
    )
    parser.add_argument("--full", type=int, default=24, help="of voices: callers that fill it")
    parser.add_argument("--rounds", type=int, default=8, help="of all prompts, without load")
    parser.add_argument(
        "--fastest",
        type=int,
        default=0,
        help="of each prompt: keep these alone, where other work disturbs; 0: all",
    )
    parser.add_argument("--seconds", type=float, default=180, help="of each load that is checked")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, help="where the profile goes; of check, what was found as JSON")
    parser.add_argument("--profile", help="of check: the profile to simulate with, instead of a new one")
    chosen = parser.parse_args()
    if chosen.scenario != "voices":
        of = scenario(chosen.scenario)
    elif chosen.voices is None:
        parser.error("voices: name them with --voices FILE")
    else:
        of = declared(chosen.voices, chosen.kind, chosen.device, chosen.full, chosen.slots)
    command = f"python -m benchmarks.capacity record {chosen.scenario} --rounds {chosen.rounds}"
    command += f" --fastest {chosen.fastest}" if chosen.fastest else ""
    with (
        prompts(QUESTIONS) as path,
        running_mesh(VOICEMESH_TTS_VOICES=json.dumps(of.voices), **of.environment) as mesh,
    ):
        measuring = Measuring(mesh, path)
        print(machine.busy(machine.machine()) or "the machine had nothing else to do", flush=True)
        if chosen.what == "check" and chosen.profile is not None:
            found = profiles.load(chosen.profile)
            measuring.settle(2 * len(QUESTIONS))
            best = best_of(found)
        else:
            found = record(measuring, of, rounds=chosen.rounds, fastest=chosen.fastest, command=command)
            best = best_of(found)
        load = Load(1.0, 0.0)
        cpu_ms = {name: round(1000 * cpu_s(found, load, name), 1) for name in (*SERVICES, WORKER, CALLER)}
        print(f"CPU of a turn: {cpu_ms}; audio {found.made.audio_s:.1f} s, leases {found.made.lease_s:.2f} s")
        print(f"at most {best:.2f} turns/s; engines alone {per_engine(found):.2f}")
        told: dict[str, Any] = {"profile": found.name, "best_per_s": best, "measured": found.measured}
        if chosen.what == "check":
            told["rows"] = check(measuring, found, best, chosen.seconds, chosen.seed)
            told["profile_json"] = profiles.to_json(found)
    if chosen.what == "record":
        found = replace(found, cached=given(of, found.made.audio_s, chosen.rounds))
        told = profiles.to_json(found)
    if chosen.out is not None:
        chosen.out.write_text(json.dumps(told) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
