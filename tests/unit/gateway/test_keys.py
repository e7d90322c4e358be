"""Whose entries a turn asks for."""

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
