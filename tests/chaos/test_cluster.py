"""What `test_replicas.py` does to processes at fixed addresses, done to pods: each has an address of its own.

They are found by names whose records change as pods become ready and go, and are kept by a name server for
a second, as a cluster's are.
"""

import asyncio
import json
import signal
from collections import Counter

from tests.chaos.test_replicas import BEHIND, GUARD_S, listen, nothing_was_heard, under_turns
from tests.support.cluster import Cluster, running_cluster
from tests.support.mesh import SERVICES, service_of
from tests.support.rolling import REPLICAS, VOICE, Callers
from voicemesh.client import VoiceMesh

TOLD = {
    "VOICEMESH_TTS_VOICES": json.dumps([VOICE]),
    "VOICEMESH_LOG_LEVEL": "debug",
    "VOICEMESH_REHEARSAL_TOKENS_PER_S": "60",
    # The manifests' is for load balancers that nobody has here.
    "VOICEMESH_DRAIN_NOTICE_S": "0.2",
}
METHODS = {
    "llm": "Generate",
    "chunker": "Chunk",
    "tts": "Synthesize",
    "cache": "Exchange",
    "gateway": "Speak",
}


def answered(pods: Cluster) -> Counter[str]:
    """Return how many turns' calls each pod that runs has answered so far."""
    return Counter(
        {
            name: sum(
                line.get("event") == "call ended" and str(line["method"]).endswith(METHODS[service_of(name)])
                for line in pod.process.logs
            )
            for name, pod in pods.pods.items()
        }
    )


async def test_pods_come_and_go_behind_names_and_nobody_hears_it() -> None:
    async with (
        asyncio.timeout(GUARD_S),
        running_cluster(TOLD, replicas=REPLICAS, ttl_s=1, probe_s=0.1) as (
            pods,
            client,
        ),
    ):
        callers = Callers(client)
        await callers.learn()
        before = set(pods.pods)
        statuses: dict[str, int] = {}

        async def roll() -> None:
            for each in await asyncio.gather(*(pods.roll(service) for service in SERVICES)):
                statuses.update(each)
            await shared(pods)

        counts = await callers.run(20, roll)
        assert counts.bad == []
        assert counts.turns >= 20
        assert statuses == dict.fromkeys(before, 0)
        assert not before & set(pods.pods)
        async with VoiceMesh(client.address, stall_s=GUARD_S) as patient:
            whole = {
                asked: (await listen(patient, asyncio.Event(), asked=asked)).audio for asked in (True, False)
            }
            victims = tuple(next(name for name in pods.pods if service_of(name) == each) for each in BEHIND)
            nothing_was_heard(await under_turns(pods, patient, victims, signal.SIGKILL), whole)
        await comes_back(pods, "chunker")
        for pod in pods.pods.values():
            assert "unknown setting" not in [line["event"] for line in pod.process.logs], pod.name


async def comes_back(pods: Cluster, service: str) -> None:
    """Kill a process as kubelet would find it, and see it start again in the same pod."""
    pods.restarts = True
    name = next(name for name in pods.pods if service_of(name) == service)
    pod, process = pods.pods[name], pods.pods[name].process
    address = pod.address
    assert await pods.kill(name)
    assert pods.pods[name] is pod
    assert pod.process is not process
    assert (pod.restarts, pod.address, pod.ready) == (1, address, True)
    # Asked to end while it waits to be started once more, it does not come back.
    await pod.process.kill()
    await pods.delete(name)
    assert name not in pods.pods
    assert pod.restarts == 1


async def shared(pods: Cluster) -> None:
    """Wait until each pod of a service gets as many new turns as any other, while somebody asks."""
    while True:
        before = answered(pods)
        while (now := answered(pods)).total() < before.total() + 60:  # noqa: ASYNC110 - what processes log
            await asyncio.sleep(0.05)  # other processes write it: there is no event
        new = now - before
        by_service = {
            service: [new[name] for name in pods.pods if service_of(name) == service] for service in SERVICES
        }
        if all(len(each) == 2 and 2 * min(each) >= max(each) for each in by_service.values()):
            return
