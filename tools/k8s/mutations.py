"""For each rule, changes to real manifests that it must find: a rule that finds nothing is no rule.

The check makes each change in the first of all that is built where it can be made; the rule must see it.
"""

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from k8s.changes import (
    CONTAINER,
    POD,
    Change,
    add,
    both,
    container,
    of,
    pod,
    policy,
    put,
    variable,
    volume,
    without,
)
from k8s.objects import Manifests
from k8s.rules import RULES, Breach, breaches


@dataclass(frozen=True)
class Mutation:
    """A change that a rule must find."""

    rule: str
    says: str
    change: Change


_HPA: Final = of(
    "HorizontalPodAutoscaler",
    apiVersion="autoscaling/v2",
    spec={
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "cache"},
        "maxReplicas": 4,
    },
)
_CHANGES: Final[dict[str, dict[str, Change]]] = {
    "images-tagged": {
        "no tag": container("image", value="voicemesh/gateway"),
        "no tag behind a registry with a port": container("image", value="registry:5000/voicemesh/gateway"),
        "latest": container("image", value="voicemesh/gateway:latest"),
        "latest of a kind": container("image", value="voicemesh/gateway:latest-cuda"),
        "a branch": container("image", value="voicemesh/gateway:dev"),
        "half a version": container("image", value="docker.io/library/redis:7.2"),
        "a digest that is none": container("image", value="voicemesh/gateway@sha256:abc"),
        "of a volume": volume(image={"reference": "voicemesh/models:latest"}),
    },
    "images-released": {
        "the base's tag": container("image", value="voicemesh/gateway:0"),
        "of a volume": volume(image={"reference": "voicemesh/models:0"}),
    },
    "resources-set": {
        "no limit of memory": container("resources", "limits", "memory"),
        "no limit of CPU": container("resources", "limits", "cpu"),
        "no request of CPU": container("resources", "requests", "cpu"),
        "a request above its limit": container("resources", "requests", "cpu", value="64"),
        "memory that is not sure": container("resources", "requests", "memory", value="16Mi"),
    },
    "probes-set": {probe: container(probe) for probe in ("startupProbe", "readinessProbe", "livenessProbe")},
    "probes-ask-what-is-meant": {
        "ready while it drains": container("readinessProbe", "grpc", "service", value="voicemesh.alive"),
        "killed while it drains": container("livenessProbe", "grpc", "service", value="voicemesh.accepts"),
        "a port that opens": container("startupProbe", value={"tcpSocket": {"port": 50050}}),
    },
    "probe-ports-exist": {"another port": container("livenessProbe", "grpc", "port", value=50059)},
    "non-root": {
        "not asked for": pod("securityContext", "runAsNonRoot"),
        "root": pod("securityContext", "runAsUser", value=0),
        "the container's own word": container("securityContext", "runAsNonRoot", value=False),
        "root's group": pod("securityContext", "runAsGroup"),
    },
    "read-only-root": {"not asked for": container("securityContext", "readOnlyRootFilesystem")},
    "capabilities-dropped": {
        "some are kept": container("securityContext", "capabilities", "drop", value=["NET_RAW"]),
        "one is taken": container("securityContext", "capabilities", "add", value=["SYS_PTRACE"]),
    },
    "no-escalation": {
        "not asked for": container("securityContext", "allowPrivilegeEscalation"),
        "privileged": container("securityContext", "privileged", value=True),
    },
    "seccomp": {
        "not asked for": pod("securityContext", "seccompProfile"),
        "none": container("securityContext", "seccompProfile", value={"type": "Unconfined"}),
    },
    "no-service-account-token": {
        "of the pod": pod("automountServiceAccountToken"),
        "of the account": put("ServiceAccount", "", "automountServiceAccountToken", value=True),
        "the namespace's account": pod("serviceAccountName"),
    },
    "pods-isolated": {
        "the node's network": pod("hostNetwork", value=True),
        "a folder of the node": volume(hostPath={"path": "/tmp"}),
        "a disk in no claim": volume(ephemeral={"volumeClaimTemplate": {"spec": {}}}),
        "a driver": volume(csi={"driver": "host.example"}),
        "a node by its name": pod("nodeName", value="first"),
        "other names": pod("hostAliases", value=[{"ip": "192.0.2.1", "hostnames": ["llm"]}]),
        "a port of the node": container("ports", 0, "hostPort", value=50050),
    },
    "no-service-links": {"not asked for": pod("enableServiceLinks")},
    "namespaces-restricted": {
        "baseline": put(
            "Namespace", "", "metadata", "labels", "pod-security.kubernetes.io/enforce", value="baseline"
        ),
        "of long ago": put(
            "Namespace", "", "metadata", "labels", "pod-security.kubernetes.io/enforce-version", value="v1.20"
        ),
    },
    "emptydirs-bounded": {"no limit": volume(emptyDir={})},
    "a-budget-for-each": {
        "none": without("PodDisruptionBudget", "gateway"),
        "another's pods": put(
            "PodDisruptionBudget",
            "gateway",
            *("spec", "selector", "matchLabels", "app.kubernetes.io/component"),
            value="llm",
        ),
        "none may go": put("PodDisruptionBudget", "gateway", "spec", "maxUnavailable", value=0),
        "all must stay": put(
            "PodDisruptionBudget", "gateway", "spec", value={"minAvailable": "100%", "selector": {}}
        ),
    },
    "spread": {
        "over nothing": pod("topologySpreadConstraints", value=[]),
        "not over zones": pod("topologySpreadConstraints", 0),
        "others' pods": pod(
            "topologySpreadConstraints", 0, "labelSelector", value={"matchLabels": {"app": "x"}}
        ),
    },
    "grace-is-enough": {
        "Kubernetes' own": pod("terminationGracePeriodSeconds"),
        "a longer drain": variable("VOICEMESH_DRAIN_GRACE_S", "900"),
        "a hook before it": container("lifecycle", value={"preStop": {"sleep": {"seconds": 600}}}),
        "a notice as long as the drain": variable("VOICEMESH_DRAIN_NOTICE_S", "900"),
    },
    "deadline-is-enough": {
        "a shorter one": put("Deployment", "gateway", "spec", "progressDeadlineSeconds", value=90),
        "Kubernetes' own": both(
            put("Deployment", "tts", "spec", "progressDeadlineSeconds"),
            put("Deployment", "tts", *CONTAINER, "startupProbe", "failureThreshold", value=600),
        ),
    },
    "no-turn-is-cut-by-a-rollout": {
        "all at once": put("Deployment", "gateway", "spec", "strategy", value={"type": "Recreate"}),
        "one less": put(
            "Deployment", "gateway", "spec", "strategy", "rollingUpdate", "maxUnavailable", value=1
        ),
    },
    "selectors-match": {
        "a Service of nothing": put("Service", "gateway", "spec", "selector", value={"app": "gateway"}),
        "not its own pods": put("Deployment", "gateway", "spec", "selector", "matchLabels", "x", value="y"),
        "all pods": put("Deployment", "gateway", "spec", "selector", value={"matchLabels": {}}),
        "a monitor of no pod": put("PodMonitor", "", "spec", "selector", value={"matchLabels": {"x": "y"}}),
        "a monitor of nothing": put(
            "ServiceMonitor", "", "spec", "selector", value={"matchLabels": {"x": "y"}}
        ),
        "a monitor of another port": put("ServiceMonitor", "", "spec", "endpoints", 0, "port", value="other"),
    },
    "service-ports-lead-somewhere": {
        "by name": put("Service", "gateway", "spec", "ports", 0, "targetPort", value="rpc"),
        "by number": put("Service", "gateway", "spec", "ports", 0, "targetPort", value=1),
    },
    "monitors-reach-ports": {
        "another port": put("PodMonitor", "", "spec", "podMetricsEndpoints", 0, "port", value="other")
    },
    "every-port-is-served": {
        "one more": container("ports", 1, value={"name": "debug", "containerPort": 6060})
    },
    "grpc-services-are-headless": {
        "a proxy's address": put("Service", "gateway", "spec", "clusterIP"),
        "pods that start": put("Service", "gateway", "spec", "publishNotReadyAddresses", value=True),
    },
    "named-once": {"a port": container("ports", 1, "name", value="grpc")},
    "api-versions-current": {
        "one that is gone": put("PodDisruptionBudget", "gateway", "apiVersion", value="policy/v1beta1"),
        "a kind of nobody": put("PodDisruptionBudget", "gateway", "kind", value="PodSecurityPolicy"),
    },
    "names-valid": {
        "capitals": put("Service", "gateway", "metadata", "name", value="Gateway"),
        "a digit first": put("Service", "gateway", "metadata", "name", value="0gateway"),
        "64 letters": put("Service", "gateway", "metadata", "name", value="g" * 64),
        "a workload of 60 letters": put("Deployment", "gateway", "metadata", "name", value="g" * 60),
        "a long port": container("ports", 0, "name", value="grpc-of-the-gateway"),
        "a label": put("Deployment", "gateway", "metadata", "labels", "x", value="a b"),
    },
    "labels-set": {
        "no component": put("Service", "gateway", "metadata", "labels", "app.kubernetes.io/component"),
        "pods without": put(
            "Deployment", "gateway", "spec", "template", "metadata", "labels", value={"app": "gateway"}
        ),
    },
    "namespace-set": {"none": put("Service", "gateway", "metadata", "namespace")},
    "references-exist": {
        "a ConfigMap": container("envFrom", 0, "configMapRef", "name", value="nowhere"),
        "a Secret": put(
            "Deployment", "llm", *CONTAINER, "env", 0, "valueFrom", "secretKeyRef", "name", value="nowhere"
        ),
        "a volume's": pod("volumes", 0, value={"name": "tmp", "secret": {"secretName": "nowhere"}}),
        "an account": pod("serviceAccountName", value="nowhere"),
        "an account that pages speak of": pod("serviceAccountName", value="publishNotReadyAddresses"),
        "a class": pod("priorityClassName", value="nowhere"),
        "an issuer": put("Certificate", "", "spec", "issuerRef", "name", value="nowhere"),
        "a template": put(
            "Rollout",
            "",
            *("spec", "strategy", "canary", "steps", 1, "analysis", "templates", 0, "templateName"),
            value="nowhere",
        ),
    },
    "secrets-have-commands": {
        "another key": put(
            "Deployment", "redis", *CONTAINER, "env", 0, "valueFrom", "secretKeyRef", "key", value="password"
        ),
        "another file": put(
            "Deployment", "gateway", *POD, "volumes", 0, "secret", "items", 0, "key", value="key.json"
        ),
    },
    "nothing-left-over": {
        "a ConfigMap": add(of("ConfigMap", apiVersion="v1", data={"a": "b"})),
        "a volume": pod("volumes", 1, value={"name": "spare", "emptyDir": {"sizeLimit": "1Mi"}}),
        "a mount": container("volumeMounts", 1, value={"name": "spare", "mountPath": "/spare"}),
    },
    "keys-exist": {
        "of a volume": put(
            "Deployment",
            "tts",
            *(*POD, "volumes", 1, "configMap", "items"),
            value=[{"key": "nothing.json", "path": "voices.json"}],
        )
    },
    "scale-targets-exist": {
        "KEDA, nothing": put("ScaledObject", "", "spec", "scaleTargetRef", "name", value="nowhere"),
        "KEDA, less than its least": put("ScaledObject", "", "spec", "maxReplicaCount", value=0),
        "KEDA, none": put("ScaledObject", "", "spec", "minReplicaCount", value=0),
        "HPA, nothing": put("HorizontalPodAutoscaler", "", "spec", "scaleTargetRef", "name", value="nowhere"),
        "both": put("ScaledObject", "cache", "spec", "scaleTargetRef", "name", value="gateway"),
        "KEDA and HPA": both(put("ScaledObject", "cache", "spec", "minReplicaCount", value=2), add(_HPA)),
    },
    "one-decides-on-replicas": {
        "two do": both(add(_HPA), put("Deployment", "cache", "spec", "replicas", value=3))
    },
    "quotas-have-room": {
        **{
            f"little {name}": put("ResourceQuota", "", "spec", "hard", name, value=value)
            for name, value in {
                "pods": "90",
                "requests.cpu": "44",
                "limits.cpu": "144",
                "requests.memory": "32Gi",
                "persistentvolumeclaims": "0",
            }.items()
        },
        "a GPU": both(
            put("ResourceQuota", "", "spec", "hard", "requests.nvidia.com/gpu", value="0"),
            put("Deployment", "tts", *CONTAINER, "resources", "limits", "nvidia.com/gpu", value=1),
        ),
        "a balancer with ports of nodes": both(
            put("ResourceQuota", "", "spec", "hard", "services.nodeports", value="0"),
            put("Service", "gateway-http", "spec", "type", value="LoadBalancer"),
        ),
    },
    "limits-within-range": {
        "memory": put("LimitRange", "", "spec", "limits", 0, "max", value={"cpu": "8", "memory": "256Mi"})
    },
    "priorities-for-all": {
        "none": put("Deployment", "cache", *POD, "priorityClassName"),
    },
    "rollouts-have-their-parts": {
        "no Service": put("Rollout", "", "spec", "strategy", "canary", "canaryService", value="nowhere"),
        "no workload": put(
            "Rollout", "", "spec", "workloadRef", value={"kind": "Deployment", "name": "nowhere"}
        ),
    },
    "shut-by-default": {"open": without("NetworkPolicy", "default-deny")},
    "every-edge-is-open": {
        "at the caller": put("NetworkPolicy", "gateway", "spec", "egress", value=[]),
        "at the callee": put("NetworkPolicy", "llm", "spec", "ingress", value=[]),
    },
    "no-other-edge-is-open": {
        "another caller": policy(
            podSelector={}, ingress=[{"from": [{"podSelector": {}}]}], egress=[{"to": [{"podSelector": {}}]}]
        ),
        "no policy": without("NetworkPolicy", ""),
    },
    "names-can-be-looked-up": {"no DNS": put("NetworkPolicy", "gateway", "spec", "egress", value=[])},
    "no-door-is-wide-open": {
        "everybody": policy(ingress=[{"ports": [{"port": 50051}]}]),
        "every port": policy(ingress=[{"from": [{"podSelector": {}}]}]),
        "every namespace": policy(
            ingress=[{"from": [{"namespaceSelector": {}}], "ports": [{"port": 50051}]}]
        ),
        "the whole net": policy(
            egress=[{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}], "ports": [{"port": 443}]}]
        ),
    },
    "variables-known": {
        "misspelt": variable("VOICEMESH_GATEWAY_MAX_TURN", "9"),
        "of another process": variable("VOICEMESH_TTS_BUFFER_S", "9"),
        "of nobody": container("env", value=[{"name": "PYTHONUNBUFFERED", "value": "1"}]),
        "what is not set before it": container(
            "env", value=[{"name": "VOICEMESH_LOG_TRACE_URL", "value": "$(URL)"}]
        ),
    },
    "every-setting-listed": {
        "without": container("envFrom", value=[]),
        "no way for a secret": put("Deployment", "llm", *CONTAINER, "env", value=[]),
    },
    "settings-accepted": {
        "a wrong word": variable("VOICEMESH_LOG_LEVEL", "loud"),
        "out of range": variable("VOICEMESH_GATEWAY_MAX_TURNS", "0"),
        "quotes": variable("VOICEMESH_GATEWAY_MAX_TURNS", '"9"'),
        "no JSON": variable("VOICEMESH_PRICES_LLM", "{a: b}"),
        "a voice that is none": put(
            "ConfigMap", "tts-voices", "data", "voices.json", value='[{"name": "a b"}]'
        ),
        "not without a secret": put(
            "ConfigMap", "llm-settings", "data", "VOICEMESH_LLM_PROVIDER", value="openai"
        ),
    },
    "files-mounted": {
        "nothing there": variable("VOICEMESH_TTS_VOICES_FILE", "/etc/nowhere/voices.json", "tts"),
        "another name": variable("VOICEMESH_TTS_VOICES_FILE", "/etc/voicemesh/voices/voice.json", "tts"),
    },
    "secrets-by-reference": {
        "a Secret": add(of("Secret", apiVersion="v1", stringData={"password": "hunter2"})),
        "a setting": variable("VOICEMESH_REDIS_URL", "rediss://redis:6379/0", "cache"),
        "as bytes": put("ConfigMap", "gateway-settings", "binaryData", value={"a": "aHVudGVyMg=="}),
        "in an address": variable("VOICEMESH_LLM_ADDR", "http://me:hunter2@llm:50051"),
        "by its name": container("env", value=[{"name": "AWS_SECRET_ACCESS_KEY", "value": "hunter2"}]),
    },
    "caches-share-a-redis": {
        "they may go without": put(
            *("Deployment", "cache", *CONTAINER, "env"),
            value=[
                {
                    "name": "VOICEMESH_REDIS_URL",
                    "valueFrom": {"secretKeyRef": {"name": "voicemesh-redis", "key": "k", "optional": True}},
                }
            ],
        )
    },
    "no-proxy-before-tls": {
        "both": both(
            variable("VOICEMESH_GATEWAY_PROXIED", '["tts"]'),
            variable("VOICEMESH_TTS_ADDR", "127.0.0.1:15053"),
            variable("VOICEMESH_TLS_CA", "/etc/voicemesh/tls/ca.crt"),
        )
    },
    "listens-where-asked": {
        "in the pod alone": variable("VOICEMESH_GATEWAY_LISTEN", "127.0.0.1:50050"),
        "elsewhere": variable("VOICEMESH_GATEWAY_LISTEN", "0.0.0.0:50059"),
    },
    "addresses-lead-somewhere": {
        "no such Service": variable("VOICEMESH_LLM_ADDR", "dns:///model.voicemesh.svc.cluster.local:50051"),
        "no such port": variable("VOICEMESH_LLM_ADDR", "dns:///llm.voicemesh.svc.cluster.local:50059"),
        "another namespace": variable("VOICEMESH_LLM_ADDR", "dns:///llm.default.svc.cluster.local:50051"),
        "not headless": variable(
            "VOICEMESH_LLM_ADDR", "dns:///gateway-http.voicemesh.svc.cluster.local:8080"
        ),
        "half a name": variable("VOICEMESH_LLM_ADDR", "dns:///llm.voicemesh.svc:50051"),
    },
    "pods-apart": {
        "a container by hand": pod("ephemeralContainers", value=[{"name": "x", "image": "x:1.2.3"}]),
        "one room for processes": pod("shareProcessNamespace", value=True),
        "other name servers": pod("dnsPolicy", value="None"),
        "all of proc": container("securityContext", "procMount", value="Unmasked"),
        "no AppArmor": pod("securityContext", "appArmorProfile", value={"type": "Unconfined"}),
        "root's files": pod("securityContext", "supplementalGroups", value=[0]),
        "as it was said once": put(
            "Deployment",
            "gateway",
            *("spec", "template", "metadata", "annotations"),
            value={"container.apparmor.security.beta.kubernetes.io/gateway": "unconfined"},
        ),
    },
    "mounts-follow": {
        "a token": volume(projected={"sources": [{"serviceAccountToken": {"path": "token"}}]}),
        "a part": put("Deployment", "tts", *CONTAINER, "volumeMounts", 1, "subPath", value="voices.json"),
    },
    "every-process-is-known": {
        "another name": container("name", value="main"),
        "another component": put(
            "Deployment",
            "gateway",
            *("spec", "template", "metadata", "labels", "app.kubernetes.io/component"),
            value="door",
        ),
        "one beside it": pod("containers", 1, value={"name": "more", "image": "voicemesh/llm:1.2.3"}),
        "another command": container("command", value=["sh", "-c", "true"]),
    },
    "secrets-found-by-key": {
        "misspelt": put(
            "Deployment", "cache", *CONTAINER, "env", 1, "valueFrom", "secretKeyRef", "key", value="redis"
        ),
    },
    "variables-once": {"twice": container("env", 1, value={"name": "OMP_NUM_THREADS", "value": "9"})},
    "services-stay-inside": {
        "a balancer": put("Service", "gateway-http", "spec", "type", value="LoadBalancer"),
        "an address": put("Service", "gateway", "spec", "externalIPs", value=["192.0.2.1"]),
        "another name": add(of("Service", apiVersion="v1", spec={"type": "ExternalName"})),
        "nothing": put("Service", "gateway", "spec", "selector"),
    },
    "analyses-ask-prometheus": {
        "pods of its own": put(
            "AnalysisTemplate", "", "spec", "metrics", 0, "provider", value={"job": {"spec": {}}}
        ),
    },
    "policies-of-the-table": {
        "one more": policy(ingress=[{"from": [{"ipBlock": {"cidr": "0.0.0.0/1"}}], "ports": [{"port": 1}]}]),
        "one that is wider": put(
            "NetworkPolicy", "llm", "spec", "ingress", 0, "from", 0, value={"namespaceSelector": {}}
        ),
    },
    "some-are-there": {
        "none": put("Deployment", "gateway", "spec", "replicas", value=0),
        "one that stands still": put("Deployment", "gateway", "spec", "paused", value=True),
        "all at once": put("PodDisruptionBudget", "gateway", "spec", "maxUnavailable", value="100%"),
        "both at once": put("PodDisruptionBudget", "gateway", "spec", "maxUnavailable", value=2),
        "a canary less": put("Rollout", "", "spec", "strategy", "canary", "maxUnavailable", value=1),
    },
    "processes-are-given-time": {
        "three seconds": container("livenessProbe", "periodSeconds", value=0.5),
        "a hook": container("lifecycle", value={"preStop": {"exec": {"command": ["sleep", "600"]}}}),
        "no share": container("resources", "limits", "cpu", value="0"),
    },
}
MUTATIONS: Final = tuple(
    Mutation(name, says, change) for name, changes in _CHANGES.items() for says, change in changes.items()
)


def blind(built: Iterable[Manifests]) -> Iterator[str]:
    """Say which rules do not see a change that breaks them, or have none."""
    places = sorted(built, key=lambda each: not each.where.startswith("overlays/"))
    for name in RULES.keys() - _CHANGES.keys():
        yield f"rule {name}: nothing in tools/k8s/mutations.py shows that it finds anything"
    before: dict[tuple[str, str], set[Breach]] = {}
    for mutation in MUTATIONS:
        for manifests in places:
            docs = list(copy.deepcopy(manifests.docs))
            if mutation.change(docs):
                changed = replace(manifests, docs=tuple(docs))
                place = (manifests.where, mutation.rule)
                if place not in before:
                    before[place] = set(breaches(manifests, (mutation.rule,)))
                if not set(breaches(changed, (mutation.rule,))) - before[place]:
                    yield f"rule {mutation.rule}: does not see {mutation.says!r} in {manifests.where}"
                break
        else:
            yield f"rule {mutation.rule}: {mutation.says!r} can be tried nowhere"
