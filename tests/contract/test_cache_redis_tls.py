"""The cache service with the Redis of k8s/: over TLS, as a user with few rights, through renewals."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography import x509
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from tests.contract.cache_harness import (
    GUARD_S,
    audio,
    audio_key,
    history,
    history_key,
    running_cache,
    until,
)
from tests.support.cert_manager import CertManager, SecretVolume, documents
from tests.support.redis_component import COMPONENTS, NEXT_PASSWORD, PASSWORD, RedisPod, redis_pod
from voicemesh.cache.v1 import cache_pb2
from voicemesh.runtime.errors import SettingsError

pytestmark = pytest.mark.asyncio(loop_scope="module")
REDIS = cache_pb2.CACHE_TIER_REDIS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod() -> AsyncIterator[RedisPod]:
    async with redis_pod() as running:
        yield running


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/cache.sock"


async def shown(pod: RedisPod) -> int:
    """Return the serial number of the certificate that a new connection is shown."""
    context = ssl.create_default_context(cafile=str(pod.tls.path / "ca.crt"))
    _, writer = await asyncio.open_connection("localhost", pod.port, ssl=context)
    found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    await writer.wait_closed()
    return x509.load_der_x509_certificate(found).serial_number


def serial(pod: RedisPod) -> int:
    return x509.load_pem_x509_certificate((pod.tls.path / "tls.crt").read_bytes()).serial_number


async def test_entries_go_through_it_and_a_history_outlives_the_process(pod: RedisPod, address: str) -> None:
    async with running_cache(address, redis_url=pod.url()) as cache, cache.stream() as stream:
        assert (await stream.get(audio_key())).miss == cache_pb2.Miss()
        await stream.put(audio_key(), audio())
        await stream.put(history_key(), history("a"), 0)
    async with running_cache(f"{address}-2", redis_url=pod.url()) as cache, cache.stream() as stream:
        assert (await stream.get(audio_key())).hit.tier == REDIS
        assert (await stream.get(history_key())).hit.value == history("a")
        assert (await cache.invalidate(all=True)).redis_entries == 2


async def test_a_renewed_certificate_is_shown_and_parts_nobody(pod: RedisPod, address: str) -> None:
    async with (
        asyncio.timeout(GUARD_S),
        running_cache(address, redis_url=pod.url()) as cache,
        cache.stream() as stream,
    ):
        await stream.put(history_key("before"), history("a"), 0)
        await pod.says("certificate taken", 1)
        assert await pod.probe("redis-tls/redis.yaml", "certificates")
        assert await shown(pod) == serial(pod)
        old = serial(pod)
        pod.tls.write(pod.manager.renew("redis-tls"))
        await pod.says("certificate taken", 2)
        assert await shown(pod) == serial(pod) != old
        assert not (await stream.put(history_key("after"), history("b"), 0)).done.degraded
        async with running_cache(f"{address}-2", redis_url=pod.url()) as coming, coming.stream() as other:
            assert (await other.get(history_key("before"))).hit.tier == REDIS
            assert (await other.get(history_key("after"))).hit.tier == REDIS


async def test_a_damaged_certificate_is_refused_and_the_one_in_use_stays(pod: RedisPod) -> None:
    async with asyncio.timeout(GUARD_S):
        good = pod.manager.secret("redis-tls")
        await pod.says("certificate taken", 1)
        taken, used = pod.lines.count("certificate taken"), await shown(pod)
        pod.tls.write({**good, "tls.crt": b"damaged"})
        await until(lambda: any(line.startswith("certificate refused") for line in pod.lines))
        assert await shown(pod) == used
        pod.tls.write(pod.manager.renew("redis-tls"))
        await pod.says("certificate taken", taken + 1)
        assert await shown(pod) == serial(pod)


@pytest.mark.parametrize(
    "which", ["a wrong password", "plain text", "another authority", "a host that it is not", "no user"]
)
async def test_who_is_wrong_is_not_let_in_and_turns_go_on(
    pod: RedisPod, address: str, which: str, tmp_path: Path
) -> None:
    other = CertManager(documents(COMPONENTS / "mtls" / "authorities.yaml"))
    volume = SecretVolume(tmp_path / "other", other.secret("voicemesh-ca"))
    url = {
        "a wrong password": pod.url(password="wrong"),
        "plain text": pod.url().replace("rediss://", "redis://").partition("?")[0],
        "another authority": pod.url().replace(str(pod.tls.path), str(volume.path)),
        "a host that it is not": pod.url("127.0.0.1"),
        "no user": pod.url().replace(f"mesh:{PASSWORD}@", ""),
    }[which]
    async with running_cache(address, redis_url=url) as cache, cache.stream() as stream:
        assert (await stream.get(audio_key(which))).miss.degraded
        await stream.put(audio_key(which), audio())
        assert (await stream.get(audio_key(which))).hit.tier == cache_pb2.CACHE_TIER_MEMORY


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("probe", "anything"),
        ("certificates", ""),
        ("default", PASSWORD),
        ("mesh", PASSWORD),
        ("mesh", NEXT_PASSWORD),
    ],
)
async def test_nobody_may_more_than_is_needed(pod: RedisPod, user: str, password: str) -> None:
    password = password or (pod.run / "certificates.password").read_text().strip()
    commands = {
        "PING": ("probe", "mesh"),
        "SET voicemesh:x 1": ("mesh",),
        "SET theirs 1": (),
        "CONFIG GET dir": (),
        "FLUSHALL": (),
        "ACL LIST": (),
        "KEYS *": (),
        "SHUTDOWN": (),
    }
    client: Any = Redis.from_url(pod.url(user=user, password=password))
    try:
        for command, allowed in commands.items():
            work = client.execute_command(*command.split())
            if user in allowed:
                await work
            else:
                with pytest.raises(AuthenticationError if user == "default" else NoPermissionError):
                    await work
        if user == "certificates":
            # Redis has no rights for single settings; the password is in the pod's memory alone.
            with pytest.raises(ResponseError):
                await client.execute_command("CONFIG", "SET", "no-such-setting", "1")
    finally:
        await client.aclose()


async def test_it_is_a_cache(pod: RedisPod) -> None:
    """What does not fit makes room; nothing is on a disk."""
    pattern = "voicemesh:full:{}"
    client = Redis.from_url(pod.url())
    try:
        for number in range(4):
            await client.set(pattern.format(number), b"x" * 1000, px=60_000)
        assert await client.exists(pattern.format(0))
        assert not list(pod.run.glob("*.rdb"))
        with pytest.raises(RedisError):
            await client.save()
    finally:
        await client.aclose()


async def test_files_that_cannot_be_used_are_said_at_the_start(address: str) -> None:
    for file, why in (
        ("/nowhere/ca.crt", "No such file or directory"),
        (__file__, "no certificate or crl found"),
    ):
        url = f"rediss://mesh:secret-word@localhost:1/0?ssl_ca_certs={file}"
        with pytest.raises(SettingsError, match=f"VOICEMESH_REDIS_URL: names files of TLS .*{why}") as failed:
            async with running_cache(address, redis_url=url):
                pass
        assert "secret-word" not in str(failed.value)
