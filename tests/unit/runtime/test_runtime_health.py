"""Readiness: what is told, and to whom."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from grpc_health.v1 import health_pb2

from voicemesh.runtime.health import ACCEPTS, ALIVE, HealthServicer, Readiness

NAME = "voicemesh.tts.v1.TtsService"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def watch(readiness: Readiness, name: str = NAME) -> AsyncIterator[Any]:
    """Watch as a peer would."""
    return HealthServicer(readiness).Watch(health_pb2.HealthCheckRequest(service=name), None)


async def listed(readiness: Readiness) -> dict[str, int]:
    """Return what is said of each name."""
    statuses = (await HealthServicer(readiness).List(health_pb2.HealthListRequest(), None)).statuses
    return {name: found.status for name, found in statuses.items()}


async def test_nothing_is_served_before_it_is_said() -> None:
    readiness = Readiness(NAME)
    assert await listed(readiness) == {**dict.fromkeys(("", NAME, ACCEPTS), NOT_SERVING), ALIVE: SERVING}
    await readiness.set(True, "warm")
    assert await listed(readiness) == dict.fromkeys(("", NAME, ACCEPTS, ALIVE), SERVING)


async def test_a_watcher_is_told_each_change_until_the_process_ends() -> None:
    readiness = Readiness(NAME)
    watching = watch(readiness)
    assert (await anext(watching)).status == NOT_SERVING
    for serving in (True, False, True):
        next_one = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0)
        await readiness.set(serving, "test")
        assert (await next_one).status == (SERVING if serving else NOT_SERVING)
    await readiness.drain()
    readiness.end()
    assert [told.status async for told in watching] == [NOT_SERVING]


async def test_a_watcher_of_a_service_that_was_not_serving_sees_its_end() -> None:
    readiness = Readiness(NAME)
    watching = watch(readiness)
    assert (await anext(watching)).status == NOT_SERVING
    the_end = asyncio.ensure_future(anext(watching, None))
    await asyncio.sleep(0)
    await readiness.drain()
    await asyncio.sleep(0)
    assert not the_end.done()
    readiness.end()
    assert await the_end is None


async def test_a_watcher_that_does_not_read_holds_nobody_up() -> None:
    readiness = Readiness(NAME)
    watching = watch(readiness)
    assert (await anext(watching)).status == NOT_SERVING
    for serving in (True, False, True):
        await readiness.set(serving, "test")
    assert (await anext(watching)).status == SERVING


async def test_a_strange_name_is_unknown_and_may_be_watched() -> None:
    readiness = Readiness(NAME)
    watching = watch(readiness, "no.such.Service")
    assert (await anext(watching)).status == SERVICE_UNKNOWN
    await readiness.drain()
    readiness.end()
    assert [told async for told in watching] == []


async def test_nothing_is_served_again_after_the_drain() -> None:
    readiness = Readiness(NAME)
    await readiness.set(True, "warm")
    await readiness.drain()
    await readiness.drain()
    await readiness.set(True, "warm again")
    assert not readiness.serving


async def test_calls_are_accepted_from_the_end_of_the_start_to_the_drain_however_ill_it_is() -> None:
    readiness = Readiness(NAME)
    watching = watch(readiness, ACCEPTS)
    assert (await anext(watching)).status == NOT_SERVING
    assert readiness.watchers == 1
    readiness.accept()
    assert (await anext(watching)).status == SERVING
    await readiness.set(True, "warm")
    await readiness.set(False, "one voice of ten is broken")
    next_one = asyncio.ensure_future(anext(watching))
    await asyncio.sleep(0)
    assert not next_one.done()
    await readiness.drain()
    assert (await next_one).status == NOT_SERVING
    readiness.accept()
    await readiness.set(True, "too late")
    assert not readiness.accepting
    readiness.end()
    assert await anext(watching, None) is None
    assert readiness.watchers == 0


async def test_it_is_alive_from_its_first_answer_to_its_last_whatever_else_it_says() -> None:
    readiness = Readiness(NAME)
    watching = watch(readiness, ALIVE)
    assert (await anext(watching)).status == SERVING
    await readiness.set(True, "warm")
    await readiness.set(False, "its provider is gone")
    await readiness.drain()
    assert (await listed(readiness))[ALIVE] == SERVING
    readiness.end()
    assert await anext(watching, None) is None
