"""What a process measures of itself, beside what the system says of it."""

import asyncio
import os
import platform

import psutil

from tests.support.measured import Measured
from voicemesh.runtime import process_metrics
from voicemesh.runtime.process_metrics import ProcessMetrics


async def test_the_system_agrees_with_what_a_process_says_of_itself(tmp_path):
    measured, own = Measured(), psutil.Process()
    ProcessMetrics(measured.metrics)
    cpu = {mode: seconds for (mode,), seconds in measured.points(process_metrics.CPU_TIME).items()}
    times = own.cpu_times()
    assert 0 <= times.user - cpu["user"] < 5
    assert 0 <= times.system - cpu["system"] < 5
    held = measured.value(process_metrics.MEMORY)
    assert 0.5 < held / own.memory_info().rss < 2
    files = measured.value(process_metrics.FILES)
    assert files == own.num_fds() - 1  # it counts the one that it needs to look
    with (tmp_path / "one more").open("w"):
        assert measured.value(process_metrics.FILES) == files + 1
    labels = (platform.python_version(), process_metrics.version())
    assert measured.points(process_metrics.BUILD) == {labels: 1}
    measured.close()


async def test_a_loop_that_is_held_up_lags():
    measured = Measured()
    process = ProcessMetrics(measured.metrics)
    process.start()
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(30):
        while not measured.points(process_metrics.LOOP_LAG):  # noqa: ASYNC110 - it sets no event
            await asyncio.sleep(0.01)
    before = measured.value(process_metrics.LOOP_LAG)
    until_s = loop.time() + 1.1
    while loop.time() < until_s:
        os.getpid()  # two of its wakes are due meanwhile
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    after = measured.value(process_metrics.LOOP_LAG)
    assert after.count > before.count
    assert after.sum - before.sum > 0.1
    process.stop()
    measured.close()
