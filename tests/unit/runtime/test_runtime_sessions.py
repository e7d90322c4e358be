"""Sessions: tasks that outlive their call, but nothing else."""

import asyncio
import json

import pytest

from voicemesh.runtime import logs
from voicemesh.runtime.errors import NoEngineError
from voicemesh.runtime.sessions import SessionRegistry


async def forever() -> None:
    """Wait until cancelled."""
    await asyncio.Event().wait()


async def test_a_session_runs_tasks_until_they_end() -> None:
    registry = SessionRegistry()

    async def work() -> int:
        return 7

    task = registry.open().spawn(work(), "work")
    assert (len(registry), task.get_name()) == (1, "work")
    assert await task == 7
    await registry.join(timeout_s=5)
    assert len(registry) == 0


async def test_cancel_ends_the_tasks_of_one_session_and_returns_at_once() -> None:
    registry = SessionRegistry()
    one, other = registry.open(), registry.open()
    cancelled, left = one.spawn(forever(), "one"), other.spawn(forever(), "other")
    one.cancel()
    assert not cancelled.done()
    await asyncio.wait({cancelled})
    assert cancelled.cancelled()
    assert not left.done()
    other.cancel()
    await registry.join(timeout_s=5)


async def test_a_task_that_a_cancelled_session_begins_is_cancelled_too() -> None:
    registry = SessionRegistry()
    session = registry.open()
    session.cancel()
    late = session.spawn(forever(), "late")
    await registry.join(timeout_s=5)
    assert late.cancelled()


async def test_join_waits_for_tasks_that_tasks_begin() -> None:
    registry = SessionRegistry()
    session = registry.open()
    ended: list[str] = []

    async def child() -> None:
        await asyncio.sleep(0.01)
        ended.append("child")

    async def parent() -> None:
        await asyncio.sleep(0.01)
        session.spawn(child(), "child")
        ended.append("parent")

    session.spawn(parent(), "parent")
    await registry.join(timeout_s=5)
    assert ended == ["parent", "child"]


async def test_join_cancels_what_does_not_end() -> None:
    registry = SessionRegistry()
    task = registry.open().spawn(forever(), "slow")
    await registry.join(timeout_s=0.01)
    assert task.cancelled()


async def test_join_does_not_wait_for_a_task_that_will_not_end(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("test", level="info", fmt="json")
    registry, release = SessionRegistry(), asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    task = registry.open().spawn(stubborn(), "stubborn")
    await asyncio.sleep(0)
    await registry.join(timeout_s=0.01)
    assert not task.done()
    assert json.loads(capsys.readouterr().err)["tasks"] == ["stubborn"]
    release.set()
    await task


async def test_failures_are_logged_and_do_not_end_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("test", level="info", fmt="json")
    registry = SessionRegistry()
    session = registry.open()

    async def fail(error: Exception) -> None:
        raise error

    session.spawn(fail(ZeroDivisionError("oops")), "broken")
    session.spawn(fail(NoEngineError("nothing can speak")), "refused")
    left = session.spawn(forever(), "left")
    await asyncio.sleep(0.01)
    assert not left.done()
    broken, refused = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (broken["level"], broken["task"]) == ("error", "broken")
    assert "ZeroDivisionError: oops" in broken["exception"]
    assert (refused["level"], refused["reason"]) == ("warning", "NO_ENGINE")
    assert "exception" not in refused
    session.cancel()
    await registry.join(timeout_s=5)
