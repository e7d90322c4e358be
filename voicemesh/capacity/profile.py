"""What a turn takes, as measured: the profile that a plan and a simulation stand on.

A profile is a JSON file that `benchmarks/capacity.py` writes and this module reads. It holds samples and
no model of them: whole turns are drawn from it, so that what belongs together (a long first chunk and its
long synthesis) stays together.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Final

FORMAT: Final = 1
SERVICES: Final = ("gateway", "llm", "chunker", "tts", "cache")
"""Processes of the mesh, in the order of tables."""
WORKER: Final = "worker"
"""The processes of the TTS service in which engines run; their CPU is beside the service's own."""
CALLER: Final = "caller"
"""Who asks: on no node of the mesh, but on the machine that was measured."""
PROCESSES: Final = (*SERVICES, WORKER, CALLER)
CPU, GPU, TIMERS = "cpu", "gpu", "timers"
KINDS: Final = (CPU, GPU, TIMERS)
_REHEARSAL: Final = "rehearsal"
_MAX_BYTES: Final = 64 * 1024 * 1024
_MOST_TURNS: Final = 100_000
_MOST_CHUNKS: Final = 1000
_MOST_MS: Final = 3_600_000.0


@dataclass(frozen=True, slots=True)
class ChunkSample:
    """One chunk of a measured turn. Milliseconds."""

    asked_ms: float
    """After the turn's first chunk was asked for."""
    audio_ms: float
    first_ms: float
    """Lease to first frame, with the engine to itself."""
    lease_ms: float
    """How long it held its slot; not below `first_ms`."""


@dataclass(frozen=True, slots=True)
class TurnSample:
    """One measured turn. Milliseconds."""

    llm_ms: float
    """What the model took for the words of the first chunk: nobody's CPU, and not shortened by replicas."""
    hold_ms: float
    """How long the chunker held the first chunk, waiting for more."""
    path_ms: Mapping[str, float]
    """What each process did on the way to the first frame, by its name in `PROCESSES`."""
    chunks: Sequence[ChunkSample]
    ttft_ms: float | None = None
    """Of `llm_ms`, until the model's first token; None where nobody wrote it down."""

    @property
    def alone_ms(self) -> float:
        """Time to first audio where nothing is waited for."""
        first_ms = self.chunks[0].first_ms if self.chunks else 0.0
        return self.llm_ms + self.hold_ms + first_ms + sum(self.path_ms.values())

    @property
    def audio_ms(self) -> float:
        """Its audio."""
        return sum(chunk.audio_ms for chunk in self.chunks)

    @property
    def lease_ms(self) -> float:
        """How long its chunks hold slots, in sum."""
        return sum(chunk.lease_ms for chunk in self.chunks)


@dataclass(frozen=True)
class Kind:
    """Turns of one kind: those that are made, or those that are in the cache."""

    cpu_ms: Mapping[str, float]
    """CPU time of a turn by process, all of it, in milliseconds."""
    turns: Sequence[TurnSample]

    @cached_property
    def audio_s(self) -> float:
        """Mean audio of a turn, in seconds."""
        return sum(turn.audio_ms for turn in self.turns) / len(self.turns) / 1000

    @cached_property
    def lease_s(self) -> float:
        """Mean time that a turn holds slots of engines, in seconds."""
        return sum(turn.lease_ms for turn in self.turns) / len(self.turns) / 1000

    @cached_property
    def path_ms(self) -> dict[str, float]:
        """Mean work on the way to the first frame by process."""
        count = len(self.turns)
        return {name: sum(turn.path_ms.get(name, 0.0) for turn in self.turns) / count for name in PROCESSES}


@dataclass(frozen=True)
class Engine:
    """The engine that was measured."""

    voice: str
    """As it was declared: engine and voice."""
    kind: str
    """`cpu`: its work is CPU time of its worker. `gpu`: a device's. `timers`: it waits, and is a stand-in."""
    device: str
    """What it ran on."""
    workers: int
    """Replicas of the model in one process of the TTS service."""
    slots: int
    """Chunks that one of them speaks at once."""
    slowdown: Sequence[float] = ()
    """How many times longer a lease takes with 1, 2, … at once in one worker; empty: never longer."""

    def units(self) -> float:
        """Return how many seconds of leases, as they are alone, a worker gives in a second at its best."""
        factors = [*self.slowdown[: self.slots]] or [1.0]
        factors += [factors[-1]] * (self.slots - len(factors))
        return max(count / factor for count, factor in enumerate(factors, 1))


