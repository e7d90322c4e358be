"""A mesh with the certificates, folders and settings that k8s/components/mtls and keys give its pods."""

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.cert_manager import (
    CertManager,
    SecretVolume,
    documents,
    mounts_of,
    settings_in,
)
from tests.support.mesh import SERVICES, Mesh, Own, running_mesh_with
from voicemesh import keyfile
from voicemesh.client import SpeechOptions, Tls, VoiceMesh, VoiceMeshError
from voicemesh.tts.v1 import tts_pb2_grpc

pytestmark = pytest.mark.asyncio(loop_scope="module")
COMPONENTS = Path(__file__).resolve().parents[2] / "k8s" / "components"
MTLS, KEYS = COMPONENTS / "mtls", COMPONENTS / "keys"
MANIFESTS = [each for name in ("authorities", "certificates") for each in documents(MTLS / f"{name}.yaml")]
LEAVES = [f"{name}-tls" for name in SERVICES]
SHOP, KIOSK = (keyfile.new_key(name) for name in ("shop", "kiosk"))
GUARD_S = 60.0


def keys(*which: str) -> dict[str, bytes]:
    """Return what is in the Secret of the gateway's keys."""
    entries = [
        {
            "id": key.split("_")[1],
            "sha256": keyfile.digest(key),
            "tenant": "acme",
            "scopes": ["speak", "converse"],
        }
        for key in which
    ]
    return {"keys.json": json.dumps({"keys": entries}).encode()}


def settings_of(service: str) -> dict[str, str]:
    """Return what both components tell a process, as their generators merge it into its ConfigMap."""
    found: dict[str, str] = {}
    for component in (MTLS, KEYS):
        for generator in yaml.safe_load((component / "kustomization.yaml").read_text())["configMapGenerator"]:
            if generator["name"] == f"{service}-settings":
                for file in generator.get("envs", ()):
                    found |= settings_in(component / file)
                found |= dict(each.split("=", 1) for each in generator.get("literals", ()))
    return found


def name_of(service: str) -> str:
    return f"{service}.voicemesh.svc.cluster.local"


def showing(volumes: Mapping[str, SecretVolume], secret: str, service: str) -> Tls:
    """Return how who has a Secret speaks to a service."""
    ca, path = volumes["operator-tls"].path / "ca.crt", volumes[secret].path
    return Tls(
        ca=str(ca), cert=str(path / "tls.crt"), key=str(path / "tls.key"), server_name=name_of(service)
    )


def open_to(address: str, tls: Tls) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(address, tls.credentials(), options=tls.options(address))


@dataclass(frozen=True)
class Pods:
    """A mesh whose processes have what pods would have."""

    mesh: Mesh
    manager: CertManager
    volumes: Mapping[str, SecretVolume]
    """By the name of the Secret."""

    def client(self, key: str = SHOP) -> VoiceMesh:
        ca = str(self.volumes["gateway-edge-tls"].path / "ca.crt")
        tls = Tls(ca=ca, server_name=name_of("gateway"))
        return VoiceMesh(self.mesh.address("gateway"), tls=tls, api_key=key)

    async def reloaded(self, which: str, times: Mapping[str, int]) -> None:
        """Wait until processes have taken other certificates so many times."""
        for name, wanted in times.items():
            process = self.mesh.processes[name]
            while self.taken(name, which) < wanted:
                process.news.clear()
                await process.news.wait()

    def taken(self, name: str, which: str = "mesh") -> int:
        """Return how often a process has taken other certificates."""
        logs = self.mesh.processes[name].logs
        return sum(line["event"] == "certificates reloaded" and line["set"] == which for line in logs)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pods() -> AsyncIterator[Pods]:
    folder = Path(tempfile.mkdtemp(prefix="vm-pods-"))
    manager = CertManager(MANIFESTS)
    patches: list[dict[str, Any]] = [*documents(MTLS / "mounts.yaml"), *documents(KEYS / "gateway.yaml")]
    volumes: dict[str, SecretVolume] = {}
    own: dict[str, Own] = {}
    for service in SERVICES:
        mounts = [
            mount for patch in patches if patch["metadata"]["name"] == service for mount in mounts_of(patch)
        ]
        environment = settings_of(service)
        for mount in mounts:
            files = keys(SHOP) if mount.secret == "voicemesh-gateway-keys" else manager.secret(mount.secret)
            volumes[mount.secret] = SecretVolume(folder / service / mount.path.strip("/"), files)
            # Where the root of the container is.
            environment = {
                name: value.replace(mount.path, str(volumes[mount.secret].path))
                for name, value in environment.items()
            }
        own[service] = Own(environment={**environment, "VOICEMESH_TLS_RELOAD_S": "0.1"})
    volumes["operator-tls"] = SecretVolume(folder / "operator", manager.secret("operator-tls"))
    tls = {service: showing(volumes, "operator-tls", service) for service in SERVICES}
    edge = str(volumes["gateway-edge-tls"].path / "ca.crt")
    tls["gateway"] = Tls(ca=edge, server_name=name_of("gateway"))
    try:
        async with running_mesh_with({}, own=own, tls=tls) as mesh:
            yield Pods(mesh, manager, volumes)
    finally:
        shutil.rmtree(folder)


