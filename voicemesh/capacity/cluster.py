"""A plan on a cluster with the manifests of k8s/: what pods use of what they ask for, and what KEDA keeps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from voicemesh.capacity.demand import Load, cores_of, counted
from voicemesh.capacity.manifests import Pod, Trigger, manifests
from voicemesh.capacity.plan import Plan

_TO_CORES: Final = 0.05
"""What is said of CPU is rounded up to so many cores: 50m."""


@dataclass(frozen=True)
class Scaled:
    """What KEDA does with the load of a plan."""

    counted: float
    """What it counts in all: turns, streams, or pods that are taken."""
    trigger: Trigger
    fits: float
    """The threshold that would keep those of the plan."""

    @property
    def wanted(self) -> int:
        """Pods that it would keep without a most."""
        return max(self.trigger.least, math.ceil(self.counted / self.trigger.threshold - 1e-9))

    @property
    def pods(self) -> int:
        """Pods that it keeps."""
        return min(self.wanted, self.trigger.most)


def scaled(trigger: Trigger, counted: float, replicas: int) -> Scaled:
    """Return what KEDA makes of a load.

    Args:
        trigger: That of the service.
        counted: What its query gives under the load of the plan, in sum, in the mean.
        replicas: Of the plan.

    """
    counted += trigger.spare
    # Rounded down to two digits, so that no fewer pods come of it than were planned.
    each = counted / replicas
    step = 10.0 ** (math.floor(math.log10(each)) - 1) if each > 0 else 1.0
    return Scaled(counted, trigger, round(math.floor(each / step + 1e-9) * step, 9))


@dataclass(frozen=True)
class Pods:
    """The pods of one service in a plan."""

    pod: Pod
    replicas: int
    """Spare ones included."""
    used: float
    """Cores that one of them uses in the mean, without the spare ones."""
    scaled: Scaled

    @property
    def cpu(self) -> float:
        """Cores that they ask for in sum."""
        return self.replicas * self.pod.cpu

    @property
    def memory_mib(self) -> float:
        """Memory that they ask for in sum."""
        return self.replicas * self.pod.memory_mib


def on_cluster(found: Plan) -> dict[str, Pods]:
    """Return the pods of a plan by service."""
    wanted, profile = found.wanted, found.profile
    load, known = Load(wanted.rate_per_s, wanted.cached), manifests()
    counts, pods = counted(profile, load), wanted.pods or known.of(profile)
    rows = {}
    for service in found.services:
        name, working = service.name, service.replicas - wanted.spare
        used = cores_of(profile, load, name) / working
        rows[name] = Pods(pods[name], service.replicas, used, scaled(known.keda[name], counts[name], working))
    return rows


def request_for(cores: float) -> float:
    """Return what a pod should ask for that uses so many cores: rounded up to 50m."""
    return round(math.ceil(cores / _TO_CORES - 1e-9) * _TO_CORES, 3)


def advice(pods: Mapping[str, Pods], spare: int) -> list[str]:
    """Return where the manifests are not what the plan is, in words."""
    lines = []
    less = {name: of for name, of in pods.items() if of.used > of.pod.cpu * 1.01}
    if less:
        told = ", ".join(f"{name} {of.used:.2f} of {of.pod.cpu:g}" for name, of in less.items())
        better = ", ".join(f"{name} {request_for(of.used) * 1000:.0f}m" for name, of in less.items())
        lines.append(
            f"pods use more CPU than they ask for ({told}), so that a node gets more of them than it can "
            f"serve. Let them ask for as much (requests.cpu in k8s/base): {better}"
        )
    held = {name: of for name, of in pods.items() if of.used > of.pod.cpu_limit}
    if held:
        told = ", ".join(f"{name} {of.used:.2f} of {of.pod.cpu_limit:g}" for name, of in held.items())
        lines.append(f"pods use more CPU than they are let ({told}): raise limits.cpu in k8s/base")
    few = {name: of for name, of in pods.items() if of.scaled.wanted < of.replicas - spare}
    if few:
        told = ", ".join(
            f"{name} {of.scaled.fits:g} and not {of.scaled.trigger.threshold:g}" for name, of in few.items()
        )
        lines.append(f"KEDA would keep fewer pods than these; a threshold that keeps them: {told}")
    most = {name: of for name, of in pods.items() if of.replicas > of.scaled.trigger.most}
    if most:
        told = ", ".join(
            f"{name} {of.replicas:,} and not {of.scaled.trigger.most}" for name, of in most.items()
        )
        lines.append(f"KEDA may not keep so many; maxReplicaCount must be at least: {told}")
    return lines