@dataclass(frozen=True)
class Profile:
    """See the module."""

    name: str
    measured: Mapping[str, Any]
    """When, where, with which command and versions, whether the machine was busy: told, not computed with."""
    engine: Engine
    made: Kind
    """Turns for which everything was done."""
    cached: Kind | None = None
    """Turns whose reply and audio were in the cache; None where none were measured."""
    model: str = ""
    """Who wrote the words, as the mesh names it; "" where nobody wrote it down."""
    tokens_per_s: float | None = None
    """What it wrote behind its first token; None likewise."""
    text: str = field(default="", compare=False)
    """Where it was read from."""

    @property
    def busy(self) -> bool:
        """Whether other work shared the machine."""
        return bool(self.measured.get("busy"))

    @property
    def caveats(self) -> list[str]:
        """What is to be known of how it was measured, before anybody buys machines by it: in words."""
        told, machine = [], self.measured.get("machine", {})
        if self.busy:
            others = self.measured.get("others")
            load, cpus = machine.get("load_1m"), machine.get("cpus")
            of = f" ({load} processes wanted its {cpus} CPUs)" if load and cpus else ""
            if isinstance(others, (int, float)):
                of = f" ({others:.0%} of its CPUs)"
            told.append(
                f"no quiet measurement: the machine had other work{of}. CPU and engine time of a turn are "
                "too high, by how much is not known"
            )
        turns, kept = self.measured.get("turns"), self.measured.get("kept")
        if isinstance(turns, int) and isinstance(kept, int) and kept < turns:
            alone = self.measured.get("alone", {}).get("ttfa_p95_ms")
            of = f"; p95 of all of them was {alone:.0f} ms" if isinstance(alone, (int, float)) else ""
            told.append(
                f"times on the way to the first audio are those of the fastest {kept} of {turns} turns "
                f"without load{of}. They leave out what is slow at times, on a quiet machine too: too low"
            )
        cached = self.measured.get("cached", {})
        if cached.get("busy"):
            told.append(
                f"turns from the cache are the fastest {cached['kept']} of {cached['turns']}, while other "
                f"work had {cached['others']:.0%} of the CPUs: their times and CPU are rough"
            )
        return told

    @property
    def rehearsed(self) -> bool:
        """Whether the words were the rehearsal model's, whose times are like no provider's."""
        return self.model.startswith(_REHEARSAL)

    @property
    def floor_ms(self) -> list[float]:
        """Times to first audio of turns that wait for nobody, in order."""
        return sorted(turn.alone_ms for turn in self.made.turns)


def shipped() -> list[str]:
    """Return the names of the profiles that come along."""
    folder = resources.files("voicemesh.capacity") / "profiles"
    return sorted(file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json"))


def load(name: str) -> Profile:
    """Read a profile by the name of one that comes along, or by its path.

    Raises:
        ValueError: There is no such profile, or it is wrong; the text says what.

    """
    if name in (known := shipped()):
        file = resources.files("voicemesh.capacity") / "profiles" / f"{name}.json"
        return read(file.read_text(encoding="utf-8"), f"{name}.json")
    path = Path(name)
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"{name}: is larger than {_MAX_BYTES} bytes")
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise ValueError(
            f"{name}: is no file, and no profile that comes along ({', '.join(known) or 'none'})"
        ) from None
    except OSError as error:
        raise ValueError(f"{name}: {error.strerror or error}") from None
    return read(text, name)


