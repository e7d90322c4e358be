"""What a caller can ask for."""

import pytest

from voicemesh.client.options import (
    ConversationOptions,
    GenerationOptions,
    Image,
    SpeechOptions,
    parse_policy,
    prompt_to_proto,
    text_of,
)
from voicemesh.common.v1 import common_pb2


def test_defaults_leave_everything_to_the_mesh():
    message = ConversationOptions().to_proto()
    assert message.speech.voice == ""
    assert not message.speech.HasField("format")
    assert not message.speech.HasField("max_lead_ms")
    assert message.speech.chunk_policy == common_pb2.ChunkPolicy()
    assert not message.parameters.HasField("max_tokens")
    assert not message.bypass_reply_cache


def test_everything_can_be_said():
    speech = SpeechOptions(
        voice="v",
        speed=1.5,
        policy="sentence",
        min_chars=5,
        max_chars=80,
        encoding="mulaw",
        sample_rate_hz=8000,
    )
    generation = GenerationOptions(max_tokens=5, temperature=0.0, top_p=0.5, stop=("x",), seed=0)
    message = ConversationOptions(
        session_id="s", speech=speech, system_prompt="p", model="m", generation=generation, reply_cache=False
    ).to_proto()
    assert message.speech.chunk_policy.kind == common_pb2.ChunkPolicy.KIND_SENTENCE
    assert (message.speech.chunk_policy.min_chars, message.speech.chunk_policy.max_chars) == (5, 80)
    assert message.speech.format.encoding == common_pb2.AUDIO_ENCODING_MULAW
    assert message.speech.format.sample_rate_hz == 8000
    assert message.parameters.HasField("temperature")
    assert message.parameters.HasField("seed")
    assert (message.session_id, message.system_prompt, message.model) == ("s", "p", "m")
    assert message.bypass_reply_cache


@pytest.mark.parametrize(
    "text", ["words", "words:", "words:0", "words:51", "words:-1", "words:٣", "adaptive:1", "other", ":"]
)
def test_policies_that_are_none(text):
    with pytest.raises(ValueError, match="is none of adaptive, sentence, clause, words:N"):
        parse_policy(text)


def test_policies():
    assert parse_policy("") == common_pb2.ChunkPolicy()
    assert parse_policy("words:50").words == 50
    assert parse_policy("clause").kind == common_pb2.ChunkPolicy.KIND_CLAUSE


def test_a_prompt_of_parts():
    parts: list[str | Image] = ["Look: ", Image(url="https://example.org/cat.png"), "well?"]
    message = prompt_to_proto(parts, "t", "")
    assert [part.WhichOneof("part") for part in message.parts] == ["text", "image", "text"]
    assert message.parts[1].image.url == "https://example.org/cat.png"
    assert text_of(parts) == "Look: well?"
    assert text_of("plain") == "plain"
