"""Rules for what the processes of the mesh are told: known names, values that they take, secrets apart."""

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import opentelemetry.environment_variables
import opentelemetry.sdk.environment_variables

from k8s import environments, settings_env
from k8s.objects import MESH, Doc, Manifests, Workload, namespace_of, title_of
from k8s.rules.registry import rule
from k8s.rules.scaling import most_of
from voicemesh.runtime.tls import is_local
from voicemesh.secret_variables import is_secret

_TELEMETRY: Final = frozenset(
    value
    for module in (opentelemetry.environment_variables, opentelemetry.sdk.environment_variables)
    for name, value in vars(module).items()
    if name.startswith("OTEL_") and isinstance(value, str)
)
"""What the SDK of OpenTelemetry reads, in every process."""
_SECRETS: Final = frozenset(
    setting.variable
    for service in settings_env.SERVICES
    for setting in settings_env.settings_of(service)
    if setting.secret
)
_HOST: Final = re.compile(r"([a-z0-9-]+)\.([a-z0-9-]+)\.svc([a-z0-9.-]*)(?::(\d+))?")
"""Service, namespace, the rest of the name, port."""
_LIBRARIES: Final = frozenset({"OMP_NUM_THREADS"})
"""What libraries read, in every process."""
_OTHERS: Final = {"tts": frozenset({"HF_TOKEN"})}
"""What a process reads that is no setting of it."""


def processes(manifests: Manifests) -> Iterator[tuple[Workload, Doc]]:
    """Yield the containers that run a service of the mesh."""
    for workload in manifests.workloads:
        for container in workload.pod["containers"]:
            if container["name"] == workload.service:
                yield workload, container


