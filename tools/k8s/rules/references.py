"""Rules for what names what: ConfigMaps, Secrets, volumes, accounts, classes."""

from collections.abc import Iterator
from typing import Any, Final

from k8s.objects import Doc, Manifests, name_of, title_of
from k8s.rules.registry import rule

_SYSTEM_CLASSES: Final = ("system-cluster-critical", "system-node-critical")
_KEYS: Final = {
    "configMapRef": "ConfigMap",
    "configMapKeyRef": "ConfigMap",
    "secretRef": "Secret",
    "secretKeyRef": "Secret",
}
"""What names an object in the environment of a container, and its kind."""


_OF_PLATFORM: Final = ("RuntimeClass", "Secret")
"""Kinds of what a platform may bring, beside ConfigMaps that may be missing; all else is made here."""


@rule
def references_exist(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """What is named is there, or the documentation says that the platform brings it."""
    made = {("Secret", each["spec"]["secretName"]) for each in manifests.of_kind("Certificate")}
    there = {(doc["kind"], name_of(doc)) for doc in manifests.docs} | made
    for doc in manifests.docs:
        for kind, name in sorted(set(named_by(doc))):
            missing = kind == "ConfigMap" and name in optional_maps(doc)
            brought = (manifests.own or missing or kind in _OF_PLATFORM) and name in manifests.platform
            if (kind, name) not in there and not brought:
                yield title_of(doc), f"names {kind}/{name}: it is neither here nor in docs/kubernetes.md"


@rule
def secrets_have_commands(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """For each key of a Secret that an overlay must be given, a command in the documentation makes it."""
    made = {each["spec"]["secretName"] for each in manifests.of_kind("Certificate")}
    made |= {name_of(each) for each in manifests.of_kind("Secret")}
    for workload in manifests.workloads if manifests.is_applied else ():
        wanted = {
            (source["secretKeyRef"]["name"], source["secretKeyRef"]["key"])
            for container in workload.containers
            for source in (entry.get("valueFrom") or {} for entry in container.get("env", ()))
            if "secretKeyRef" in source and not source["secretKeyRef"].get("optional")
        } | {
            (volume["secret"]["secretName"], item["key"])
            for volume in workload.pod.get("volumes", ())
            for item in (volume.get("secret") or {}).get("items", ())
        }
        for name, key in sorted(wanted - manifests.secrets):
            if name not in made:
                yield (
                    workload.title,
                    f"needs {key!r} of Secret/{name}: no command in docs/kubernetes*.md makes it",
                )


def named_by(doc: Doc) -> Iterator[tuple[str, str]]:
    """Yield kind and name of what an object needs."""
    if doc["kind"] in ("ScaledObject", "ScaledJob"):
        for trigger in doc["spec"].get("triggers", ()):
            reference = trigger.get("authenticationRef")
            if reference:
                yield reference.get("kind", "TriggerAuthentication"), reference["name"]
    if doc["kind"] == "TriggerAuthentication":
        for reference in doc["spec"].get("secretTargetRef", ()):
            yield "Secret", reference["name"]
    if doc["kind"] == "Certificate":
        yield doc["spec"]["issuerRef"].get("kind", "Issuer"), doc["spec"]["issuerRef"]["name"]
    if doc["kind"] == "Rollout":
        for step in ((doc["spec"].get("strategy") or {}).get("canary") or {}).get("steps", ()):
            for template in (step.get("analysis") or {}).get("templates", ()):
                yield "AnalysisTemplate", template["templateName"]
    if doc["kind"] == "StatefulSet" and doc["spec"].get("serviceName"):
        yield "Service", doc["spec"]["serviceName"]
    yield from _of_pod(doc)


def optional_maps(doc: Doc) -> set[str]:
    """Return the ConfigMaps that an object mounts if they are there."""
    template = (doc.get("spec") or {}).get("template") if isinstance(doc.get("spec"), dict) else None
    maps = [each.get("configMap") or {} for each in ((template or {}).get("spec") or {}).get("volumes", ())]
    return {each["name"] for each in maps if each.get("optional") is True}


def _of_pod(doc: Doc) -> Iterator[tuple[str, str]]:
    template = (doc.get("spec") or {}).get("template") if isinstance(doc.get("spec"), dict) else None
    pod: Doc = (template or {}).get("spec") or {}
    if not pod:
        return
    if pod.get("serviceAccountName"):
        yield "ServiceAccount", pod["serviceAccountName"]
    if pod.get("priorityClassName") and pod["priorityClassName"] not in _SYSTEM_CLASSES:
        yield "PriorityClass", pod["priorityClassName"]
    if pod.get("runtimeClassName"):
        yield "RuntimeClass", pod["runtimeClassName"]
    for pull in pod.get("imagePullSecrets", ()):
        yield "Secret", pull["name"]
    for volume in pod.get("volumes", ()):
        yield from _of_volume(volume)
    yield from _of_environment(pod)


def _of_volume(volume: Doc) -> Iterator[tuple[str, str]]:
    for source in (volume, *(volume.get("projected") or {}).get("sources", ())):
        if "configMap" in source:
            yield "ConfigMap", source["configMap"]["name"]
        if "secret" in source:
            yield "Secret", source["secret"].get("secretName") or source["secret"]["name"]
        if "persistentVolumeClaim" in source:
            yield "PersistentVolumeClaim", source["persistentVolumeClaim"]["claimName"]


def _of_environment(value: Any) -> Iterator[tuple[str, str]]:
    """Yield what `env` and `envFrom` name, at any depth."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in _KEYS:
                yield _KEYS[key], inner["name"]
            else:
                yield from _of_environment(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _of_environment(inner)


@rule
def nothing_left_over(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every ConfigMap, volume claim, service account and priority class is used, and every volume mounted."""
    used = {reference for doc in manifests.docs for reference in named_by(doc)}
    for doc in manifests.of_kind("ConfigMap", "PersistentVolumeClaim", "ServiceAccount", "PriorityClass"):
        labels = doc["metadata"].get("labels") or {}
        # Grafana's sidecar looks for labels.
        found = any(label.startswith("grafana_") for label in labels)
        if (doc["kind"], name_of(doc)) not in used and not found:
            yield title_of(doc), "nothing uses it"
    for workload in manifests.workloads:
        mounts = {mount["name"] for each in workload.containers for mount in each.get("volumeMounts", ())}
        volumes = {volume["name"] for volume in workload.pod.get("volumes", ())}
        claims = {claim["metadata"]["name"] for claim in workload.doc["spec"].get("volumeClaimTemplates", ())}
        for name in sorted(volumes - mounts):
            yield workload.title, f"volume {name} is mounted nowhere"
        for name in sorted(mounts - volumes - claims):
            yield workload.title, f"mounts {name}, which is no volume of its"


@rule
def keys_exist(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A key that is named of a ConfigMap is in it, for a volume as for a variable."""
    for workload in manifests.workloads:
        for volume in workload.pod.get("volumes", ()):
            for source in (volume, *(volume.get("projected") or {}).get("sources", ())):
                config = source.get("configMap") or {}
                found = manifests.find("ConfigMap", config.get("name", ""))
                for item in config.get("items", ()):
                    if found is not None and item["key"] not in (found.get("data") or {}):
                        yield (
                            workload.title,
                            f"volume {volume['name']}: ConfigMap/{config['name']} has no {item['key']!r}",
                        )