async def test_a_turn_is_spoken_and_nobody_complains(pods: Pods) -> None:
    async with asyncio.timeout(GUARD_S), pods.client() as client:
        heard = await client.ask("What is a lighthouse for?").collect()
    assert (heard.report.outcome, heard.report.degraded) == ("completed", ())
    assert heard.report.audio_ms > 0
    for process in pods.mesh.processes.values():
        worries = [line["event"] for line in process.logs if line["level"] in ("warning", "error")]
        assert not [each for each in worries if "certificate" in each or "key" in each or "plain" in each]


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "gateway"])
async def test_a_stranger_is_refused(pods: Pods, service: str, tmp_path: Path) -> None:
    """Who has no certificate, one of the edge's authority, or one of an authority of the same name."""
    impostor = SecretVolume(tmp_path / "impostor", CertManager(MANIFESTS).secret("gateway-tls"))
    address = pods.mesh.address(service)
    shown = [Tls(ca=str(pods.volumes["operator-tls"].path / "ca.crt"), server_name=name_of(service))]
    shown += [
        showing({**pods.volumes, "shown": volume}, "shown", service)
        for volume in (impostor, pods.volumes["gateway-edge-tls"])
    ]
    for channel in (*(open_to(address, tls) for tls in shown), grpc.aio.insecure_channel(address)):
        async with channel:
            check: Any = health_pb2_grpc.HealthStub(channel).Check
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await check(health_pb2.HealthCheckRequest(), timeout=GUARD_S)
            assert failed.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_pod_may_only_what_its_own_certificate_may(pods: Pods) -> None:
    address = pods.mesh.address("tts")
    # Who means another service does not believe this one.
    async with open_to(address, showing(pods.volumes, "gateway-tls", "cache")) as channel:
        call: Any = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
    async with open_to(address, showing(pods.volumes, "operator-tls", "tts")) as channel:
        stub: Any = tts_pb2_grpc.TtsServiceStub(channel)
        call = stub.Synthesize(timeout=GUARD_S)
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        assert "spiffe://cluster.local/voicemesh/operator may not call" in await call.details()


async def test_every_certificate_is_renewed_in_the_middle_of_a_turn(pods: Pods) -> None:
    before = {name: pods.taken(name) for name in SERVICES}

    async def words() -> AsyncIterator[str]:
        yield "One and two, "
        for secret in LEAVES:
            pods.volumes[secret].write(pods.manager.renew(secret))
        await pods.reloaded("mesh", {name: times + 1 for name, times in before.items()})
        yield "three and four."

    async with (
        asyncio.timeout(GUARD_S),
        pods.client() as client,
        client.converse(reply_cache=False, speech=SpeechOptions(max_lead_ms=0)) as conversation,
    ):
        for begun in (conversation.say(words()), conversation.ask("Who keeps a lighthouse?")):
            report = (await (await begun).collect()).report
            assert (report.outcome, report.degraded) == ("completed", ())
    events = [line["event"] for line in pods.mesh.processes["gateway"].logs]
    assert not {"not serving", "peer lost", "certificates refused"} & set(events)


async def test_an_authority_that_is_renewed_with_its_key_parts_nobody(pods: Pods) -> None:
    """Half of the mesh believes the new one and has certificates of it, half does not yet; then all do."""
    pods.manager.renew("voicemesh-ca")
    async with asyncio.timeout(GUARD_S), pods.client() as client:
        for part in (LEAVES[:3], LEAVES[3:]):
            before = {secret: pods.taken(secret.removesuffix("-tls")) for secret in part}
            for secret in part:
                pods.volumes[secret].write(pods.manager.renew(secret))
            times = {secret.removesuffix("-tls"): count + 1 for secret, count in before.items()}
            await pods.reloaded("mesh", times)
            report = (await client.ask("Who keeps it now?", reply_cache=False).collect()).report
            assert (report.outcome, report.degraded) == ("completed", ())


async def test_the_edge_is_renewed_for_callers_who_stay(pods: Pods) -> None:
    before = pods.taken("gateway", "edge")
    volume = pods.volumes["gateway-edge-tls"]
    async with asyncio.timeout(GUARD_S), pods.client() as staying:
        await staying.say("One.").collect()
        volume.write(pods.manager.renew("gateway-edge-tls"))
        await pods.reloaded("edge", {"gateway": before + 1})
        async with pods.client() as coming:
            await coming.say("Two.").collect()
        await staying.say("Three.").collect()


async def test_keys_are_given_and_taken_back_by_the_secret(pods: Pods) -> None:
    volume, gateway = pods.volumes["voicemesh-gateway-keys"], pods.mesh.processes["gateway"]

    async def changed(*which: str) -> None:
        seen = sum("keys" in line["event"] for line in gateway.logs)
        volume.write(keys(*which))
        while sum("keys" in line["event"] for line in gateway.logs) == seen:
            gateway.news.clear()
            await gateway.news.wait()

    async with asyncio.timeout(GUARD_S), pods.client(KIOSK) as kiosk, pods.client() as shop:
        with pytest.raises(VoiceMeshError, match="UNAUTHENTICATED"):
            await kiosk.say("One.").collect()
        await changed(SHOP, KIOSK)
        await kiosk.say("Two.").collect()
        await changed(KIOSK)
        with pytest.raises(VoiceMeshError, match="UNAUTHENTICATED"):
            await shop.say("Three.").collect()
        await kiosk.say("Four.").collect()
        await changed(SHOP, KIOSK)
