"""Channels that follow a name: a real name server, real servers on addresses of their own, as pods have."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.certificates import Authority
from tests.support.loopback import free_block
from tests.support.zone import Zone
from voicemesh.addresses import Name
from voicemesh.client import connecting
from voicemesh.following import FollowingChannel, LookupFailed, Moved, News
from voicemesh.lookups import look_up
from voicemesh.runtime.channels import open_channel
from voicemesh.runtime.health import HealthServicer, Readiness
from voicemesh.runtime.server import make_server
from voicemesh.runtime.settings import ServerSettings
from voicemesh.runtime.tls import PeerCredentials, ProcessTls
from voicemesh.runtime.tls_files import TlsFiles
from voicemesh.runtime.tls_reload import Certificates

GUARD_S = 60.0
HOST = "llm.voicemesh"
LOOKUP_S = 0.05


def new_addresses(count: int) -> list[str]:
    """Return addresses of this machine that no other test has."""
    block = free_block()
    return [f"{block}.{n}" for n in range(1, count + 1)]


async def until(true: Callable[[], bool]) -> None:
    """Wait for what other tasks, or gRPC, do."""
    async with asyncio.timeout(GUARD_S):
        while not true():  # noqa: ASYNC110 - above
            await asyncio.sleep(0.005)


class Pod:
    """A server on an address of its own, that notes who connects and watches, and says where it is."""

    def __init__(self, address: str, tls: ProcessTls | None = None) -> None:
        self.address = address
        self.watched: list[str] = []
        self.called: list[str] = []
        self.readiness = Readiness("tiny")
        self.server = make_server()
        self.tls = tls
        self.port = 0
        pod = self

        class Health(HealthServicer):
            async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
                pod.watched.append(context.peer())
                async for each in super().Watch(request, context):
                    yield each

        health_pb2_grpc.add_HealthServicer_to_server(Health(self.readiness), self.server)
        self.server.add_generic_rpc_handlers([_Where(self)])

    async def start(self, port: int = 0) -> int:
        listen = f"{self.address}:{port}"
        self.port = self.tls.bind(self.server, listen) if self.tls else self.server.add_insecure_port(listen)
        await self.server.start()
        await self.readiness.set(True, "ready")
        return self.port


class _Where(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in stubs only
    def __init__(self, pod: Pod) -> None:
        self._pod = pod

    def service(self, handler_call_details: Any) -> Any:
        if handler_call_details.method != "/tiny/Where":
            return None

        async def where(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            self._pod.called.append(context.peer())
            async for _ in requests:
                yield StringValue(value=self._pod.address)

        return grpc.stream_stream_rpc_method_handler(
            where,
            request_deserializer=StringValue.FromString,
            response_serializer=StringValue.SerializeToString,
        )


class Stream:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        begin: Any = channel.stream_stream(
            "/tiny/Where",
            request_serializer=StringValue.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        self.call = begin(wait_for_ready=True)

    async def where(self) -> str:
        await self.call.write(StringValue())
        answer: StringValue = await self.call.read()
        return answer.value

    async def end(self) -> None:
        await self.call.done_writing()
        assert await self.call.code() is grpc.StatusCode.OK


async def asked(channel: grpc.aio.Channel) -> str:
    stream = Stream(channel)
    answer = await stream.where()
    await stream.end()
    return answer


async def shares(channel: grpc.aio.Channel, calls: int = 60) -> Counter[str]:
    return Counter([await asked(channel) for _ in range(calls)])


class Lab:
    """Pods on one port behind a name, of which the zone tells some."""

    def __init__(self, zone: Zone, stack: contextlib.AsyncExitStack) -> None:
        self.zone = zone
        self.port = 0
        self.news: list[News] = []
        self._stack = stack

    async def pod(self, address: str, tls: ProcessTls | None = None) -> Pod:
        pod = Pod(address, tls)
        self.port = await pod.start(self.port)
        self._stack.push_async_callback(pod.server.stop, None)
        return pod

    async def channel(self, credentials: PeerCredentials | None = None) -> FollowingChannel:
        channel = open_channel(
            self.zone.target(HOST, self.port),
            credentials=credentials,
            watched=True,
            lookup_s=LOOKUP_S,
            tell=self.news.append,
        )
        assert isinstance(channel, FollowingChannel)
        await self._stack.enter_async_context(channel)
        return channel

    async def follows(self, channel: grpc.aio.Channel, addresses: set[str]) -> None:
        """Wait until calls go to all of these and to nobody else."""
        async with asyncio.timeout(GUARD_S):
            while set(await shares(channel, 4 * len(addresses))) != addresses:  # noqa: ASYNC110 - gRPC's time
                await asyncio.sleep(0.01)


@pytest.fixture(name="lab")
async def _lab() -> AsyncIterator[Lab]:
    async with contextlib.AsyncExitStack() as stack:
        zone = await stack.enter_async_context(Zone().serving())
        yield Lab(zone, stack)


async def test_what_comes_up_gets_its_share_and_what_goes_gets_nothing(lab: Lab) -> None:
    one, two, three = new_addresses(3)
    await lab.pod(one)
    await lab.pod(two)
    lab.zone.set(HOST, [one])
    channel = await lab.channel()
    assert await shares(channel, 4) == {one: 4}
    lab.zone.set(HOST, [one, two])
    await lab.follows(channel, {one, two})
    assert set((await shares(channel)).values()) == {30}
    await lab.pod(three)
    lab.zone.set(HOST, [two, three])
    await until(lambda: len(lab.news) >= 4)
    await lab.follows(channel, {two, three})
    changes = [(set(each.before), set(each.addresses)) for each in lab.news if isinstance(each, Moved)]
    assert changes == [
        (set(), {one}),
        ({one}, {one, two}),
        ({one, two}, {one, two, three}),
        ({one, two, three}, {two, three}),
    ]


async def test_connections_to_what_stays_are_kept_and_running_streams_go_on(lab: Lab) -> None:
    one, two, three = new_addresses(3)
    first = await lab.pod(one)
    second = await lab.pod(two)
    await lab.pod(three)
    lab.zone.set(HOST, [one])
    channel = await lab.channel()
    stream = Stream(channel)
    assert await stream.where() == one
    for addresses in ([one, two], [one, two, three], [two, three]):
        lab.zone.set(HOST, addresses)
        await lab.follows(channel, set(addresses))
    # It runs at a process whose address is not told any more, over the connection that it began on.
    assert await stream.where() == one
    await stream.end()
    for pod in (first, second):
        assert len(set(pod.called)) == 1, "a connection for each version of the channel"
        assert len(pod.watched) == 1, "a watch for each version of the channel"


async def test_one_that_is_known_before_it_accepts_calls_gets_them_at_once_when_it_does(lab: Lab) -> None:
    """As Kubernetes tells addresses with `publishNotReadyAddresses`."""
    one, two = new_addresses(2)
    await lab.pod(one)
    cold = Pod(two)
    lab.zone.set(HOST, [one, two])
    channel = await lab.channel()
    assert set(await shares(channel, 10)) == {one}  # nobody listens there
    cold.server.add_insecure_port(f"{two}:{lab.port}")
    await cold.server.start()
    await until(lambda: bool(cold.watched))
    assert set(await shares(channel, 10)) == {one}  # it listens, and is not ready
    await cold.readiness.set(True, "ready")
    await lab.follows(channel, {one, two})
    await cold.server.stop(None)


async def test_a_name_server_that_fails_changes_nothing_and_is_told_of_once(lab: Lab) -> None:
    one, two = new_addresses(2)
    await lab.pod(one)
    await lab.pod(two)
    lab.zone.set(HOST, [one])
    channel = await lab.channel()
    assert await asked(channel) == one
    await until(lambda: bool(lab.news))
    for failing in ("broken", "nameless"):
        lab.news.clear()
        lab.zone.broken = failing == "broken"
        lab.zone.set(HOST, [])
        lab.zone.asked.clear()
        await until(lambda: lab.zone.asked[HOST] > 20)
        assert await asked(channel) == one
        assert [type(each) for each in lab.news] == [LookupFailed]
        lab.zone.broken = False
        lab.zone.set(HOST, [one])
        lab.zone.asked.clear()
        await until(lambda: lab.zone.asked[HOST] > 4)
    lab.zone.set(HOST, [one, two])
    await lab.follows(channel, {one, two})


async def test_a_name_that_stands_for_nothing_at_first_is_found_when_it_does(lab: Lab) -> None:
    """gRPC alone would wait ever longer between two lookups, up to two minutes."""
    (one,) = new_addresses(1)
    pod = await lab.pod(one)
    channel = await lab.channel()
    channel.get_state(try_to_connect=True)
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    await until(lambda: bool(lab.news))
    lab.zone.set(HOST, [one])
    assert await asked(channel) == one
    assert len(set(pod.called)) == 1


async def test_who_waits_for_a_connection_is_told_of_one_of_another_version(lab: Lab) -> None:
    (one,) = new_addresses(1)
    await lab.pod(one)
    channel = await lab.channel()
    ready = asyncio.ensure_future(channel.channel_ready())
    changed = asyncio.ensure_future(channel.wait_for_state_change(grpc.ChannelConnectivity.TRANSIENT_FAILURE))
    await until(lambda: bool(lab.news))
    lab.zone.set(HOST, [one])
    async with asyncio.timeout(GUARD_S):
        await asyncio.gather(ready, changed)
    assert await asked(channel) == one


async def test_certificates_are_for_the_name_whatever_the_addresses(lab: Lab, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("llm", dns=(HOST,))
    mine = authority.issue("gateway")
    inside = {"tls_cert": str(pair.cert), "tls_key": str(pair.key), "tls_ca": str(authority.path)}

    def tls() -> ProcessTls:
        return ProcessTls("llm", ServerSettings.model_validate(inside))

    one, two = new_addresses(2)
    first = await lab.pod(one, tls())
    await lab.pod(two, tls())
    lab.zone.set(HOST, [one])
    held = Certificates("mesh", TlsFiles(str(mine.cert), str(mine.key), str(authority.path)))
    channel = await lab.channel(PeerCredentials(held, ""))
    stream = Stream(channel)
    assert await stream.where() == one
    lab.zone.set(HOST, [one, two])
    await lab.follows(channel, {one, two})
    # Who has no certificate for the name gets no call at its address.
    (three,) = new_addresses(1)
    stranger = authority.issue("llm", dns=("other.voicemesh",), file="stranger")
    theirs = {**inside, "tls_cert": str(stranger.cert), "tls_key": str(stranger.key)}
    impostor = await lab.pod(three, ProcessTls("llm", ServerSettings.model_validate(theirs)))
    lab.zone.set(HOST, [one, two, three])
    await until(lambda: any(isinstance(each, Moved) and three in each.addresses for each in lab.news))
    moved = channel.version
    await until(lambda: channel.version is not moved or len(lab.news) > 2)
    assert set(await shares(channel, 12)) == {one, two}
    assert not impostor.called
    assert not impostor.watched
    # New certificates make a new version too, to the same addresses.
    authority.issue("gateway")
    before, connections = channel.version, len(set(first.called))
    assert await held.look()
    await until(lambda: channel.version is not before)
    await lab.follows(channel, {one, two})
    assert len(set(first.called)) == connections + 1
    assert await stream.where() == one
    await stream.end()


async def test_long_answers_come_over_tcp_and_both_families_count(lab: Lab) -> None:
    many = [f"127.1.{n}.1" for n in range(60)]
    lab.zone.set(HOST, [*many, "::1"])
    name = Name(HOST, 1, "127.0.0.1", lab.zone.port)
    assert await look_up(name) == {*many, "::1"}
    assert lab.zone.asked[HOST] == 3  # one of them twice


async def test_what_cannot_be_asked_is_an_error_of_the_lookup(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_long = "a" * 64 + ".voicemesh"
    for name in (Name(too_long, 1), Name(too_long, 1, "127.0.0.1", lab.zone.port)):
        with pytest.raises(OSError, match="aaa"):
            await look_up(name)

    def no_more(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", no_more)
    with pytest.raises(OSError, match="can't start new thread"):
        await look_up(Name(HOST, 1))


async def test_the_machines_own_names_are_looked_up_as_the_machine_does() -> None:
    assert await look_up(Name("localhost", 1)) <= {"127.0.0.1", "::1"}


async def test_nobody_waits_for_a_lookup_that_hangs(lab: Lab) -> None:
    lab.zone.silent = True
    name = Name(HOST, 1, "127.0.0.1", lab.zone.port)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await look_up(name)
    with pytest.raises(OSError, match="timed out"):
        await look_up(name)


@pytest.mark.parametrize("proxy", ["", "http://127.0.0.1:9"])
async def test_a_proxy_is_asked_for_the_name_over_tls(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    monkeypatch.setenv("https_proxy", proxy)
    tls, options = grpc.ssl_channel_credentials(), connecting.channel_options(5)
    for credentials in (tls, None):
        async with connecting.open_channel("gateway.example:50050", options, credentials, 5) as channel:
            follows = isinstance(channel, FollowingChannel)
            assert follows is (credentials is None or not proxy)
