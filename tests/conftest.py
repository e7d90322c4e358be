"""What every test gets: guards against what a test must not leave behind, and fresh addresses."""

import asyncio
import ctypes
import inspect
import logging
import os
import pathlib
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator

import psutil
import pytest
import structlog
from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture import providers

from tests.support.warm import warm

# A module of tests that others import: its assertions are to explain themselves too.
pytest.register_assert_rewrite("tests.contract.engine_suite", "tests.contract.engine_harness")

# How long an example takes says how busy the machine is: a deadline would fail tests by chance. A run has the
# same examples as the one before it, so that it tells what a change did; `make search` looks for new ones.
settings.register_profile(
    "voicemesh", deadline=None, suppress_health_check=(HealthCheck.too_slow,), derandomize=True
)
settings.register_profile(
    "search", settings.get_profile("voicemesh"), derandomize=False, max_examples=1_000, print_blob=True
)
settings.load_profile("voicemesh")
# Hypothesis also tries constants of the code that happens to be imported: another set in each worker.
assert callable(providers._get_local_constants)  # there is no setting for it
providers._get_local_constants = lambda: providers._local_constants

_SETTLE_S = 5.0
"""How long tasks and processes that are ending may take to end. Only a failing test waits for it."""

_BLOCKED_S = 3.0
"""Far above anything but a blocking call, also on a machine that is busy with other work."""

_HANG_S = 180.0
"""No test takes nearly as long. One that does is ended, with the stacks of its tasks."""

_OURS = ("VOICEMESH_", "OPENAI_", "OTEL_")


@pytest.fixture(scope="session", autouse=True)
def clean_environment() -> Iterator[None]:
    """Take away what the person at the keyboard has set: a test says all that it depends on."""
    with pytest.MonkeyPatch.context() as patch:
        for name in tuple(os.environ):
            if name.startswith(_OURS) or name.lower().endswith("_proxy"):
                patch.delenv(name)
        yield


@pytest.fixture(autouse=True)
def leave_no_logging() -> Iterator[None]:
    """Take back what a test has set up for logging: it is one for the whole process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    if root.handlers != handlers:
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture(scope="session", autouse=True)
def warm_starts(clean_environment: None) -> Iterator[None]:
    """Let processes of the mesh be forks of one that has imported them."""
    with warm.allowed():
        yield


@pytest.fixture(scope="session", autouse=True)
def adopt_orphans() -> None:
    """Become the parent of processes whose parent has died, so that the guard below sees them."""
    if sys.platform == "linux":
        pr_set_child_subreaper = 36
        ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)


@pytest.fixture(autouse=True)
def leave_no_process(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test that leaves a process behind (and an asyncio test that leaves a task behind)."""
    if inspect.iscoroutinefunction(inspect.unwrap(request.function)):
        request.getfixturevalue("leave_no_task")
    before = _processes()
    yield
    deadline = time.monotonic() + _SETTLE_S
    while (left := _processes() - before) and time.monotonic() < deadline:
        time.sleep(0.02)  # a process that ends sets no event here; only a failing test waits long
    if left:
        names = [_describe(process) for process in left]
        for process in left:
            process.kill()
        pytest.fail(f"processes left behind: {names}")


@pytest.fixture
async def leave_no_task() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind, that blocks the event loop, or that never ends."""
    loop = asyncio.get_running_loop()
    pulse = loop.create_task(_pulse(loop), name="pulse")
    before = asyncio.all_tasks()
    hang_guard = loop.call_later(_HANG_S, _end_tasks, before)
    yield
    hang_guard.cancel()
    deadline = loop.time() + _SETTLE_S
    # The task that runs this line is a new one.
    while (left := asyncio.all_tasks() - before - {asyncio.current_task()}) and loop.time() < deadline:
        await asyncio.wait(left, timeout=0.02)
    pulse.cancel()
    (slowest,) = await asyncio.gather(pulse)
    assert not left, f"tasks left behind: {sorted(map(repr, left))}"
    assert slowest < _BLOCKED_S, f"the event loop was blocked for {slowest:.1f} s"


def _end_tasks(but: set["asyncio.Task[object]"]) -> None:
    for task in asyncio.all_tasks() - but:
        task.print_stack(file=sys.stderr)
        task.cancel("the test does not end")


async def _pulse(loop: asyncio.AbstractEventLoop) -> float:
    """Measure how late the loop wakes a sleeper, until cancelled; return the worst, in seconds."""
    slowest, period = 0.0, 0.25
    while True:
        asleep = loop.time()
        try:
            await asyncio.sleep(period)
        except asyncio.CancelledError:
            return slowest
        slowest = max(slowest, loop.time() - asleep - period)


def _processes() -> set[psutil.Process]:
    """Return the children that live, but for those that stay on purpose: multiprocessing's and images."""
    return {
        child
        for child in psutil.Process().children()
        if child.pid not in warm.pids
        and (command := _command(child))
        and not any("resource_tracker" in word for word in command)
    }


def _command(process: psutil.Process) -> list[str]:
    try:
        # A process that has ended and waits to be reaped has none.
        return process.cmdline()
    except psutil.NoSuchProcess:
        return []


def _describe(process: psutil.Process) -> str:
    return f"{process.pid} {' '.join(_command(process))[:200]}"


@pytest.fixture
def socket_folder() -> Iterator[pathlib.Path]:
    """Make a folder for sockets. `tmp_path` may be too long: the path of a socket has 107 bytes at most."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="vm-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def unix_address(socket_folder: pathlib.Path) -> str:
    """Return a free address to listen on."""
    return f"unix:{socket_folder}/socket"
