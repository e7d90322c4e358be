"""Overlays that build without a word, and must not be applied: each is built, and must be found."""

import concurrent.futures
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from k8s import render
from k8s.objects import Manifests
from k8s.rules import breaches


@dataclass(frozen=True)
class Trap:
    """An overlay that somebody may write.

    Attributes:
        says: What is wrong with it.
        rule: The one that must find it.
        parts: An overlay, and components behind it.
        further: What else stands in its kustomization.

    """

    says: str
    rule: str
    parts: tuple[str, ...]
    further: tuple[tuple[str, Any], ...] = ()


TRAPS: Final = (
    Trap(
        "a number beside a scaler, which each apply sets back",
        "one-decides-on-replicas",
        ("overlays/cpu", "components/keda"),
        (("replicas", [{"name": "gateway", "count": 3}]),),
    ),
    Trap(
        "two scalers of one workload",
        "scale-targets-exist",
        ("overlays/cpu", "components/keda", "components/hpa"),
    ),
    Trap(
        "scalers behind `canary`: of Deployments that are Rollouts",
        "scale-targets-exist",
        ("overlays/cpu", "components/canary", "components/keda"),
    ),
    Trap(
        "`quotas` behind `canary`: no priority for pods of turns",
        "priorities-for-all",
        ("overlays/cpu", "components/canary", "components/quotas"),
    ),
    Trap(
        "a proxy in plain text before services that want TLS",
        "no-proxy-before-tls",
        ("overlays/cpu", "components/least-request", "components/mtls"),
    ),
    Trap("an image behind `release`", "images-released", ("overlays/cpu", "components/coqui")),
    Trap(
        "a budget of pods that are not there",
        "selectors-match",
        ("overlays/cpu",),
        (
            (
                "patches",
                [
                    {
                        "target": {"kind": "PodDisruptionBudget", "name": "gateway"},
                        "patch": "- {op: replace, path: /spec/selector/matchLabels, value: {app: gateway}}",
                    }
                ],
            ),
        ),
    ),
)


def unfound(kubectl: str, folder: pathlib.Path) -> Iterator[str]:
    """Say which traps do not build, or are not found by their rule."""

    def one(trap: Trap) -> str:
        try:
            docs = render.build(kubectl, folder, trap.parts, dict(trap.further))
        except render.RenderError as error:
            return f"tools/k8s/traps.py: {trap.says}: {error}"
        found = breaches(Manifests("trap", docs, own=True), (trap.rule,))
        return "" if found else f"rule {trap.rule}: does not see {trap.says!r} in {' + '.join(trap.parts)}"

    with concurrent.futures.ThreadPoolExecutor() as pool:
        yield from filter(None, pool.map(one, TRAPS))
