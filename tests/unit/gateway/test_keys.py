"""What a turn asks for: whose entries, and which choices make another one."""

from dataclasses import replace
from typing import Any

import pytest

from gateway import keys
from gateway.core.values import Message, TurnSpec
from gateway.options import SpeechChoice, TextChoice
from voicemesh.common.v1 import common_pb2

FORMAT = common_pb2.AudioFormat(
    encoding=common_pb2.AUDIO_ENCODING_PCM_S16LE, sample_rate_hz=22050, channels=1
)
SPEECH = SpeechChoice(
    voice=common_pb2.Voice(name="v", engine="e", model_revision="r", language="en", max_chars=200),
    format=FORMAT,
    heard=FORMAT,
    speed=1.0,
    policy=common_pb2.ChunkPolicy(),
    audio_cache=True,
    max_lead_ms=0,
    word_timings=False,
    speech_text=True,
)
TEXT = TextChoice("Be brief.", "m", common_pb2.GenerationParameters(), reply_cache=True)
MESSAGES = (Message("user", ("Why?",)),)


SPEC = TurnSpec("t", "s", 0, 22050)


def voice(**changed: Any) -> common_pb2.Voice:
    made = common_pb2.Voice()
    made.CopyFrom(SPEECH.voice)
    for name, value in changed.items():
        setattr(made, name, value)
    return made


def tenants(spec: TurnSpec) -> tuple[str, str, str]:
    return (
        keys.history_key(spec).history.tenant,
        keys.reply_key(spec, "llm", TEXT, MESSAGES).reply.tenant,
        keys.audio_key(spec, SPEECH, "Hello.").audio.tenant,
    )


@pytest.mark.parametrize("tenant", ["", "acme"])
def test_everything_is_the_tenants_own(tenant: str) -> None:
    assert tenants(TurnSpec("t", "s", 0, 22050, tenant=tenant)) == (tenant, tenant, tenant)


def test_what_is_shared_is_in_a_place_of_its_own_and_a_history_never_is() -> None:
    audio = TurnSpec("t", "s", 0, 22050, tenant="acme", shares_audio=True)
    assert tenants(audio) == ("acme", "acme", "*")
    everything = TurnSpec("t", "s", 0, 22050, tenant="", shares_audio=True, shares_replies=True)
    assert tenants(everything) == ("", "*", "*")


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEECH, voice=voice(name="w")),
        replace(SPEECH, voice=voice(engine="f")),
        replace(SPEECH, voice=voice(model_revision="r2")),
        replace(SPEECH, voice=voice(language="de")),
        replace(SPEECH, speed=1.001),
        replace(SPEECH, format=common_pb2.AudioFormat(sample_rate_hz=24000, channels=1)),
    ],
)
def test_what_changes_samples_changes_the_key_of_audio(other: SpeechChoice) -> None:
    assert keys.audio_key(SPEC, other, "Hello.") != keys.audio_key(SPEC, SPEECH, "Hello.")


def test_the_text_of_audio_is_as_the_engine_is_given_it() -> None:
    same = keys.audio_key(SPEC, SPEECH, "Hello.")
    assert keys.audio_key(SPEC, SPEECH, "Hello.\n") != same
    assert keys.audio_key(SPEC, SPEECH, "hello.") != same


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEECH, voice=voice(ready_replicas=7, is_default=True, max_chars=9)),
        # What the caller hears is encoded at the edge, from the same samples.
        replace(SPEECH, heard=common_pb2.AudioFormat(encoding=common_pb2.AUDIO_ENCODING_MP3)),
        # How the text was cut is in the text.
        replace(SPEECH, policy=common_pb2.ChunkPolicy(kind=common_pb2.ChunkPolicy.KIND_SENTENCE)),
        replace(SPEECH, max_lead_ms=5000, word_timings=True, speech_text=False),
    ],
)
def test_what_changes_no_sample_does_not(other: SpeechChoice) -> None:
    assert keys.audio_key(SPEC, other, "Hello.") == keys.audio_key(SPEC, SPEECH, "Hello.")


@pytest.mark.parametrize(
    "other",
    [
        replace(SPEC, turn_id="u", received_ns=9, session_id="z"),
        replace(SPEC, sample_rate_hz=8000, max_lead_ms=1, draft=True, audio_cache=False),
    ],
)
def test_which_turn_asks_does_not_change_a_key(other: TurnSpec) -> None:
    assert keys.audio_key(other, SPEECH, "Hello.") == keys.audio_key(SPEC, SPEECH, "Hello.")
    assert keys.reply_key(other, "llm", TEXT, MESSAGES) == keys.reply_key(SPEC, "llm", TEXT, MESSAGES)


@pytest.mark.parametrize(
    ("revision", "text", "messages"),
    [
        ("llm2", TEXT, MESSAGES),
        ("llm", replace(TEXT, model="n"), MESSAGES),
        ("llm", replace(TEXT, parameters=common_pb2.GenerationParameters(temperature=0.5)), MESSAGES),
        ("llm", TEXT, (Message("system", ("Be brief.",)), *MESSAGES)),
        ("llm", TEXT, (*MESSAGES, Message("assistant", ("So.",)), *MESSAGES)),
        ("llm", TEXT, (Message("user", ("How?",)),)),
    ],
)
def test_what_changes_a_reply_changes_its_key(
    revision: str, text: TextChoice, messages: tuple[Message, ...]
) -> None:
    assert keys.reply_key(SPEC, revision, text, messages) != keys.reply_key(SPEC, "llm", TEXT, MESSAGES)
