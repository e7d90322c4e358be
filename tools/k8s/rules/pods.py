"""Rules for pods: who they are, where they run, how they end."""

from collections.abc import Iterator
from typing import Final

from k8s import environments
from k8s.objects import Doc, Manifests, Workload, matches, quantity
from k8s.rules.registry import rule

_VOLUMES: Final = frozenset(
    {
        "configMap",
        "downwardAPI",
        "emptyDir",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
)
"""What Pod Security `restricted` allows, but for disks that are in no claim, and so in no quota, here."""
_CLOSING_S: Final = 5.0
"""What a process may take to close behind its drain; see `voicemesh/cli/up.py`."""
_SPREAD: Final = ("topology.kubernetes.io/zone", "kubernetes.io/hostname")


@rule
def no_service_account_token(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every pod has a service account of its own, and no token of it."""
    for workload in manifests.workloads:
        account = workload.pod.get("serviceAccountName", "default")
        if account == "default":
            yield workload.title, "has no service account of its own"
        if workload.pod.get("automountServiceAccountToken") is not False:
            yield workload.title, "automountServiceAccountToken is not false"
    for doc in manifests.of_kind("ServiceAccount"):
        if doc.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount/{doc['metadata']['name']}", "automountServiceAccountToken is not false"


@rule
def pods_isolated(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No pod shares anything with its node, nor mounts what Pod Security `restricted` forbids."""
    for workload in manifests.workloads:
        for key in ("hostNetwork", "hostPID", "hostIPC", "hostUsers", "hostAliases", "nodeName"):
            if workload.pod.get(key):
                yield workload.title, f"{key} is set"
        for volume in workload.pod.get("volumes", ()):
            if kinds := volume.keys() - {"name"} - _VOLUMES:
                yield workload.title, f"volume {volume['name']} is a {', '.join(sorted(kinds))}"
        for container in workload.containers:
            if any("hostPort" in port for port in container.get("ports", ())):
                yield workload.title, f"container {container['name']} takes a port of its node"


@rule
def no_service_links(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No pod is told of Services by variables: `VOICEMESH_…` of Kubernetes would stand among the settings."""
    for workload in manifests.workloads:
        if workload.pod.get("enableServiceLinks") is not False:
            yield workload.title, "enableServiceLinks is not false"


@rule
def namespaces_restricted(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every namespace refuses pods that are not `restricted`."""
    for doc in manifests.of_kind("Namespace"):
        labels = doc["metadata"].get("labels") or {}
        if labels.get("pod-security.kubernetes.io/enforce") != "restricted":
            yield (
                f"Namespace/{doc['metadata']['name']}",
                "pod-security.kubernetes.io/enforce is not restricted",
            )
        # Of an old version, `restricted` lets through what came later.
        if labels.get("pod-security.kubernetes.io/enforce-version", "latest") != "latest":
            yield f"Namespace/{doc['metadata']['name']}", "enforces `restricted` of one version alone"


@rule
def emptydirs_bounded(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """What a pod may write is bounded, so that it cannot fill its node."""
    for workload in manifests.workloads:
        for volume in workload.pod.get("volumes", ()):
            if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
                yield workload.title, f"volume {volume['name']} has no sizeLimit"


def replicas_of(manifests: Manifests, workload: Workload) -> int:
    """Return how many pods there are at least, by whoever decides it."""
    for doc in manifests.of_kind("HorizontalPodAutoscaler", "ScaledObject"):
        target = doc["spec"]["scaleTargetRef"]
        if target["name"] == workload.name and target.get("kind", "Deployment") == workload.kind:
            low = doc["spec"].get("minReplicas", doc["spec"].get("minReplicaCount"))
            return int(1 if low is None else low)
    return int(workload.doc["spec"].get("replicas", 1))


@rule
def a_budget_for_each(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Each Deployment, StatefulSet or Rollout has one PodDisruptionBudget, which lets nodes be drained."""
    budgets: dict[str, list[Doc]] = {}
    for budget in manifests.of_kind("PodDisruptionBudget"):
        namespace = str(budget["metadata"].get("namespace", ""))
        for workload in manifests.selected(budget["spec"]["selector"], namespace):
            budgets.setdefault(workload.title, []).append(budget)
    for workload in manifests.workloads:
        if workload.kind not in ("Deployment", "StatefulSet", "Rollout"):
            continue
        own = budgets.get(workload.title, [])
        if len(own) != 1:
            yield workload.title, f"has {len(own)} PodDisruptionBudgets; one must select its pods"
        for budget in own:
            spec, replicas = budget["spec"], replicas_of(manifests, workload)
            least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
            if most in (0, "0%") or least == "100%" or (isinstance(least, int) and least >= replicas):
                yield (
                    workload.title,
                    f"its budget lets none of {replicas} pods go: no node with one can be drained",
                )


@rule
def spread(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Pods of one service are spread over zones and over nodes, by a selector that takes them."""
    for workload in manifests.workloads:
        if not workload.service or workload.kind not in ("Deployment", "StatefulSet", "Rollout"):
            continue
        constraints = workload.pod.get("topologySpreadConstraints", ())
        for key in _SPREAD:
            own = [each for each in constraints if each["topologyKey"] == key]
            if not own:
                yield workload.title, f"is not spread over {key}"
            if any(not matches(each.get("labelSelector") or {}, workload.labels) for each in own):
                yield workload.title, f"is spread over {key} by a selector that does not take its pods"


@rule
def grace_is_enough(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A pod may take longer to end than its preStop, its drain with the notice, and closing take together."""
    for workload in manifests.workloads:
        if not workload.service:
            continue
        settings = environments.values_of(manifests, workload, workload.service)
        grace_s = float(settings.get("VOICEMESH_DRAIN_GRACE_S", "30"))
        notice_s = float(settings.get("VOICEMESH_DRAIN_NOTICE_S", "0"))
        if notice_s >= grace_s:
            yield (
                workload.title,
                f"VOICEMESH_DRAIN_NOTICE_S ({notice_s:g}) leaves nothing of the grace ({grace_s:g})",
            )
        wanted_s = max(map(_pre_stop_s, workload.serving)) + grace_s + _CLOSING_S
        given_s = float(workload.pod.get("terminationGracePeriodSeconds", 30))
        if given_s < wanted_s:
            yield workload.title, f"terminationGracePeriodSeconds is {given_s:g}; it needs {wanted_s:g}"


@rule
def deadline_is_enough(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A rollout is not given up while a pod may still start: a canary that loads slowly would be aborted."""
    for workload in manifests.workloads:
        if not workload.service or workload.kind not in ("Deployment", "Rollout"):
            continue
        spec = workload.doc["spec"]
        wanted_s = max(map(_start_s, workload.serving)) + spec.get("minReadySeconds", 0)
        given_s = spec.get("progressDeadlineSeconds", 600)
        if given_s <= wanted_s:
            yield (
                workload.title,
                f"progressDeadlineSeconds is {given_s}; a pod may take {wanted_s} to be available",
            )


def _start_s(container: Doc) -> int:
    probe = container.get("startupProbe") or {}
    tries: int = probe.get("periodSeconds", 10) * probe.get("failureThreshold", 3)
    return int(probe.get("initialDelaySeconds", 0)) + tries if probe else 0


def _pre_stop_s(container: Doc) -> float:
    hook = (container.get("lifecycle") or {}).get("preStop") or {}
    return float((hook.get("sleep") or {}).get("seconds", 0))


@rule
def no_turn_is_cut_by_a_rollout(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A rollout starts the new pod before it ends the old one, but where a device has room for one alone."""
    for workload in manifests.workloads:
        if workload.kind != "Deployment" or not workload.service:
            continue
        strategy = workload.doc["spec"].get("strategy") or {}
        rolling = strategy.get("rollingUpdate") or {}
        devices = any(_devices(container) for container in workload.containers)
        if not devices and (
            strategy.get("type") == "Recreate" or rolling.get("maxUnavailable") not in (0, "0%")
        ):
            yield workload.title, "its strategy is not RollingUpdate with maxUnavailable 0"


def _devices(container: Doc) -> bool:
    limits = (container.get("resources") or {}).get("limits") or {}
    return any("/" in name and quantity(amount) > 0 for name, amount in limits.items())