def read(text: str, where: str) -> Profile:
    """Read a profile from its JSON.

    Raises:
        ValueError: Something is wrong with it; the text says where and what.

    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{where}: is no JSON: {error}") from None
    reader = _Reader(where)
    top = reader.mapping(found, "")
    if top.get("format") != FORMAT:
        raise ValueError(f"{where}: format: must be {FORMAT}, and is {top.get('format')!r}")
    measured = reader.mapping(top.get("measured"), "measured")
    for key in ("at", "command"):
        reader.string(measured.get(key), f"measured.{key}")
    reader.mapping(measured.get("machine"), "measured.machine")
    model = reader.mapping(top.get("model", {}), "model")
    return Profile(
        name=reader.string(top.get("name"), "name"),
        measured=measured,
        engine=reader.engine(top.get("engine")),
        made=reader.kind(top.get("made"), "made"),
        cached=reader.kind(top["cached"], "cached") if top.get("cached") is not None else None,
        model=reader.string(model["name"], "model.name") if model.get("name") else "",
        tokens_per_s=reader.maybe(model, "tokens_per_s", "model.tokens_per_s", least=0.01),
        text=where,
    )


class _Reader:
    """Checks what a file says, and names the field that is wrong."""

    def __init__(self, where: str) -> None:
        self._where = where

    def _wrong(self, field: str, what: str) -> ValueError:
        return ValueError(f"{self._where}: {field + ': ' if field else ''}{what}")

    def mapping(self, value: Any, field: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(field, "must be an object")
        return value

    def many(self, value: Any, field: str, least: int, most: int) -> list[Any]:
        if not isinstance(value, list) or not least <= len(value) <= most:
            raise self._wrong(field, f"must be a list of {least} to {most}")
        return value

    def string(self, value: Any, field: str) -> str:
        if not isinstance(value, str) or not value:
            raise self._wrong(field, "must be a text, and not empty")
        return value

    def number(self, value: Any, field: str, least: float = 0.0, most: float = _MOST_MS) -> float:
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not numeric or not math.isfinite(value) or not least <= value <= most:
            raise self._wrong(field, f"must be a number from {least:g} to {most:g}")
        return float(value)

    def maybe(self, found: Mapping[str, Any], key: str, field: str, least: float = 0.0) -> float | None:
        """Read a number that may be missing."""
        return None if found.get(key) is None else self.number(found[key], field, least)

    def whole(self, value: Any, field: str, most: int) -> int:
        if not isinstance(value, int):
            raise self._wrong(field, f"must be a whole number from 1 to {most}")
        return int(self.number(value, field, 1, most))

    def engine(self, value: Any) -> Engine:
        found = self.mapping(value, "engine")
        kind = self.string(found.get("kind"), "engine.kind")
        if kind not in KINDS:
            raise self._wrong("engine.kind", f"must be one of {', '.join(KINDS)}")
        slowdown = self.many(found.get("slowdown", []), "engine.slowdown", 0, 4096)
        return Engine(
            voice=self.string(found.get("voice"), "engine.voice"),
            kind=kind,
            device=self.string(found.get("device"), "engine.device"),
            workers=self.whole(found.get("workers"), "engine.workers", 64),
            slots=self.whole(found.get("slots"), "engine.slots", 4096),
            slowdown=[
                self.number(factor, f"engine.slowdown[{place}]", 0.01, 10_000)
                for place, factor in enumerate(slowdown)
            ],
        )

    def kind(self, value: Any, field: str) -> Kind:
        found = self.mapping(value, field)
        return Kind(
            cpu_ms=self.by_process(found.get("cpu_ms"), f"{field}.cpu_ms"),
            turns=[
                self.turn(turn, f"{field}.turns[{place}]")
                for place, turn in enumerate(self.many(found.get("turns"), f"{field}.turns", 1, _MOST_TURNS))
            ],
        )

    def by_process(self, value: Any, field: str) -> dict[str, float]:
        found = self.mapping(value, field)
        if unknown := sorted(found.keys() - set(PROCESSES)):
            raise self._wrong(field, f"{unknown[0]!r} is no process; there are {', '.join(PROCESSES)}")
        return {name: self.number(ms, f"{field}.{name}") for name, ms in found.items()}

    def turn(self, value: Any, field: str) -> TurnSample:
        found = self.mapping(value, field)
        chunks = self.many(found.get("chunks"), f"{field}.chunks", 0, _MOST_CHUNKS)
        return TurnSample(
            llm_ms=self.number(found.get("llm_ms"), f"{field}.llm_ms"),
            hold_ms=self.number(found.get("hold_ms"), f"{field}.hold_ms"),
            path_ms=self.by_process(found.get("path_ms"), f"{field}.path_ms"),
            chunks=tuple(self.chunk(chunk, f"{field}.chunks[{at}]") for at, chunk in enumerate(chunks)),
            ttft_ms=self.maybe(found, "ttft_ms", f"{field}.ttft_ms"),
        )

    def chunk(self, value: Any, field: str) -> ChunkSample:
        # A list, since files have thousands of them: asked, audio, first, lease.
        numbers = [
            self.number(number, f"{field}[{place}]")
            for place, number in enumerate(self.many(value, field, 4, 4))
        ]
        asked_ms, audio_ms, first_ms, lease_ms = numbers
        return ChunkSample(asked_ms, audio_ms, first_ms, max(first_ms, lease_ms))


def to_json(profile: Profile) -> dict[str, Any]:
    """Return what `read` reads."""

    def kind(of: Kind) -> dict[str, Any]:
        return {
            "cpu_ms": {name: round(ms, 3) for name, ms in of.cpu_ms.items()},
            "turns": [
                {
                    **({} if turn.ttft_ms is None else {"ttft_ms": round(turn.ttft_ms, 3)}),
                    "llm_ms": round(turn.llm_ms, 3),
                    "hold_ms": round(turn.hold_ms, 3),
                    "path_ms": {name: round(ms, 3) for name, ms in turn.path_ms.items()},
                    "chunks": [
                        [
                            round(number, 3)
                            for number in (chunk.asked_ms, chunk.audio_ms, chunk.first_ms, chunk.lease_ms)
                        ]
                        for chunk in turn.chunks
                    ],
                }
                for turn in of.turns
            ],
        }

    engine = profile.engine
    return {
        "format": FORMAT,
        "name": profile.name,
        "measured": dict(profile.measured),
        "model": {"name": profile.model, "tokens_per_s": profile.tokens_per_s},
        "engine": {
            "voice": engine.voice,
            "kind": engine.kind,
            "device": engine.device,
            "workers": engine.workers,
            "slots": engine.slots,
            "slowdown": [round(factor, 4) for factor in engine.slowdown],
        },
        "made": kind(profile.made),
        "cached": kind(profile.cached) if profile.cached is not None else None,
    }
