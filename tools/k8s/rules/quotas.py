"""Rules for what a namespace may take: a quota must have room for all that its own manifests may start."""

import math
from collections.abc import Iterator
from typing import Final

from k8s.objects import Doc, Manifests, Workload, name_of, namespace_of, quantity, title_of
from k8s.rules.registry import rule
from k8s.rules.scaling import most_of

_GIB: Final = 1024.0**3


@rule
def quotas_have_room(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A quota has room for all pods that may be scaled to, and those of a release that start and drain."""
    for quota in manifests.of_kind("ResourceQuota"):
        wanted: dict[str, float] = {}
        for name, amount in _wanted(manifests, namespace_of(quota)):
            wanted[name] = wanted.get(name, 0.0) + amount
        for name, given in quota["spec"]["hard"].items():
            taken = wanted.get(name, 0.0)
            if taken > quantity(given):
                text = f"{taken / _GIB:.1f} GiB" if name.endswith("memory") else f"{taken:.5g}"
                yield title_of(quota), f"hard.{name} is {given}; all that may run takes {text}"


def _wanted(manifests: Manifests, namespace: str) -> Iterator[tuple[str, float]]:
    """Yield what is taken at most, by the names that a quota has for it."""
    for workload in manifests.workloads:
        if workload.namespace != namespace:
            continue
        most = most_of(manifests, workload)
        pods = most + _beside(workload, most)
        yield "pods", pods
        for container in workload.serving:
            for part, amounts in (container.get("resources") or {}).items():
                for resource, amount in amounts.items():
                    # A quota of a device knows requests alone, which are as its limits.
                    if "/" in resource:
                        yield f"requests.{resource}", pods * quantity(amount) * (part == "limits")
                    else:
                        yield f"{part}.{resource}", pods * quantity(amount)
        yield "persistentvolumeclaims", most * len(workload.doc["spec"].get("volumeClaimTemplates", ()))
    yield "persistentvolumeclaims", len(list(manifests.of_kind("PersistentVolumeClaim")))
    for doc in manifests.of_kind("Service"):
        kind, allocates = doc["spec"].get("type"), doc["spec"].get("allocateLoadBalancerNodePorts", True)
        yield "services.loadbalancers", kind == "LoadBalancer"
        if kind == "NodePort" or (kind == "LoadBalancer" and allocates):
            yield "services.nodeports", len(doc["spec"]["ports"])


def _beside(workload: Workload, most: int) -> int:
    """Return how many pods a release has beside those that are wanted: who starts, and who drains."""
    spec = workload.doc["spec"]
    strategy = spec.get("strategy") or {}
    if workload.kind not in ("Deployment", "Rollout") or strategy.get("type") == "Recreate":
        return 0
    surge = int((strategy.get("rollingUpdate") or strategy.get("canary") or {}).get("maxSurge", 1))
    if any("/" in name for each in workload.containers for name in _limits(each)):
        # A device that is taken holds up the next pod by itself.
        return surge
    grace_s = float(workload.pod.get("terminationGracePeriodSeconds", 30))
    return surge + min(most, math.ceil(grace_s / max(1, int(spec.get("minReadySeconds", 0)))))


def _limits(container: Doc) -> dict[str, str]:
    found: dict[str, str] = (container.get("resources") or {}).get("limits") or {}
    return found


@rule
def limits_within_range(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No container is limited above what a LimitRange lets a container have."""
    for doc in manifests.of_kind("LimitRange"):
        most = {
            resource: amount
            for each in doc["spec"]["limits"]
            if each["type"] == "Container"
            for resource, amount in (each.get("max") or {}).items()
        }
        for workload in manifests.workloads:
            for container in workload.containers:
                limits = _limits(container)
                for resource in sorted(most.keys() & limits.keys()):
                    if quantity(limits[resource]) > quantity(most[resource]):
                        what = f"container {container['name']}: limits.{resource} {limits[resource]}"
                        yield workload.title, f"{what} is above {most[resource]} of LimitRange/{name_of(doc)}"


@rule
def priorities_for_all(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Where there are priorities, each service of the mesh has one, and so has Redis."""
    if not any(manifests.of_kind("PriorityClass")):
        return
    for workload in manifests.workloads:
        if (workload.service or workload.name == "redis") and not workload.pod.get("priorityClassName"):
            yield workload.title, "has no priorityClassName: what adds it must stand before components/quotas"
