"""Many callers, random cancels and killed workers: nothing is lost, nothing is spoilt."""

import random

import psutil

from benchmarks import tts_endurance as endurance


async def test_what_completes_is_what_it_is_alone_whatever_is_killed_and_cancelled():
    draw = random.Random(7)
    voices = endurance.VOICES
    async with endurance.service(voices) as (stub, process):
        solo = {}
        for wanted in endurance.texts(voices, 3, draw):
            solo[wanted], end = await endurance.speak(stub, wanted)
            assert not end.resumed
        outcome = await endurance.endure(stub, solo, requests=100, kills=5, callers=10, draw=draw)
        assert outcome.spoilt == []
        assert outcome.lost == []
        assert outcome.completed + outcome.cancelled == 100
        assert outcome.completed > 50
        assert outcome.cancelled > 10
        assert outcome.kills == 5
        assert outcome.resumed > 0
        pids = [process.pid, *(child.pid for child in process.children())]
    assert not [pid for pid in pids if psutil.pid_exists(pid)]
