"""What a caller can ask for: plain data, and how it is said on the wire."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final, Self

from voicemesh.client.names import PRIORITIES
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2
from voicemesh.pictures import MEDIA_TYPES, media_type_of

_POLICIES: Final = {
    "adaptive": common_pb2.ChunkPolicy.KIND_ADAPTIVE,
    "sentence": common_pb2.ChunkPolicy.KIND_SENTENCE,
    "clause": common_pb2.ChunkPolicy.KIND_CLAUSE,
    "words": common_pb2.ChunkPolicy.KIND_WORDS,
}
_ENCODINGS: Final = {
    "": common_pb2.AUDIO_ENCODING_UNSPECIFIED,
    "pcm_s16le": common_pb2.AUDIO_ENCODING_PCM_S16LE,
    "mulaw": common_pb2.AUDIO_ENCODING_MULAW,
    "opus": common_pb2.AUDIO_ENCODING_OPUS,
    "flac": common_pb2.AUDIO_ENCODING_FLAC,
    "mp3": common_pb2.AUDIO_ENCODING_MP3,
    "aac": common_pb2.AUDIO_ENCODING_AAC,
}

_JOINS: Final = {
    "now": gateway_pb2.CHANNEL_JOIN_NOW,
    "beginning": gateway_pb2.CHANNEL_JOIN_BEGINNING,
}


class Flush(Enum):
    """What callers put between pieces of their words to have spoken at once what is held."""

    FLUSH = "flush"


FLUSH: Final = Flush.FLUSH
"""Among the words given to `Conversation.say`: speak what is held, now."""


@dataclass(frozen=True, kw_only=True)
class SpeechOptions:
    """How text is spoken.

    Attributes:
        voice: Name of the voice; empty for the mesh's default.
        speed: Speed of speech, 0.25 to 4.
        policy: How text is cut into chunks: "adaptive", "sentence", "clause" or "words:N"; empty for
            the mesh's default.
        min_chars: A chunk shorter than this merges forward; 0 for the policy's own minimum.
        max_chars: No chunk is longer than this; 0 for the mesh's limit.
        encoding: "pcm_s16le", "mulaw", "opus", "flac", "mp3" or "aac"; empty for the mesh's default.
        sample_rate_hz: Samples per second, in hertz, 8000 to 48000; 0 for the voice's own.
        max_lead_ms: Synthesis stays at most this far ahead of playback, in milliseconds. None: the
            mesh's default; 0: no limit, for callers that record rather than play.
        word_timings: True to be sent `Words`.
        cache: False to neither read nor write cached audio.
        speech_text: False to have markup, links and pictographs spoken as they are written.
        cache_tags: Names by which what the turns store in the cache, audio and replies, can be
            invalidated later; at most 8, of 1 to 128 characters.

    """

    voice: str = ""
    speed: float = 1.0
    policy: str = ""
    min_chars: int = 0
    max_chars: int = 0
    encoding: str = ""
    sample_rate_hz: int = 0
    max_lead_ms: int | None = None
    word_timings: bool = False
    cache: bool = True
    speech_text: bool = True
    cache_tags: tuple[str, ...] = ()

    def to_proto(self) -> gateway_pb2.SpeechOptions:
        """Return the message. Raises ValueError for a policy or an encoding that does not exist."""
        policy = parse_policy(self.policy)
        policy.min_chars = self.min_chars
        policy.max_chars = self.max_chars
        message = gateway_pb2.SpeechOptions(
            voice=self.voice,
            speed=0 if self.speed == 1 else self.speed,
            chunk_policy=policy,
            bypass_audio_cache=not self.cache,
            word_timings=self.word_timings,
            cache_tags=self.cache_tags,
        )
        if self.encoding not in _ENCODINGS:
            known = ", ".join(name for name in _ENCODINGS if name)
            raise ValueError(f"encoding: {self.encoding!r} is none of {known}")
        if self.encoding or self.sample_rate_hz:
            message.format.encoding = _ENCODINGS[self.encoding]
            message.format.sample_rate_hz = self.sample_rate_hz
        if self.max_lead_ms is not None:
            message.max_lead_ms = self.max_lead_ms
        if not self.speech_text:
            message.speech_text = False
        return message


def parse_policy(text: str) -> common_pb2.ChunkPolicy:
    """Read "adaptive", "sentence", "clause", "words:N" (1 to 50), or "" for the default.

    Raises ValueError that says what is allowed.
    """
    name, colon, number = text.partition(":")
    if not text:
        return common_pb2.ChunkPolicy()
    if name == "words" and number.isascii() and number.isdigit() and 1 <= int(number) <= 50:
        return common_pb2.ChunkPolicy(kind=_POLICIES["words"], words=int(number))
    if name in _POLICIES and name != "words" and not colon:
        return common_pb2.ChunkPolicy(kind=_POLICIES[name])
    raise ValueError(f"policy: {text!r} is none of adaptive, sentence, clause, words:N with N of 1 to 50")


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """Settings of a model's reply; None takes the mesh's default.

    Attributes:
        max_tokens: At most this many tokens.
        temperature: Sampling temperature, 0 to 2.
        top_p: Nucleus sampling mass, above 0 and at most 1.
        stop: The reply ends before any of these texts; at most 4.
        seed: Seed for models that sample reproducibly.

    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None

    def to_proto(self) -> common_pb2.GenerationParameters:
        """Return the message."""
        return common_pb2.GenerationParameters(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            stop=self.stop,
            seed=self.seed,
        )


