"""A voice gets another model, and its old one back, under turns: nothing is started again."""

import asyncio
import itertools
import operator
import pathlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from tests.support.config_map import ConfigMap
from tests.support.mesh import Own, running_mesh_with
from voicemesh.client import SpeechOptions, VoiceMesh

UNPACED: Final = SpeechOptions(max_lead_ms=0, policy="sentence")
ONE_STREAM: Final = SpeechOptions(max_lead_ms=0, policy="sentence", cache=False)
"""What is kept for others may be asked for on a stream of its own: docs/rollout.md."""
FIXED: Final = "This sentence is always the same. So is the one that follows it."
GUARD_S: Final = 180.0
"""Ends a test that hangs; a busy machine takes a minute to start the workers of a model."""


def declared(char_ms: int) -> list[dict[str, Any]]:
    """Declare the voice, with a model that takes so long for a letter: that tells models apart."""
    return [{"name": "studio", "engine": "simulated", "options": {"char_ms": char_ms, "load_s": 0.3}}]


class Listener:
    """Has turns spoken all the time, and tells models apart by how long their audio is."""

    def __init__(self, client: VoiceMesh) -> None:
        self._client = client
        self._numbers = itertools.count()
        self.models: set[tuple[str, ...]] = set()
        """Which model spoke each chunk of a turn, of every turn so far."""

    async def turn(self, text: str, speech: SpeechOptions = UNPACED) -> tuple[float, ...]:
        """Have a text spoken; return the milliseconds of each of its chunks."""
        recording = await self._client.say(text, speech=speech).collect()
        assert recording.report.outcome == "completed"
        assert not recording.report.degraded
        return tuple(round(chunk.audio_ms) for chunk in recording.report.chunks)

    async def for_ever(self) -> None:
        """Speak what nobody has spoken yet, of equal length."""
        while True:
            number = next(self._numbers)
            text = f"Sentence {number:06d} comes first. Sentence {number:06d} ends."
            heard = await self.turn(text, ONE_STREAM)
            # 0.7 and 0.8 s of the old model, 1.1 and 1.4 s of the new one.
            self.models.add(tuple("new" if chunk_ms > 950 else "old" for chunk_ms in heard))

    async def cached(self) -> str:
        """Return where the first chunk of the fixed text came from."""
        recording = await self._client.say(FIXED, speech=UNPACED).collect()
        return recording.report.chunks[0].cache

    async def until_other(self, known: tuple[float, ...]) -> tuple[float, ...]:
        """Ask for the fixed text until all of it sounds otherwise, and not one of its chunks; return how."""
        async with asyncio.timeout(GUARD_S):
            while any(map(operator.eq, heard := await self.turn(FIXED), known)):
                pass
        return heard

    async def steadily(self, known: tuple[float, ...]) -> None:
        """Wait until the fixed text sounds so from every process."""
        async with asyncio.timeout(GUARD_S):
            agreed = 0
            while agreed < 8:
                agreed = agreed + 1 if await self.turn(FIXED) == known else 0


@asynccontextmanager
async def under_turns(listener: Listener) -> AsyncIterator[None]:
    """Have three turns run at once all the time; one that fails fails the test."""
    tasks = [asyncio.create_task(listener.for_ever()) for _ in range(3)]
    try:
        yield
        assert not [task for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert not [result for result in results if not isinstance(result, asyncio.CancelledError)]


async def test_a_model_is_rolled_out_and_back_without_a_restart(tmp_path: pathlib.Path) -> None:
    names = ("tts", "tts-b")
    for name in names:
        (tmp_path / name).mkdir()
    mounts = {name: ConfigMap(tmp_path / name, "voices.json") for name in names}
    for mount in mounts.values():
        mount.write(declared(20))
    own = {
        name: Own(environment={"VOICEMESH_TTS_VOICES_FILE": str(mount.path)})
        for name, mount in mounts.items()
    }
    async with (
        running_mesh_with({}, own=own, replicas=["tts-b"]) as mesh,
        VoiceMesh(mesh.address("gateway")) as client,
    ):
        pids = {name: each.process.pid for name, each in mesh.processes.items()}
        listener = Listener(client)
        old = await listener.turn(FIXED)
        async with under_turns(listener):
            mounts["tts"].write(declared(40))  # each kubelet has its own time
            new = await listener.until_other(old)
            mounts["tts-b"].write(declared(40))
            await listener.steadily(new)
            for mount in mounts.values():
                mount.write(declared(20))
            assert await listener.until_other(new) == old
            await listener.steadily(old)
            # What the old model had spoken is there again.
            assert await listener.cached() in ("memory", "shared")
        assert {name: each.process.pid for name, each in mesh.processes.items()} == pids
    # One model from end to end: no stream has a chunk of each.
    assert listener.models == {("old", "old"), ("new", "new")}
