"""How Kubernetes scales on external metrics, as its documentation says, for tests of what it is told.

HorizontalPodAutoscaler (autoscaling/v2), which KEDA makes of a ScaledObject: every 15 s the metric that asks
for most decides; a ratio within a tenth of 1 changes nothing; recommendations are stabilised over windows,
and policies say how fast the number may change.

https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

SYNC_S: Final = 15
"""`--horizontal-pod-autoscaler-sync-period`, as it is by default."""
TOLERANCE: Final = 0.1
"""`--horizontal-pod-autoscaler-tolerance`, as it is by default."""


@dataclass(frozen=True)
class Policy:
    """How much the number of pods may change within a period."""

    kind: str
    """`Pods` or `Percent`."""
    value: int
    period_s: int


@dataclass(frozen=True)
class Rules:
    """One direction of a `behavior`."""

    window_s: int
    policies: tuple[Policy, ...]

    @classmethod
    def of(cls, manifest: dict[str, Any]) -> Self:
        """Read `scaleUp` or `scaleDown`."""
        assert manifest["selectPolicy"] == "Max"
        policies = (
            Policy(each["type"], each["value"], each["periodSeconds"]) for each in manifest["policies"]
        )
        return cls(manifest["stabilizationWindowSeconds"], tuple(policies))


@dataclass
class Autoscaler:
    """The autoscaler of one workload.

    Attributes:
        least, most: Numbers of pods.
        up, down: How it may change.

    """

    least: int
    most: int
    up: Rules
    down: Rules
    _recommended: list[tuple[int, int]] = field(default_factory=list)
    _changes: list[tuple[int, int]] = field(default_factory=list)

    def decide(self, now_s: int, pods: int, metrics: Sequence[tuple[float, float]]) -> int:
        """Return how many pods there are to be: of metrics, each with its target for a pod (AverageValue)."""
        wanted = max(_proposal(pods, value, target) for value, target in metrics)
        wanted = self._stabilised(now_s, pods, min(max(wanted, self.least), self.most))
        if wanted > pods:
            wanted = min(wanted, self._limit(now_s, pods, self.up, 1))
        elif wanted < pods:
            wanted = max(wanted, self._limit(now_s, pods, self.down, -1))
        wanted = min(max(wanted, self.least), self.most)
        if wanted != pods:
            self._changes.append((now_s, wanted - pods))
        return wanted

    def _stabilised(self, now_s: int, pods: int, wanted: int) -> int:
        self._recommended.append((now_s, wanted))
        lately = [(now_s - at_s, value) for at_s, value in self._recommended]
        lowest = min(value for age_s, value in lately if age_s < max(self.up.window_s, 1))
        highest = max(value for age_s, value in lately if age_s < max(self.down.window_s, 1))
        return min(max(pods, lowest), highest)

    def _limit(self, now_s: int, pods: int, rules: Rules, sign: int) -> int:
        """Return the farthest that policies allow, from the number at the beginning of their period."""
        limits = []
        for policy in rules.policies:
            changed = sum(by for at_s, by in self._changes if now_s - at_s < policy.period_s)
            before = pods - changed
            if policy.kind == "Pods":
                limits.append(before + sign * policy.value)
            elif sign > 0:
                limits.append(math.ceil(before * (1 + policy.value / 100)))
            else:
                limits.append(int(before * (1 - policy.value / 100)))
        return max(limits) if sign > 0 else min(limits)


def _proposal(pods: int, value: float, target: float) -> int:
    if pods and abs(value / (target * pods) - 1) <= TOLERANCE:
        return pods
    return math.ceil(round(value / target, 9))
