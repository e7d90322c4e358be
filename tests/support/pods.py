"""Pods of the manifests as processes of this machine, and kubelet's part in their lives.

manifest                         here
image, command                   python -m, by the component's name
envFrom, env                     its environment; what is optional and in no Secret is left out
0.0.0.0:PORT                     PORT of an address of 127/8 that the pod has for itself
dns:///NAME.NAMESPACE.svc…:PORT  that of the pods behind the name
volumes from ConfigMaps          files in a folder
probes                           asked as kubelet asks them: a plain connection to the pod, a name, one answer
"""

import asyncio
import base64
import pathlib
import re
import subprocess
import sys
from asyncio.subprocess import PIPE
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.mesh import MeshProcess, read_lines
from tests.support.programs import program
from tests.support.warm import MESH, Running, warm

ROOT: Final = pathlib.Path(__file__).resolve().parents[2]
COMPONENT: Final = "app.kubernetes.io/component"
PROBES: Final = ("startupProbe", "readinessProbe", "livenessProbe")
_PROBE_S: Final = 30.0
_ANYWHERE: Final = "0.0.0.0:"
_NAME: Final = re.compile(r"dns:///([a-z-]+)\.voicemesh\.svc\.cluster\.local:(\d+)")
_MODULES: Final = {"gateway": "gateway", **{n: f"services.{n}" for n in ("llm", "chunker", "tts", "cache")}}


def build(path: str) -> list[dict[str, Any]]:
    """Return the objects of an overlay, by its path in the repository."""
    done = subprocess.run([program("kubectl"), "kustomize", path], cwd=ROOT, capture_output=True, check=True)
    return [each for each in yaml.safe_load_all(done.stdout) if each]


@dataclass
class Pod:
    """One pod of a Deployment: its container as a process.

    Attributes:
        component: What it is of the mesh.
        address: Its address on this machine.
        spec: Of the pod, as the manifest has it.
        container: The one that it has.
        environment: Of its process.

    """

    component: str
    address: str
    spec: Mapping[str, Any]
    container: Mapping[str, Any]
    environment: dict[str, str] = field(default_factory=dict)
    _process: MeshProcess | None = None

    async def start(self) -> None:
        """Start its process."""
        module = _MODULES[self.component]
        process: Running = await warm.start(
            MESH, module, environment=self.environment, stdin=PIPE, stderr=PIPE
        )
        self._process = MeshProcess(self.component, process)
        self._process.reader = asyncio.create_task(read_lines(process, self._process))

    @property
    def process(self) -> MeshProcess:
        """Its process, once it was started."""
        assert self._process is not None
        return self._process

    def port(self, name: str) -> str:
        """Return where a port is reached, by its name."""
        ports = {each["name"]: each["containerPort"] for each in self.container["ports"]}
        return f"{self.address}:{ports[name]}"

    async def probe(self, kind: str) -> bool:
        """Ask once, as kubelet does for the probe of that kind; return whether it passes."""
        how = self.container[kind]["grpc"]
        async with grpc.aio.insecure_channel(f"{self.address}:{how['port']}") as channel:
            request = health_pb2.HealthCheckRequest(service=how["service"])
            try:
                # Not its `timeoutSeconds`: how busy this machine is says nothing about the manifest.
                told = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=_PROBE_S)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise  # as NOT_FOUND: there is no such name
                return False
        return bool(told.status == health_pb2.HealthCheckResponse.SERVING)

    async def until(self, kind: str, *, passes: bool = True) -> None:
        """Probe until it passes, or does not."""
        while await self.probe(kind) is not passes:
            if self.process.process.returncode is not None:
                raise AssertionError(f"{self.component} has ended:\n" + "\n".join(self.process.lines[-20:]))
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Held:
    """What ConfigMaps and Secrets hold.

    Attributes:
        objects: All that there are, of every kind.

    """

    objects: list[dict[str, Any]]

    @property
    def configs(self) -> dict[str, dict[str, str]]:
        """What each ConfigMap holds, by its name."""
        return {
            each["metadata"]["name"]: each["data"] for each in self.objects if each["kind"] == "ConfigMap"
        }

    def secret(self, name: str, key: str) -> str | None:
        """Return what a Secret holds; None where it is not there."""
        for each in self.objects:
            if each["kind"] == "Secret" and each["metadata"]["name"] == name and key in each["data"]:
                return base64.b64decode(each["data"][key]).decode()
        return None


def pods_of(objects: Iterable[dict[str, Any]], folder: pathlib.Path, network: str) -> dict[str, Pod]:
    """Return a pod of each Deployment of the mesh's own, by component.

    `folder` is for what they mount; `network` is the beginning of their addresses, as "127.1.2.".
    """
    objects = list(objects)
    held = Held(objects)
    pods: dict[str, Pod] = {}
    for each in objects:
        if each["kind"] == "Deployment" and each["metadata"]["labels"].get(COMPONENT) in _MODULES:
            component = each["metadata"]["labels"][COMPONENT]
            spec = each["spec"]["template"]["spec"]
            (container,) = spec["containers"]
            pods[component] = Pod(component, f"{network}{len(pods) + 1}", spec, container)
    for pod in pods.values():
        pod.environment.update(_environment(pod, held, pods, folder / pod.component))
    return pods


def _environment(pod: Pod, held: Held, pods: Mapping[str, Pod], folder: pathlib.Path) -> dict[str, str]:
    told: dict[str, str] = {}
    for source in pod.container.get("envFrom", ()):
        told.update(held.configs[source["configMapRef"]["name"]])
    for each in pod.container.get("env", ()):
        if "value" in each:
            told[each["name"]] = each["value"]
            continue
        wanted = each["valueFrom"]["secretKeyRef"]
        value = held.secret(wanted["name"], wanted["key"])
        assert value is not None or wanted.get("optional"), f"{each['name']} needs a Secret"
        if value is not None:
            told[each["name"]] = value
    mounts = _mounted(pod, held, folder)

    def here(value: str) -> str:
        for path, real in mounts.items():
            if value.startswith(f"{path}/"):
                return f"{real}{value.removeprefix(path)}"
        if value.startswith(_ANYWHERE):
            return value.replace(_ANYWHERE, f"{pod.address}:")
        return _NAME.sub(lambda found: f"dns:///{pods[found[1]].address}:{found[2]}", value)

    return {
        "PATH": str(pathlib.Path(sys.executable).parent),
        **{name: here(value) for name, value in told.items()},
        # A busy machine must not make lookups late.
        "VOICEMESH_GATEWAY_CACHE_TIMEOUT_MS": "2000",
        "VOICEMESH_GATEWAY_HISTORY_TIMEOUT_MS": "2000",
        "VOICEMESH_CACHE_REDIS_TIMEOUT_MS": "1500",
    }


def _mounted(pod: Pod, held: Held, folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Write what it mounts of ConfigMaps; return where, by the path in the container."""
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    mounted = {}
    for mount in pod.container["volumeMounts"]:
        config = volumes[mount["name"]].get("configMap")
        if config is not None:
            real = folder / mount["name"]
            real.mkdir(parents=True)
            for name, text in held.configs[config["name"]].items():
                (real / name).write_text(text)
            mounted[mount["mountPath"]] = real
    return mounted
