"""Rules for what scales and rolls out."""

from collections.abc import Iterator

from k8s.objects import Doc, Manifests, Workload, title_of
from k8s.rules.registry import rule


def bounds(doc: Doc) -> tuple[int, int]:
    """Return the fewest and the most pods that a scaler keeps."""
    spec = doc["spec"]
    if doc["kind"] == "ScaledObject":
        return int(spec.get("minReplicaCount", 0)), int(spec.get("maxReplicaCount", 100))
    return int(spec.get("minReplicas", 1)), int(spec["maxReplicas"])


def most_of(manifests: Manifests, workload: Workload) -> int:
    """Return how many pods of a workload there may be, by whoever decides it."""
    for doc in manifests.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        target = doc["spec"]["scaleTargetRef"]
        if (target.get("kind", "Deployment"), target["name"]) == (workload.kind, workload.name):
            return bounds(doc)[1]
    return int(workload.doc["spec"].get("replicas", 1))


@rule
def scale_targets_exist(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """What scales a workload names one that is here, and is alone in it."""
    taken: dict[tuple[str, str], str] = {}
    for doc in manifests.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        reference = doc["spec"]["scaleTargetRef"]
        target = (reference.get("kind", "Deployment"), reference["name"])
        found = manifests.find(*target)
        if found is None:
            yield title_of(doc), f"scales {'/'.join(target)}, which is not here"
        elif reference.get("apiVersion", "apps/v1") != found["apiVersion"]:
            yield title_of(doc), f"scales {'/'.join(target)} as {reference['apiVersion']}"
        if target in taken:
            yield title_of(doc), f"scales {'/'.join(target)}, which {taken[target]} scales, too"
        taken[target] = title_of(doc)
        low, high = bounds(doc)
        if low > high:
            yield title_of(doc), f"keeps at least {low} and at most {high} pods"
        if low < 1:
            yield title_of(doc), "may leave no pod at all: the first turn would wait for one"


@rule
def one_decides_on_replicas(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A workload that is scaled says no number of its own: each apply would set it back."""
    for doc in manifests.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        reference = doc["spec"]["scaleTargetRef"]
        found = manifests.find(reference.get("kind", "Deployment"), reference["name"])
        if found is not None and "replicas" in found["spec"]:
            yield title_of(found), f"has replicas: {found['spec']['replicas']}, and {title_of(doc)} scales it"


@rule
def rollouts_have_their_parts(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A Rollout names a workload and Services that are here."""
    for doc in manifests.of_kind("Rollout"):
        reference = doc["spec"].get("workloadRef")
        if reference is not None and manifests.find(reference["kind"], reference["name"]) is None:
            yield (
                title_of(doc),
                f"takes its pods from {reference['kind']}/{reference['name']}, which is not here",
            )
        canary = (doc["spec"].get("strategy") or {}).get("canary") or {}
        for key in ("stableService", "canaryService"):
            if key in canary and manifests.find("Service", canary[key]) is None:
                yield title_of(doc), f"{key} {canary[key]} is not here"
