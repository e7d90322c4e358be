"""A mesh as a cluster runs it: each process on an address of its own, found by names whose records change.

    Cluster ── starts, deletes ──> process on 127.B.C.n, its service's port
       │                               ^ asked every `probe_s`, as kubelet does: does it accept calls?
       └── tells the zone ─────────────┘   ready: its address is told; deleted, or not ready: not any more
    gateway ── looks llm.voicemesh and its like up in the zone ── calls what it finds

Linux has all addresses of 127.0.0.0/8; elsewhere they must be made first.
"""

import asyncio
import contextlib
import pathlib
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.loopback import free_block
from tests.support.manifests import Manifest, manifest_of
from tests.support.mesh import AT_ONCE, SERVICES, Mesh, MeshProcess, Own, service_of
from tests.support.zone import Zone
from voicemesh.client import VoiceMesh

METRICS_PORT: Final = 9464
HTTP_PORT: Final = 8080
HEALTH_PORT: Final = 50060
_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_HIGHEST: Final = 250
_BACK_OFF_S: Final = 10.0
_MOST_BACK_OFF_S: Final = 300.0


@dataclass
class Pod:
    """One process, from its start to its end."""

    name: str
    address: str
    process: MeshProcess
    ready: bool = False
    """As its last probe said."""
    leaving: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once it is deleted, or asked to end with all others."""
    restarts: int = 0
    """How often its process was started again."""
    watching: "asyncio.Task[None] | None" = None


class Cluster(Mesh):
    """Processes with addresses of their own.

    A process that is started anew gets another address, as a pod does. Names are those of any mesh: `tts`,
    `tts-b`, ….

    Args:
        folder: For sockets that have no address.
        environment: Variables of every process, on top of the manifests' settings.
        zone: Knows the names.
        block: The first three numbers of all addresses; "": some that are free.
        replicas: Further processes.
        manifests: Of each service.
        told: Is given every line that a process writes, and its name; None: they are kept.
        patient: As for any mesh.
        restarts: As the attribute.

    Attributes:
        pods: Those that run, by name.
        restarts: Whether a process that ends by itself, or is killed, is started again in its pod, as kubelet
            does: at once, and then after 10 s, 20 s, … 5 minutes.

    """

    def __init__(
        self,
        folder: pathlib.Path,
        environment: Mapping[str, str],
        zone: Zone,
        *,
        block: str = "",
        replicas: Iterable[str] = (),
        manifests: Mapping[str, Manifest],
        told: Callable[[str, str], None] | None = None,
        patient: bool = True,
        restarts: bool = False,
    ) -> None:
        self.zone = zone
        self.pods: dict[str, Pod] = {}
        self._manifests = manifests
        self._block = block or _free_block(manifests)
        self._given = 0
        self._addresses: dict[str, str] = {}
        self._lines_to = told
        self.restarts = restarts
        names = {
            f"VOICEMESH_{service.upper()}_ADDR": self.target(service)
            for service in SERVICES
            if service != "gateway"
        }
        super().__init__(folder, {**names, **environment}, replicas=replicas, patient=patient)
        self._chosen = frozenset(environment)

    def target(self, service: str) -> str:
        """Return the name of a service, as gRPC is told it."""
        return self.zone.target(host_of(service), self._manifests[service].port)

    def address(self, name: str) -> str:
        """Return where a process listens."""
        if name not in self._addresses:
            self._addresses[name] = self._next_address()
        return f"{self._addresses[name]}:{self._manifests[service_of(name)].port}"

    def _next_address(self) -> str:
        taken = {pod.address for pod in self.pods.values()} | set(self._addresses.values())
        while True:
            self._given = self._given % _HIGHEST + 1
            if (address := f"{self._block}.{self._given}") not in taken:
                return address

    async def _spawn(self, name: str) -> MeshProcess:
        if (before := self.pods.pop(name, None)) is not None:
            before.leaving.set()
            await self._gone(before)
        if name in self.processes:
            self._addresses.pop(name, None)  # what comes back is another pod
        service = service_of(name)
        manifest = self._manifests[service]
        listen = self.address(name)
        host = listen.rpartition(":")[0]
        settings = {
            variable: value
            for variable, value in manifest.settings.items()
            # What is said for all processes goes before, also where the manifests have it in a file.
            if self._chosen.isdisjoint((variable, variable.removesuffix("_FILE")))
        }
        self.own = {
            **self.own,
            name: Own(
                environment={
                    **settings,
                    "VOICEMESH_LOG_FORMAT": "json",
                    "VOICEMESH_HTTP_ENABLED": "true",
                    "VOICEMESH_HTTP_LISTEN": f"{host}:{HTTP_PORT}",
                    "VOICEMESH_HEALTH_LISTEN": f"{host}:{HEALTH_PORT}",
                    f"VOICEMESH_{service.upper()}_METRICS_LISTEN": f"{host}:{METRICS_PORT}",
                }
            ),
        }
        process = await self._started(name)
        self.pods[name] = pod = Pod(name, host, process)
        pod.watching = asyncio.create_task(self._watch(pod), name=f"probe {name}")
        self._publish(service)
        return process

    async def _started(self, name: str) -> MeshProcess:
        process = await super()._spawn(name)
        if self._lines_to is not None:
            lines_to = self._lines_to
            process.told = lambda line: lines_to(name, line)
        return process

    # ------------------------------------------------------------ what kubelet and the control plane do

    async def _watch(self, pod: Pod) -> None:
        """Tell the address of a pod as long as it is ready, until it has ended and is not started again."""
        while True:
            await self._probe(pod)
            pod.ready = False
            if not self.restarts or pod.leaving.is_set():
                break
            self._publish(service_of(pod.name))
            pause_s = min(_MOST_BACK_OFF_S, _BACK_OFF_S * 2 ** (pod.restarts - 1)) if pod.restarts else 0.0
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pod.leaving.wait(), pause_s)
            if pod.leaving.is_set():
                break
            pod.process = self.processes[pod.name] = await self._started(pod.name)
            pod.restarts += 1
            if pod.leaving.is_set():  # whoever asked it to end has asked the process before
                await pod.process.stop()
        if self.pods.get(pod.name) is pod:
            del self.pods[pod.name]
        self._publish(service_of(pod.name))

    async def _probe(self, pod: Pod) -> None:
        """Ask a pod again and again whether it is ready; tell its address if so, until its process ends."""
        service = service_of(pod.name)
        manifest = self._manifests[service]
        ended = asyncio.create_task(pod.process.process.wait())
        request = health_pb2.HealthCheckRequest(service=manifest.probed)
        try:
            # kubelet connects anew for each probe: no refusal before makes a later one wait.
            async with grpc.aio.insecure_channel(f"{pod.address}:{HEALTH_PORT}", options=AT_ONCE) as channel:
                check = health_pb2_grpc.HealthStub(channel).Check
                while not ended.done():
                    try:
                        answer = await check(request, timeout=max(1.0, manifest.probe_s))
                        ready = answer.status == _SERVING
                    except grpc.aio.AioRpcError:
                        ready = False
                    if ready != pod.ready:
                        pod.ready = ready
                        self._publish(service)
                    # Until it has started it is asked by another probe, which is more often.
                    pause_s = manifest.probe_s if pod.ready else min(0.2, manifest.probe_s)
                    await asyncio.wait({ended}, timeout=pause_s)
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)

    def _publish(self, service: str) -> None:
        early = self._manifests[service].early
        told = [
            pod.address
            for pod in self.pods.values()
            if service_of(pod.name) == service and (early or (pod.ready and not pod.leaving.is_set()))
        ]
        self.zone.set(host_of(service), told)

    async def published(self, name: str) -> None:
        """Wait until the address of a pod is told."""
        pod, host = self.pods[name], host_of(service_of(name))
        while pod.address not in self.zone.get(host) or not pod.ready:  # noqa: ASYNC110 - a probe's time
            await asyncio.sleep(0.01)

    async def kill(self, name: str) -> bool:
        """Kill the process of a pod; say whether it was started again, once the pod is ready or deleted."""
        pod = self.pods[name]
        restarts = pod.restarts
        await pod.process.kill()
        while self.restarts and not pod.leaving.is_set():
            if pod.restarts > restarts and pod.ready:
                return True
            await asyncio.sleep(0.01)
        return False

    async def delete(self, name: str) -> int:
        """Delete a pod: its address is told no more, and it is asked to end; return its exit status."""
        pod = self.pods[name]
        pod.leaving.set()
        self._publish(service_of(name))
        status = await pod.process.stop()
        await self._gone(pod)
        return status

    async def roll(self, service: str) -> dict[str, int]:
        """Replace the pods of a service, one after another, each by one that is ready before the other goes.

        Return the exit statuses of those that went.
        """
        statuses = {}
        for name in [name for name in self.pods if service_of(name) == service]:
            new = self.new_name(service)
            await self.start(new)
            await self.published(new)
            statuses[name] = await self.delete(name)
        return statuses

    async def scale(self, service: str, count: int) -> None:
        """Have `count` pods of a service: start some that are missing, or delete the newest."""
        names = [name for name in self.pods if service_of(name) == service]
        further = []
        for _ in range(count - len(names)):
            further.append(self.new_name(service))
            await self.start(further[-1])
        await asyncio.gather(*(self.published(name) for name in further))
        await asyncio.gather(*(self.delete(name) for name in names[count:]))

    def new_name(self, service: str) -> str:
        """Return the name of a further process of a service."""
        number = 1 + sum(service_of(name) == service for name in self.processes)
        return f"{service}-{number}"

    async def _gone(self, pod: Pod) -> None:
        if pod.watching is not None:
            await pod.watching

    async def stop(self) -> dict[str, int]:
        """Stop everything, gateways first; return the exit statuses."""
        running = [pod for pod in self.pods.values() if pod.watching is not None]
        front = [pod for pod in running if service_of(pod.name) == "gateway"]
        statuses: dict[str, int] = {}
        for group in (front, [pod for pod in running if pod not in front]):
            for pod in group:
                pod.leaving.set()
            ended = await asyncio.gather(*(pod.process.stop() for pod in group))
            statuses |= {pod.name: status for pod, status in zip(group, ended, strict=True)}
        await asyncio.gather(*(self._gone(pod) for pod in running))
        return statuses


def host_of(service: str) -> str:
    """Return the name that stands for the pods of a service."""
    return f"{service}.voicemesh"


def manifests(*, probe_s: float | None = None) -> dict[str, Manifest]:
    """Return the manifests of every service; asked every `probe_s` seconds where that is given."""
    found = {service: manifest_of(service) for service in SERVICES}
    if probe_s is None:
        return found
    return {
        service: Manifest(each.settings, each.port, probe_s, each.probed, each.early)
        for service, each in found.items()
    }


def _free_block(manifests: Mapping[str, Manifest]) -> str:
    """Return three numbers of addresses that nobody has: not even what a run that was killed has left."""
    while True:
        block = free_block()
        try:
            for manifest in manifests.values():
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((f"{block}.1", manifest.port))
        except OSError:
            continue
        return block


@contextlib.asynccontextmanager
async def running_cluster(
    environment: Mapping[str, str],
    *,
    replicas: Iterable[str] = (),
    ttl_s: int = 0,
    probe_s: float | None = None,
    block: str = "",
    told: Callable[[str, str], None] | None = None,
    patient: bool = True,
    restarts: bool = False,
    lookup_s: float = 1.0,
) -> AsyncIterator[tuple[Cluster, VoiceMesh]]:
    """Run a mesh of pods; give it, and a client that looks the gateways up.

    Answers of the name server are kept for `ttl_s` seconds; `probe_s` is for the manifests' own. The rest is
    as for `Cluster`.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vm-"))
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        zone = await stack.enter_async_context(Zone(ttl_s).serving())
        pods = Cluster(
            folder,
            environment,
            zone,
            block=block,
            replicas=replicas,
            manifests=manifests(probe_s=probe_s),
            told=told,
            patient=patient,
            restarts=restarts,
        )
        stack.push_async_callback(pods.stop)
        await pods.start()
        await asyncio.gather(*(pods.published(name) for name in tuple(pods.pods)))
        async with VoiceMesh(pods.target("gateway"), lookup_s=lookup_s) as client:
            yield pods, client
