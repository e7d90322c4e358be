"""What the manifests of k8s/ say: what pods ask for, by what KEDA scales them, and how many nodes have room.

The figures are the manifests' own: `tools/gen_capacity_pods.py` copies them, since a wheel has no manifests,
and `make check` compares the copy.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

from voicemesh.capacity.profile import GPU, SERVICES, Profile

_COQUI: Final = "coqui:"


@dataclass(frozen=True)
class Pod:
    """What a pod asks for."""

    cpu: float
    """Cores that its node keeps for it."""
    cpu_limit: float
    """The most that it gets."""
    memory_mib: float
    memory_limit_mib: float


@dataclass(frozen=True)
class Trigger:
    """By what KEDA scales a service."""

    threshold: float
    """One pod for so much of what is counted."""
    spare: float
    """Added to what is counted."""
    least: int
    most: int
    """Pods."""


@dataclass(frozen=True)
class Manifests:
    """Those of k8s/base and its components."""

    pods: Mapping[str, Pod]
    """By service; and by service and component, where one changes it."""
    keda: Mapping[str, Trigger]

    def of(self, profile: Profile) -> dict[str, Pod]:
        """Return the pods of each service with the engine of a profile."""
        found = {name: self.pods[name] for name in SERVICES}
        if profile.engine.kind == GPU:
            found["tts"] = self.pods["tts, GPU"]
        elif profile.engine.voice.startswith(_COQUI):
            found["tts"] = self.pods["tts, Coqui"]
        return found


@cache
def manifests() -> Manifests:
    """Return them."""
    file = resources.files("voicemesh.capacity") / "manifests.json"
    found = json.loads(file.read_text(encoding="utf-8"))
    return Manifests(
        {name: Pod(**asked) for name, asked in found["pods"].items()},
        {name: Trigger(**trigger) for name, trigger in found["keda"].items()},
    )


def nodes_for(
    pods: Mapping[str, Pod], replicas: Mapping[str, int], cores: float, memory_mib: float | None
) -> int:
    """Return how many nodes have room for what pods ask for: first fit, the largest pods first.

    A scheduler that spreads pods leaves gaps, too, and may need one more.

    Args:
        pods: What one of each service asks for.
        replicas: How many there are of each.
        cores: Of a node, for pods.
        memory_mib: Of a node, for pods; None: enough.

    Raises:
        ValueError: A pod fits on no node.

    """
    free: list[tuple[float, float]] = []
    left_mib = math.inf if memory_mib is None else memory_mib
    by_size = sorted(replicas, key=lambda name: (-pods[name].cpu / cores, -pods[name].memory_mib, name))
    for name in by_size:
        pod, waiting = pods[name], replicas[name]
        each = _room(pod, cores, left_mib)
        if not each:
            raise ValueError(
                f"a pod of {name} asks for {pod.cpu:g} CPU and {pod.memory_mib:g} MiB, and fits on no node "
                f"of {cores:g} cores" + (f" and {memory_mib:g} MiB" if memory_mib is not None else "")
            )
        for place, (cpu, mib) in enumerate(free):
            taken = min(waiting, _room(pod, cpu, mib))
            free[place] = (cpu - taken * pod.cpu, mib - taken * pod.memory_mib)
            waiting -= taken
        while waiting:
            taken = min(waiting, each)
            free.append((cores - taken * pod.cpu, left_mib - taken * pod.memory_mib))
            waiting -= taken
    return len(free)


def _room(pod: Pod, cpu: float, mib: float) -> int:
    by_cpu = math.floor(cpu / pod.cpu + 1e-9)
    return by_cpu if math.isinf(mib) else min(by_cpu, math.floor(mib / pod.memory_mib + 1e-9))
