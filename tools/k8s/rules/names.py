"""Rules for names, labels and versions of objects."""

import re
from collections.abc import Iterator
from typing import Final

from k8s.objects import COMPONENT_LABEL, MESH, NAME_LABEL, Manifests, name_of, title_of
from k8s.rules.registry import rule

VERSIONS: Final = {
    "ConfigMap": "v1",
    "CronJob": "batch/v1",
    "DaemonSet": "apps/v1",
    "Deployment": "apps/v1",
    "HorizontalPodAutoscaler": "autoscaling/v2",
    "Job": "batch/v1",
    "LimitRange": "v1",
    "Namespace": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolumeClaim": "v1",
    "PodDisruptionBudget": "policy/v1",
    "PriorityClass": "scheduling.k8s.io/v1",
    "ResourceQuota": "v1",
    "Secret": "v1",
    "Service": "v1",
    "ServiceAccount": "v1",
    "StatefulSet": "apps/v1",
    # What operators bring; `operators` has their types.
    "AnalysisTemplate": "argoproj.io/v1alpha1",
    "Certificate": "cert-manager.io/v1",
    "Issuer": "cert-manager.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "PrometheusRule": "monitoring.coreos.com/v1",
    "Rollout": "argoproj.io/v1alpha1",
    "ScaledObject": "keda.sh/v1alpha1",
    "ServiceMonitor": "monitoring.coreos.com/v1",
    "TriggerAuthentication": "keda.sh/v1alpha1",
}
"""Kind to the version that is current in all that is checked against. What is not here is looked at first:
the mesh needs no right in the cluster, and opens nothing to the outside."""
CLUSTER_WIDE: Final = frozenset({"Namespace", "PriorityClass"})

_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VALUE: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_PORT: Final = re.compile(r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*")
_MOST_OF_A_WORKLOAD: Final = 52
"""What is left of the 63 letters of a pod's label when a hash is put behind the name."""


@rule
def api_versions_current(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every kind is known here, in its current version: none that is deprecated."""
    for doc in manifests.docs:
        right = VERSIONS.get(doc["kind"])
        if right is None and not manifests.own:
            yield (
                title_of(doc),
                f"is of a kind that VERSIONS of tools/k8s/rules/names.py does not have ({doc['kind']})",
            )
        elif doc["apiVersion"] != (right or doc["apiVersion"]):
            yield title_of(doc), f"is {doc['apiVersion']}; the current version is {right}"


@rule
def names_valid(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Names fit what they become: DNS labels of Services, labels of pods, names of ports."""
    for doc in manifests.docs:
        name = name_of(doc)
        pattern = {"Service": _SERVICE, "Namespace": _LABEL}.get(doc["kind"], _SUBDOMAIN)
        if not pattern.fullmatch(name) or len(name) > 253:
            yield title_of(doc), "has a name that DNS does not take"
        for key, value in (doc["metadata"].get("labels") or {}).items():
            if not _VALUE.fullmatch(str(value)) or len(key.rpartition("/")[2]) > 63:
                yield title_of(doc), f"label {key}={value} is none"
    for workload in manifests.workloads:
        if len(workload.name) > _MOST_OF_A_WORKLOAD:
            yield (
                workload.title,
                f"has a name of more than {_MOST_OF_A_WORKLOAD} letters: its pods could not have it",
            )
        for container in workload.containers:
            if not _LABEL.fullmatch(container["name"]):
                yield workload.title, f"container {container['name']} has a name that DNS does not take"
            for port in container.get("ports", ()):
                if not _PORT.fullmatch(str(port.get("name", ""))):
                    yield (
                        workload.title,
                        f"port {port['containerPort']} has no name of 1 to 15 of a-z, 0-9, '-'",
                    )


@rule
def labels_set(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """What runs, and what selects it, says that it is of the mesh and which part."""
    for doc in manifests.docs:
        if doc["kind"] not in (
            "Deployment",
            "StatefulSet",
            "DaemonSet",
            "Service",
            "PodDisruptionBudget",
            "Rollout",
        ):
            continue
        labels = doc["metadata"].get("labels") or {}
        if labels.get(NAME_LABEL) != MESH or not labels.get(COMPONENT_LABEL):
            yield title_of(doc), f"has no labels {NAME_LABEL}={MESH} and {COMPONENT_LABEL}"
    for workload in manifests.workloads:
        if workload.labels.get(NAME_LABEL) != MESH or not workload.labels.get(COMPONENT_LABEL):
            yield workload.title, f"its pods have no labels {NAME_LABEL}={MESH} and {COMPONENT_LABEL}"


@rule
def namespace_set(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Everything that can be is in a namespace that is here, too."""
    there = {name_of(doc) for doc in manifests.of_kind("Namespace")}
    for doc in manifests.docs:
        namespace = doc["metadata"].get("namespace")
        if doc["kind"] not in CLUSTER_WIDE and namespace not in there:
            yield title_of(doc), f"is in the namespace {namespace}, which is not here"
