"""Rules for ways round the others: what schemas take, and nobody here has asked for."""

import re
from collections.abc import Iterator
from typing import Final

import gen_network_policies

from k8s import settings_env
from k8s.objects import SERVICES, Manifests, namespace_of, quantity, title_of
from k8s.rules.pods import replicas_of
from k8s.rules.registry import rule
from k8s.rules.settings import processes

_OF_PODS: Final = ("ephemeralContainers", "shareProcessNamespace")
_LOOSER: Final = ("appArmorProfile", "procMount", "seLinuxOptions", "sysctls", "windowsOptions")
_ANNOTATIONS: Final = ("container.apparmor.security", "container.seccomp.security", "seccomp.security")
_OWN: Final = re.compile(r"(^|/)voicemesh/")
_HELD_UP_S: Final = 30.0
"""For how long an event loop may be held up before its process is ended."""


@rule
def pods_apart(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No pod takes containers or processes of others, or loosens what confines it."""
    for workload in manifests.workloads:
        for key in _OF_PODS:
            if workload.pod.get(key):
                yield workload.title, f"{key} is set"
        if workload.pod.get("dnsPolicy", "ClusterFirst") != "ClusterFirst":
            yield workload.title, "dnsPolicy is not ClusterFirst: no Service is found by its name"
        contexts = [workload.pod, *workload.containers]
        for context in (each.get("securityContext") or {} for each in contexts):
            for key in _LOOSER:
                if context.get(key):
                    yield workload.title, f"securityContext.{key} is set"
            if context.get("fsGroup") == 0 or 0 in (context.get("supplementalGroups") or ()):
                yield workload.title, "is in root's group"
        for name in (workload.template.get("metadata") or {}).get("annotations") or {}:
            if name.startswith(_ANNOTATIONS):
                yield workload.title, f"annotation {name}: profiles are set in securityContext"


@rule
def mounts_follow(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """What is mounted follows changes, and is no token."""
    for workload in manifests.workloads:
        for volume in workload.pod.get("volumes", ()):
            name = volume["name"]
            for source in (volume.get("projected") or {}).get("sources", ()):
                if "serviceAccountToken" in source:
                    yield workload.title, f"volume {name} has a token of the service account"
        mapped = {
            each["name"] for each in workload.pod.get("volumes", ()) if each.keys() & {"configMap", "secret"}
        }
        for container in workload.containers:
            for mount in container.get("volumeMounts", ()):
                if mount["name"] in mapped and (mount.get("subPath") or mount.get("subPathExpr")):
                    yield workload.title, f"mounts {mount['name']} by a subPath: it would never change"


@rule
def every_process_is_known(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """The five services run by their names, as their images say, and nothing else runs these images."""
    known = list(processes(manifests))
    for service in sorted(set(SERVICES) - {workload.service for workload, _ in known}):
        yield f"Deployment/{service}", "is not here, or has other labels or another name of its container"
    own = [id(container) for _, container in known]
    for workload in manifests.workloads:
        for container in workload.containers:
            if _OWN.search(str(container.get("image", ""))) and id(container) not in own:
                yield (
                    workload.title,
                    f"container {container['name']} runs {container['image']}, unseen by the rules",
                )
    for workload, container in known:
        for key in container.keys() & {"command", "args"}:
            yield workload.title, f"{key}: the image says what runs, and settings.env how"


@rule
def secrets_found_by_key(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A secret is found by the key of its own name: one that is misspelt and optional is never missed."""
    for workload, container in processes(manifests):
        secret = {each.variable for each in settings_env.settings_of(workload.service) if each.secret}
        for entry in container.get("env", ()):
            reference = (entry.get("valueFrom") or {}).get("secretKeyRef")
            right = entry["name"].lower().replace("_", "-")
            if reference and reference["key"] != right:
                yield workload.title, f"{entry['name']}: the key is {reference['key']!r}, not {right!r}"
            if reference is None and entry["name"] in secret:
                yield workload.title, f"{entry['name']}: a secret; it comes by secretKeyRef"


@rule
def variables_once(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A variable stands once in a container: of two the last is taken, and the other read by people."""
    for workload in manifests.workloads:
        for container in workload.containers:
            names = [entry["name"] for entry in container.get("env", ())]
            for twice in sorted({name for name in names if names.count(name) > 1}):
                yield workload.title, f"container {container['name']}: {twice} is there twice"


@rule
def services_stay_inside(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every Service leads to pods that are here, and is reached from inside the cluster alone."""
    for doc in manifests.of_kind("Service"):
        spec = doc["spec"]
        if spec.get("type", "ClusterIP") != "ClusterIP" or spec.get("externalIPs"):
            yield title_of(doc), "is opened to the outside: who does so, does it in an overlay of their own"
        if not spec.get("selector"):
            yield title_of(doc), "selects nothing"


@rule
def analyses_ask_prometheus(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A release is judged by what Prometheus says, and by no pods that it starts for that."""
    for doc in manifests.of_kind("AnalysisTemplate"):
        for metric in doc["spec"]["metrics"]:
            for kind in metric["provider"].keys() - {"prometheus"}:
                yield title_of(doc), f"metric {metric['name']} asks by {kind}, not Prometheus"


@rule
def policies_of_the_table(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every NetworkPolicy is one that tools/gen_network_policies.py makes of the table of edges."""
    made = gen_network_policies.specs()
    for doc in manifests.of_kind("NetworkPolicy"):
        name = doc["metadata"]["name"]
        if name not in made:
            yield title_of(doc), "is none of those that the table gives"
        elif doc["spec"] != made[name]:
            yield title_of(doc), "is not what the table gives: something has changed it"


@rule
def some_are_there(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every workload has pods, is not paused, and never loses all of them at once."""
    for workload in manifests.workloads:
        spec = workload.doc["spec"]
        if spec.get("replicas") == 0:
            yield workload.title, "has no replicas"
        if spec.get("paused"):
            yield workload.title, "is paused: no release would reach it"
        canary = (spec.get("strategy") or {}).get("canary")
        if (
            workload.kind == "Rollout"
            and workload.service
            and (canary or {}).get("maxUnavailable") not in (0, "0%")
        ):
            yield workload.title, "its strategy is no canary with maxUnavailable 0"
    for doc in manifests.of_kind("PodDisruptionBudget"):
        for workload in manifests.selected(doc["spec"].get("selector"), namespace_of(doc)):
            most, pods = doc["spec"].get("maxUnavailable", 0), replicas_of(manifests, workload)
            gone = pods * float(most[:-1]) / 100 if isinstance(most, str) else most
            if gone >= pods > 1:
                yield workload.title, f"its budget lets all {pods} pods go at once"


@rule
def processes_are_given_time(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A process that is held up is not ended at once, and no hook takes a time that nobody knows."""
    for workload, container in processes(manifests):
        alive = container.get("livenessProbe") or {}
        held_s = alive.get("periodSeconds", 10) * alive.get("failureThreshold", 3)
        if held_s < _HELD_UP_S:
            yield workload.title, f"livenessProbe ends it after {held_s:g} s; it needs {_HELD_UP_S:g}"
        for key, hook in (container.get("lifecycle") or {}).items():
            if key != "preStop" or hook.keys() - {"sleep"}:
                yield (
                    workload.title,
                    f"lifecycle.{key}: nobody knows how long it takes; preStop.sleep says it",
                )
    for workload in manifests.workloads:
        for container in workload.containers:
            for part, given in (container.get("resources") or {}).items():
                for name in ("cpu", "memory"):
                    if part in ("requests", "limits") and name in given and not quantity(given[name]):
                        yield workload.title, f"container {container['name']}: {part}.{name} is 0"
