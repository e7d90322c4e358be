"""A process that is a fork of an image is as one that a command has started."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE

import psutil
import pytest

from tests.support.warm import ROOT, Image, WarmProcess, warm

PROBE = "tests.contract.warm_probe"
IMAGE = Image(("asyncio", "json"), flags=("-W", "error", "-X", "utf8"))
ENVIRONMENT = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PROBE_ONE": "1"}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets orphans be adopted")


def without_frames(traceback: bytes) -> list[bytes]:
    return [line for line in traceback.splitlines() if not re.match(rb"\s", line)]


@pytest.mark.parametrize("end", ["well", "number", "text", "error", "interrupt", "killed", "thread"])
async def test_it_is_as_one_that_a_command_has_started(tmp_path, end):
    arguments = (end, "", b"\xff", "ä b")
    forked = await warm.start(
        IMAGE, PROBE, *arguments,
        environment=ENVIRONMENT, folder=tmp_path, stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    assert isinstance(forked, WarmProcess)
    spawned = await asyncio.create_subprocess_exec(
        sys.executable, *IMAGE.flags, "-m", PROBE, *arguments,
        cwd=tmp_path, env=ENVIRONMENT, stdin=PIPE, stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    (out, err), (wanted_out, wanted_err) = await asyncio.gather(
        *(process.communicate(b"two\nlines") for process in (forked, spawned))
    )
    assert (out, forked.returncode) == (wanted_out, spawned.returncode)
    assert without_frames(err) == without_frames(wanted_err)
    assert b"PROBE_ONE" in out


async def test_it_is_a_child_that_can_be_waited_for_and_killed():
    process = await warm.start(IMAGE, PROBE, "well", environment=ENVIRONMENT, stdin=PIPE, stdout=PIPE)
    assert psutil.Process(process.pid).ppid() == os.getpid()
    assert process.returncode is None
    waiting = [asyncio.create_task(process.wait()) for _ in range(2)]
    process.kill()
    assert await asyncio.gather(*waiting) == [-signal.SIGKILL] * 2
    process.send_signal(signal.SIGTERM)  # to nobody
    assert process.stdout is not None
    assert await process.stdout.read() == b""


async def test_each_has_its_own_input_and_no_descriptor_of_another():
    one, other = [
        await warm.start(IMAGE, PROBE, "well", environment=ENVIRONMENT, stdin=PIPE, stdout=PIPE) for _ in "12"
    ]
    # Were the other's input held open by this one too, it would not end.
    assert b'"stdin": "for one"' in (await one.communicate(b"for one"))[0]
    assert b'"stdin": "for the other"' in (await other.communicate(b"for the other"))[0]


async def test_a_module_that_is_not_there_is_told_by_the_process():
    process = await warm.start(IMAGE, "tests.no_such", environment=ENVIRONMENT, stderr=PIPE)
    _, err = await process.communicate()
    assert process.returncode == 1
    assert b"No module named tests.no_such" in err
