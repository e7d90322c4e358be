"""Attribution over processes whose clocks disagree by minutes.

Each has a wall clock that is shifted by a `sitecustomize` of its own. Where the kernel lets anybody make a
namespace of time, each has its own monotonic clock, too; where it does not, that test is skipped and says so.
"""

import pathlib
import shutil
import subprocess
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.support.mesh import SERVICES, Mesh, Own, running_mesh_with
from voicemesh.client import GenerationOptions, SpeechOptions, TurnReport, VoiceMesh
from voicemesh.stages import Stage

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNPACED = SpeechOptions(max_lead_ms=0)
MONOTONIC_S = {"llm": 420, "chunker": 60, "tts": 900, "cache": 1800}
"""The gateway has the machine's."""
WALL_S = {"gateway": 600, "llm": -300, "chunker": -120, "tts": -3600, "cache": -86_400}
"""Who calls is ahead, and who is called is behind: gRPC makes deadlines from Python's clock and keeps them by
the machine's, so that otherwise they would be over before they began."""
SHIFTED = """
import os, time
_by_ns = int(os.environ["SHIFT_WALL_S"]) * 10**9
_time_ns = time.time_ns
time.time_ns = lambda: _time_ns() + _by_ns
time.time = lambda: time.time_ns() / 1e9
"""


def clock_of_its_own(seconds: int) -> tuple[str, ...]:
    """Return a command that runs another with a monotonic clock that is `seconds` ahead."""
    return ("unshare", "--user", "--map-root-user", "--time", "--monotonic", str(seconds))


def clocks_can_be_set() -> bool:
    """Return whether this machine lets anybody give a process a monotonic clock of its own."""
    if shutil.which("unshare") is None:
        return False
    return not subprocess.run([*clock_of_its_own(60), "true"], capture_output=True, check=False).returncode


CLOCKS_CAN_BE_SET = clocks_can_be_set()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    """Run a mesh in which no two processes agree about the time."""
    folder: pathlib.Path = tmp_path_factory.mktemp("shifted")
    (folder / "sitecustomize.py").write_text(SHIFTED)
    own = {
        name: Own(
            wrapper=clock_of_its_own(MONOTONIC_S[name]) if CLOCKS_CAN_BE_SET and name in MONOTONIC_S else (),
            environment={"PYTHONPATH": str(folder), "SHIFT_WALL_S": str(WALL_S[name])},
        )
        for name in SERVICES
    }
    async with running_mesh_with({}, own=own) as running:
        yield running


def adds_up(report: TurnReport) -> None:
    total_ms = sum(report.stages.values()) + report.unattributed_ms
    assert total_ms == pytest.approx(report.ttfa_ms, abs=1)
    assert abs(report.unattributed_ms) <= report.ttfa_ms / 100
    assert report.excess_ms == 0
    assert report.attribution_violations == ()
    for chunk in report.chunks:
        path_ms = sum(chunk.stages.values()) + chunk.paced_ms + chunk.unattributed_ms
        assert path_ms == pytest.approx(chunk.path_ms, abs=0.01)


async def test_turns_add_up_though_no_two_clocks_agree(client: VoiceMesh) -> None:
    generation = GenerationOptions(stop=("script",))
    async with client.converse(speech=UNPACED, generation=generation) as conversation:
        first = await (await conversation.ask("What time is it?")).collect()
        again = await (await conversation.ask("And now?")).collect()
    async with client.converse(speech=UNPACED, generation=generation) as conversation:
        cached = await (await conversation.ask("What time is it?")).collect()
    own = await client.say("The time is what a clock says.", speech=UNPACED).collect()
    for recording in (first, again, cached, own):
        adds_up(recording.report)
        # Minutes of difference would be in some stage, or cut off in all of them.
        assert recording.report.ttfa_ms < 60_000
        assert recording.report.stages[Stage.TTS_SYNTHESIS] or recording.report.chunks[0].cache == "memory"
    assert first.report.stages[Stage.LLM_TTFT] > 0
    assert cached.report.reply_cache == "hit"


async def test_the_wall_clocks_are_really_shifted(client: VoiceMesh, mesh: Mesh) -> None:
    recording = await client.say("Gone in a moment.", speech=UNPACED).collect()
    assert recording.report.began_unix_us / 1e6 == pytest.approx(time.time() + WALL_S["gateway"], abs=60)


@pytest.mark.skipif(not CLOCKS_CAN_BE_SET, reason="this kernel lets only root make a namespace of time")
async def test_the_monotonic_clocks_are_really_others(mesh: Mesh) -> None:
    for name, seconds in MONOTONIC_S.items():
        pid = mesh.processes[name].process.pid
        offsets = pathlib.Path(f"/proc/{pid}/timens_offsets").read_text().split()  # noqa: ASYNC240 - of a kernel's memory
        assert offsets[offsets.index("monotonic") + 1] == str(seconds)