@dataclass(frozen=True, kw_only=True)
class Image:
    """A picture in a prompt: its bytes with their media type, or an address that the model can read."""

    data: bytes = b""
    media_type: str = ""
    url: str = ""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Return the picture in a file; its first bytes say of which kind it is.

        Raises:
            OSError: It cannot be read.
            ValueError: It is none that models read.

        """
        data = path.read_bytes()
        media_type = media_type_of(data)
        if not media_type:
            raise ValueError(f"{path} is none of {', '.join(MEDIA_TYPES)} by its first bytes")
        return cls(data=data, media_type=media_type)


PromptParts = str | Sequence[str | Image]
"""A prompt: a text, or texts and pictures in order."""


def prompt_to_proto(prompt: PromptParts, turn_id: str, traceparent: str) -> gateway_pb2.Prompt:
    """Return the message that begins a turn."""
    parts = [prompt] if isinstance(prompt, str) else prompt
    return gateway_pb2.Prompt(turn_id=turn_id, parts=[_part(part) for part in parts], traceparent=traceparent)


def text_of(prompt: PromptParts) -> str:
    """Return the text of a prompt, without its pictures."""
    parts = [prompt] if isinstance(prompt, str) else prompt
    return "".join(part for part in parts if isinstance(part, str))


def _part(part: str | Image) -> common_pb2.ContentPart:
    if isinstance(part, str):
        return common_pb2.ContentPart(text=part)
    if part.url:
        return common_pb2.ContentPart(image=common_pb2.Image(url=part.url))
    return common_pb2.ContentPart(image=common_pb2.Image(data=part.data, media_type=part.media_type))


def priority_to_proto(priority: str) -> gateway_pb2.Priority.ValueType:
    """Return a priority; "" is the usual one. Raises ValueError for one that does not exist."""
    for number, name in PRIORITIES.items():
        if name == priority:
            return gateway_pb2.Priority.ValueType(number)
    raise ValueError(f"priority: {priority!r} is none of {', '.join(filter(None, PRIORITIES.values()))}")


@dataclass(frozen=True, kw_only=True)
class ConversationOptions:
    """What holds for all turns of a conversation.

    Attributes:
        session_id: The session whose history the turns continue; empty for a new one.
        speech: How it is spoken.
        system_prompt: Instructions to the model; empty for the mesh's default.
        prompt_variant: Name of a system prompt of the mesh, as "full" or "compact"; empty for its choice.
        model: Model to ask for; empty for the mesh's default.
        generation: Settings of the reply.
        reply_cache: False to neither read nor write cached replies.
        channel: Name of a channel whose turns the conversation shares; empty for turns of its own. Who
            knows the name can join. The first member sets the other options for all.
        join: What is heard of a turn that runs already: it goes on from "now", or from its "beginning".
        listen_only: True for a member of a channel that begins no turns.
        attributes: What rules of feature flags may look at: at most 16 names with texts.
        priority: Who goes first while not everybody can: "low", "normal" or "high", at most what the caller
            may have.

    """

    session_id: str = ""
    speech: SpeechOptions = SpeechOptions()
    system_prompt: str = ""
    prompt_variant: str = ""
    model: str = ""
    generation: GenerationOptions = GenerationOptions()
    reply_cache: bool = True
    channel: str = ""
    join: str = "now"
    listen_only: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    priority: str = ""

    def to_proto(self) -> gateway_pb2.Configure:
        """Return the message.

        Raises ValueError as `SpeechOptions.to_proto` does, and for unknown joins and priorities.
        """
        if self.join not in _JOINS:
            raise ValueError(f"join: {self.join!r} is none of {', '.join(_JOINS)}")
        return gateway_pb2.Configure(
            session_id=self.session_id,
            speech=self.speech.to_proto(),
            system_prompt=self.system_prompt,
            system_prompt_variant=self.prompt_variant,
            model=self.model,
            parameters=self.generation.to_proto(),
            bypass_reply_cache=not self.reply_cache,
            channel=self.channel,
            channel_join=_JOINS[self.join] if self.channel else gateway_pb2.CHANNEL_JOIN_UNSPECIFIED,
            listen_only=self.listen_only,
            attributes=self.attributes,
            priority=priority_to_proto(self.priority),
        )