@rule
def variables_known(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every variable of a process is one that this very process knows."""
    for workload, container in processes(manifests):
        found = environments.environment_of(manifests, container)
        known = {setting.variable for setting in settings_env.settings_of(workload.service)}
        contents = (each or {} for each in environments.mounted(manifests, workload, container).values())
        declared = environments.named_in(
            {**found.values, **{k: v for each in contents for k, v in each.items()}}
        )
        words = str([entry.get("value", "") for entry in container.get("env", ())])
        for name in found.values:
            used = name in declared or f"$({name})" in words
            if (
                name not in known | _TELEMETRY | _LIBRARIES | _OTHERS.get(workload.service, frozenset())
                and not used
            ):
                source = found.sources[name] or "its own"
                yield workload.title, f"{name} (of {source}) is no setting of the {workload.service} service"
        for problem in found.problems:
            yield workload.title, problem


@rule
def every_setting_listed(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Every process of the mesh gets its settings.env, and each secret of its by reference."""
    for workload, container in processes(manifests):
        named = [
            each["configMapRef"]["name"] for each in container.get("envFrom", ()) if "configMapRef" in each
        ]
        if not any(name.startswith(f"{workload.service}-settings") for name in named):
            yield workload.title, f"takes nothing of ConfigMap/{workload.service}-settings"
        given = environments.environment_of(manifests, container).secrets
        for setting in settings_env.settings_of(workload.service):
            if setting.secret and setting.variable not in given:
                yield workload.title, f"{setting.variable} comes by no secretKeyRef: nobody could set it"


@rule
def settings_accepted(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """The settings of a process take all that it would be given, with its optional secrets and without."""
    for workload, container in processes(manifests):
        found = environments.environment_of(manifests, container)
        files = environments.mounted(manifests, workload, container)
        without = {name: value for name, value in found.values.items() if name not in found.optional}
        said: dict[str, None] = {}
        for values in (found.values, without):
            with tempfile.TemporaryDirectory() as folder:
                said |= dict.fromkeys(environments.refusals(workload.service, values, files, Path(folder)))
        for text in said:
            yield workload.title, text


@rule
def files_mounted(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A setting that names a file names one that is mounted."""
    for workload, container in processes(manifests):
        files = environments.mounted(manifests, workload, container)
        for name, value in environments.environment_of(manifests, container).values.items():
            if not name.startswith("VOICEMESH_") or not value.startswith("/"):
                continue
            path, _, file = value.rpartition("/")
            above = next((mount for mount in files if f"{path}/".startswith(f"{mount.rstrip('/')}/")), None)
            if above is None:
                yield workload.title, f"{name}: nothing is mounted at {path}"
            elif (contents := files[above]) is not None and file not in contents:
                yield workload.title, f"{name}: {file!r} is not in what is mounted at {above}"


@rule
def secrets_by_reference(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No secret stands in a manifest: not as a setting, not as an object, not in an address."""
    for doc in manifests.of_kind("Secret"):
        for key in ("data", "stringData"):
            for name in doc.get(key) or {}:
                yield title_of(doc), f"{key}.{name} is in the manifests for all to read"
    for doc in manifests.of_kind("ConfigMap"):
        for name in doc.get("binaryData") or {}:
            yield title_of(doc), f"binaryData.{name}: nobody could read what it is"
        for name, value in (doc.get("data") or {}).items():
            if name in _SECRETS or (name.startswith("VOICEMESH_") and _holds_secret("", value)):
                yield title_of(doc), f"{name}: a secret; it comes by secretKeyRef"
    for workload in manifests.workloads:
        known = (
            {setting.variable for setting in settings_env.settings_of(workload.service)}
            if workload.service
            else ()
        )
        for container in workload.containers:
            found = environments.environment_of(manifests, container)
            for name, value in found.values.items():
                # A path leads to what a Secret mounts.
                if name in found.secrets or not value or value.startswith("/"):
                    continue
                if name in _SECRETS or _holds_secret("" if name in known else name, value):
                    yield workload.title, f"{name}: a secret; it comes by secretKeyRef"


def _holds_secret(name: str, value: str) -> bool:
    """Say whether it is a secret: by the name, as an address with a password, as a declaration with a key."""
    return is_secret(name, value) or '"api_key":' in value or '"headers":' in value


@rule
def caches_share_a_redis(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """Several cache pods of an overlay wait for a Redis: each alone would have histories of its own."""
    if not manifests.is_applied:
        return
    for workload, container in processes(manifests):
        if workload.service == "cache" and most_of(manifests, workload) > 1:
            found = environments.environment_of(manifests, container)
            if "VOICEMESH_REDIS_URL" not in found.values or "VOICEMESH_REDIS_URL" in found.optional:
                yield workload.title, "there may be several, and VOICEMESH_REDIS_URL may be missing"


@rule
def no_proxy_before_tls(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """No gateway speaks TLS to a proxy beside it: the proxy would need the gateway's key, and has none."""
    for workload, container in processes(manifests):
        told = environments.environment_of(manifests, container).values
        for service in _listed(told.get("VOICEMESH_GATEWAY_PROXIED", "")):
            address = told.get(f"VOICEMESH_{service.upper()}_ADDR", "")
            if told.get("VOICEMESH_TLS_CA") and is_local(address):
                yield (
                    workload.title,
                    f"the proxy at {address} speaks no TLS, and services want it: `mtls` or `least-request`",
                )


def _listed(value: str) -> list[str]:
    """Return the names in a setting that is a list; none where it is no list, which another rule says."""
    try:
        found = json.loads(value or "[]")
    except ValueError:
        return []
    return [str(each) for each in found] if isinstance(found, list) else []


@rule
def listens_where_asked(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """A process listens on the ports that its container names, and where others reach it."""
    for workload, container in processes(manifests):
        found = environments.environment_of(manifests, container).values
        ports = {str(port["containerPort"]): str(port.get("name")) for port in container.get("ports", ())}
        bound: dict[str, str] = {}
        for name, value in found.items():
            if not name.startswith("VOICEMESH_") or not name.endswith("_LISTEN") or not value:
                continue
            host, _, port = value.rpartition(":")
            if host not in ("0.0.0.0", "[::]"):
                yield workload.title, f"{name}: {value}: nobody outside the pod reaches it"
            bound[port] = name
        for port in bound.keys() - ports.keys():
            yield workload.title, f"{bound[port]}: the container names no port {port}"
        for port in ports.keys() - bound.keys():
            yield workload.title, f"port {port} ({ports[port]}): the process is not told to listen there"


@rule
def addresses_lead_somewhere(manifests: Manifests) -> Iterator[tuple[str, str]]:
    """An address in this cluster is that of a Service with this port, headless where gRPC asks."""
    for workload, container in processes(manifests):
        for name, value in environments.environment_of(manifests, container).values.items():
            for found in _HOST.finditer(value):
                yield from ((workload.title, f"{name}: {text}") for text in _wrong(manifests, value, found))


def _wrong(manifests: Manifests, value: str, address: re.Match[str]) -> Iterator[str]:
    name, namespace, rest, port = address.groups()
    service: dict[str, Any] | None = manifests.find("Service", name)
    if service is None:
        # Of another namespace nothing is known here.
        if namespace == MESH:
            yield f"there is no Service/{name}"
        return
    if namespace_of(service) != namespace:
        yield f"Service/{name} is not in the namespace {namespace}"
    if port not in {str(each["port"]) for each in service["spec"]["ports"]}:
        yield f"Service/{name} has no port {port}"
    if value.startswith("dns:") and service["spec"].get("clusterIP") != "None":
        yield f"Service/{name} is not headless: gRPC would see one address"
    if value.startswith("dns:") and rest != ".cluster.local":
        yield f"{address[0]} is not a whole name: each look-up would try the search domains first"
