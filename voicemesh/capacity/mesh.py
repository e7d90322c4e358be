"""What a simulated mesh is made of: nodes, processes, TTS pods, and gateways that pick replicas in turn."""

import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from voicemesh.capacity.events import Events, Integral
from voicemesh.capacity.pods import TtsLimits, TtsPod
from voicemesh.capacity.profile import CALLER, SERVICES, WORKER, Kind, Profile
from voicemesh.capacity.sharing import Device, Node, Process, Server

PICKED: Final = ("llm", "chunker", "cache", "tts")
"""What a gateway picks a replica of for each turn."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What there is."""

    replicas: Mapping[str, int]
    """Of each of `SERVICES`."""
    nodes: int = 1
    cores: float = 2.0
    """Of a node."""
    callers_too: bool = False
    """True where callers run on the first node, as a load tool does; else elsewhere, with time to spare."""
    max_turns: int = 256
    """Turns that a gateway runs at once; `VOICEMESH_GATEWAY_MAX_TURNS`."""
    tts: TtsLimits = field(default_factory=TtsLimits)


@dataclass
class Gateway:
    """A gateway: it asks its replicas in turn, and knows nothing of what others ask them."""

    process: Process
    following: Mapping[str, "itertools.count[int]"]
    turns: int = 0
    """Those that run."""

    def pick(self, name: str, replicas: int) -> int:
        """Return which replica of a service is next."""
        return next(self.following[name]) % replicas


@dataclass(frozen=True)
class Behind:
    """CPU time of a turn that is not on the way to its first frame: by process, in ms of a usual turn."""

    ms: Mapping[str, float]
    usual_audio_ms: float

    @classmethod
    def of(cls, kind: Kind) -> "Behind":
        """Return that of turns of a kind."""
        path = kind.path_ms
        ms = {name: max(0.0, ms - path[name]) for name, ms in kind.cpu_ms.items()}
        return cls(ms, kind.audio_s * 1000)

    def share_ms(self, name: str, audio_ms: float) -> float:
        """Return what a process does for so much audio; a turn without any is a usual one."""
        ms = self.ms.get(name, 0.0)
        return ms * audio_ms / self.usual_audio_ms if self.usual_audio_ms else ms


@dataclass
class Mesh:
    """The whole of it, and what it counts.

    Args:
        profile: What turns take.
        layout: What there is.
        chance: With which replica each gateway begins.
        events: Virtual time.

    """

    profile: Profile
    layout: Layout
    chance: random.Random
    events: Events
    nodes: list[Node] = field(init=False)
    processes: dict[str, list[Process]] = field(init=False)
    pods: list[TtsPod] = field(init=False)
    gateways: list[Gateway] = field(init=False)
    caller: Server = field(init=False)
    within: Integral = field(init=False)
    """Turns that run."""
    sojourn_ns: int = 0
    """Of all that ended, prompt to the end of synthesis."""
    ended: int = 0
    jobs: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        """Put replicas on nodes, one after the other."""
        layout, made = self.layout, self.profile.made
        self.nodes = [Node(self.events, layout.cores) for _ in range(layout.nodes)]
        nodes = itertools.cycle(self.nodes)
        self.processes = {
            name: [Process(name, next(nodes)) for _ in range(layout.replicas[name])] for name in SERVICES
        }
        leased_ms = made.lease_s * 1000
        cpu_share = min(1.0, made.cpu_ms.get(WORKER, leased_ms) / leased_ms) if leased_ms else 1.0
        self.pods = [
            TtsPod(process, self.profile.engine, self.events, layout.tts, cpu_share)
            for process in self.processes["tts"]
        ]
        self.gateways = [
            Gateway(
                process,
                {name: itertools.count(self.chance.randrange(layout.replicas[name])) for name in PICKED},
            )
            for process in self.processes["gateway"]
        ]
        self.caller = Process(CALLER, self.nodes[0]) if layout.callers_too else Device(self.events)
        self.within = Integral(self.events)

    def busy(self, span_ns: float) -> dict[str, float]:
        """Return the share of `span_ns` that replicas worked, by service; `worker`: slots were leased."""
        busy = {
            name: sum(process.worked_ns for process in processes) / len(processes) / span_ns
            for name, processes in self.processes.items()
        }
        slots = len(self.pods) * self.profile.engine.workers * self.profile.engine.slots
        busy[WORKER] = sum(pod.leases.total_ns() for pod in self.pods) / slots / span_ns
        return busy

    def nodes_busy(self, span_ns: float) -> float:
        """Return the share of `span_ns` that cores worked."""
        return sum(node.worked_ns / node.cores for node in self.nodes) / len(self.nodes) / span_ns
