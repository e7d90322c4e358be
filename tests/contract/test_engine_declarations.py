"""What a declaration of a voice may name, and what its revision tells."""

import contextlib
import os
import signal

import pytest

from services.tts.core.model import ReplicaStartError, VoiceSpec
from services.tts.process import launch_worker
from tests.contract.engine_harness import Ear, sim, speaker


@pytest.mark.parametrize(
    ("engine", "language", "options", "says"),
    [
        ("espeak", "xx-yy", {}, "espeak has no 'xx-yy'"),
        ("espeak", "en-zz", {}, "it has en-029"),
        ("espeak", "en-us", {"tone": 1}, "option tone"),
        ("espeak", "en-us", {"pitch": 100}, "0 to 99"),
        ("espeak", "en-us", {"timbre": "../../x"}, "must be one of"),
        ("simulated", "en", {"rtf": -1}, "option rtf: must be a number from 0 to 1000"),
        ("simulated", "en", {"slots": 0.5}, "whole number"),
        ("simulated", "en", {"audio": "song"}, '"tone" or "espeak"'),
        ("simulated", "en", {"speed": 2}, "option speed"),
        ("simulated", "en", {"load": 2}, "did you mean load_s"),
        ("piper", "en", {"lenght_scale": 2}, "option lenght_scale: .*; did you mean length_scale?"),
        ("openai", "en", {"voice": ["alloy"]}, "did you mean voices?"),
        ("espeak", "en", {"pich": 2}, "did you mean pitch?"),
        ("none", "en", {}, "there is no engine"),
        ("no_such_package.voices:It", "en", {}, "engine: there is no module 'no_such_package'"),
        ("tests.contract.none:It", "en", {}, "engine: there is no module 'tests.contract.none'"),
        ("tests.contract.own_engines:It", "en", {}, "engine: tests.contract.own_engines has no class 'It'"),
        ("tests.contract.own_engines:not_an_engine", "en", {}, "engine: .* is not a subclass of .*Engine"),
        ("tests.contract.own_engine_that_breaks:It", "en", {}, "engine: .* RuntimeError: no licence file"),
        ("tests.contract.own_engine_in_need:It", "en", {}, "needs the module 'a_package_that_is_not_there'"),
    ],
)
async def test_a_wrong_declaration_says_what_it_may_be(engine, language, options, says):
    with pytest.raises(ReplicaStartError, match=says) as caught:
        await launch_worker(VoiceSpec("voice", engine, 1, language, options), Ear())
    assert caught.value.declaration_at_fault


async def test_an_engine_that_is_named_by_its_class_speaks():
    own = "tests.contract.own_engines:ToneEngine"
    async with speaker(VoiceSpec("own", own, 1, "en", {"period": 32})) as voice:
        assert voice.replica.capabilities.revision == "tone-32"
        take = await voice.speak("Hello.")
        assert take.samples == take.done.made_samples > 0


async def test_revisions_tell_what_sounds_different():
    revisions = []
    declarations: list[tuple[str, str, dict[str, object]]] = [
        ("espeak", "en-us", {}),
        ("espeak", "en-us", {"pitch": 60}),
        ("simulated", "en", {}),
        ("simulated", "en", {"char_ms": 70}),
        ("simulated", "en", {"audio": "espeak"}),
    ]
    for engine, language, options in declarations:
        async with speaker(VoiceSpec("voice", engine, 1, language, options)) as voice:
            revisions.append(voice.replica.capabilities.revision)
    assert len(set(revisions)) == 5
    async with speaker(sim(first_frame_ms=5, rtf=0.1, failure_rate=0.1)) as voice:
        assert voice.replica.capabilities.revision == revisions[2]


async def test_what_is_loaded_behind_the_start_is_told_and_breaks_nothing() -> None:
    engine = "tests.contract.own_engine_that_loads_late:LateEngine"
    async with speaker(VoiceSpec("late", engine, 1, "en", {})) as voice:
        assert (await voice.speak("Word by word.")).samples
        assert voice.ear.progress_told[-1].what == "what it needs now"
        assert not voice.ear.gone


async def test_a_process_that_has_just_ended_is_killed_without_a_complaint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    replicas = [await launch_worker(sim(), Ear()) for _ in range(3)]
    for replica in replicas:
        os.kill(replica.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # it has ended, and who reaps it is open
            os.waitid(os.P_PID, replica.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - the loop must not reap it
        replica.kill()
    for replica in replicas:
        await replica.close()
    assert not [record for record in caplog.records if "Unknown child" in record.getMessage()]
