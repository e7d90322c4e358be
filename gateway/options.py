"""What a caller chose for its turns, checked."""

from collections.abc import Sequence
from dataclasses import dataclass

from gateway import prompts
from gateway.core.values import TurnSpec
from gateway.encoding import PCM, heard_format
from gateway.peers import Peers
from gateway.settings import GatewaySettings
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.llm.v1 import llm_pb2
from voicemesh.runtime.errors import InvalidFieldError
from voicemesh.tts.v1 import tts_pb2

_MAX_NAME_CHARS = 200
_MAX_STOPS = 4
_MAX_STOP_CHARS = 256
_MAX_TAGS = 8
_MAX_TAG_CHARS = 128


@dataclass(frozen=True, slots=True)
class TextChoice:
    """How replies are made."""

    system_prompt: str
    """The caller's own; "" where one of the gateway's is taken."""
    model: str
    parameters: common_pb2.GenerationParameters
    reply_cache: bool
    prompt_variant: str = ""
    """Name of the gateway's system prompt, or `auto`; "" where the caller has its own."""

    def start(
        self, spec: TurnSpec, messages: list[common_pb2.Message], traceparent: str, said: str = ""
    ) -> llm_pb2.GenerateStart:
        """Return the message that begins a generation, or goes on with one behind `said`."""
        return llm_pb2.GenerateStart(
            turn_id=spec.turn_id,
            messages=messages,
            model=self.model,
            parameters=self.parameters,
            session_id=spec.session_id,
            tenant=spec.tenant,
            traceparent=traceparent,
            said=said,
        )


@dataclass(frozen=True, slots=True)
class SpeechChoice:
    """How text is spoken."""

    voice: common_pb2.Voice
    format: common_pb2.AudioFormat
    """Of the audio within the mesh: PCM at the rate that is heard."""
    heard: common_pb2.AudioFormat
    """Of the frames that the caller is sent."""
    speed: float
    policy: common_pb2.ChunkPolicy
    audio_cache: bool
    max_lead_ms: int
    word_timings: bool
    speech_text: bool
    cache_tags: tuple[str, ...] = ()

    def configure(self, turn_id: str) -> tts_pb2.SynthesizeConfigure:
        """Return the message that begins a turn's synthesis."""
        return tts_pb2.SynthesizeConfigure(
            turn_id=turn_id, voice=self.voice.name, format=self.format, speed=self.speed
        )


def speech_choice(
    options: pb.SpeechOptions, peers: Peers, settings: GatewaySettings, field: str
) -> SpeechChoice:
    """Check how text is to be spoken; `field` is the path of `options` in the request.

    Raises:
        InvalidFieldError: A field is malformed or over its limit.
        UnknownVoiceError: There is no such voice.

    """
    if options.speed and not 0.25 <= options.speed <= 4:
        raise InvalidFieldError(f"{field}.speed", f"must be 0.25 to 4, or 0 for normal, not {options.speed}")
    _check_name(f"{field}.voice", options.voice)
    voice = peers.voice(options.voice, f"{field}.voice")
    _check_policy(options.chunk_policy, f"{field}.chunk_policy", settings.chunker_max_chars)
    heard = heard_format(options.format, voice.native_format.sample_rate_hz, voice.name, f"{field}.format")
    return SpeechChoice(
        voice=voice,
        format=common_pb2.AudioFormat(
            encoding=PCM, sample_rate_hz=heard.sample_rate_hz, channels=heard.channels
        ),
        heard=heard,
        # As exact as the cache's keys are: what is spoken is what is found again.
        speed=round(options.speed, 3) or 1.0,
        policy=options.chunk_policy,
        audio_cache=not options.bypass_audio_cache,
        max_lead_ms=options.max_lead_ms if options.HasField("max_lead_ms") else settings.gateway_max_lead_ms,
        word_timings=options.word_timings,
        speech_text=options.speech_text if options.HasField("speech_text") else True,
        cache_tags=_checked_tags(options.cache_tags, f"{field}.cache_tags"),
    )


def _checked_tags(tags: Sequence[str], field: str) -> tuple[str, ...]:
    if len(tags) > _MAX_TAGS:
        raise InvalidFieldError(field, f"has {len(tags)} tags; at most {_MAX_TAGS} are taken")
    for index, tag in enumerate(tags):
        if not 1 <= len(tag) <= _MAX_TAG_CHARS:
            raise InvalidFieldError(
                f"{field}[{index}]", f"has {len(tag)} characters; 1 to {_MAX_TAG_CHARS} are taken"
            )
    return tuple(tags)


def _check_policy(policy: common_pb2.ChunkPolicy, field: str, most_chars: int) -> None:
    if policy.kind == common_pb2.ChunkPolicy.KIND_WORDS:
        if not 1 <= policy.words <= 50:
            raise InvalidFieldError(f"{field}.words", f"must be 1 to 50, not {policy.words}")
    elif policy.words:
        raise InvalidFieldError(f"{field}.words", "is for KIND_WORDS only")
    if policy.kind not in common_pb2.ChunkPolicy.Kind.values():
        raise InvalidFieldError(f"{field}.kind", f"is no kind of policy: {policy.kind}")
    if policy.max_chars > most_chars:
        raise InvalidFieldError(f"{field}.max_chars", f"must be at most {most_chars}, not {policy.max_chars}")
    limit = policy.max_chars or most_chars
    if policy.min_chars > limit:
        raise InvalidFieldError(f"{field}.min_chars", f"must be at most {limit}, not {policy.min_chars}")


def text_choice(configure: pb.Configure, settings: GatewaySettings) -> TextChoice:
    """Check how replies are to be made.

    Raises:
        InvalidFieldError: A field is malformed or over its limit.

    """
    _check_name("configure.session_id", configure.session_id)
    _check_name("configure.model", configure.model)
    if len(configure.system_prompt) > prompts.MAX_CHARS:
        raise InvalidFieldError(
            "configure.system_prompt",
            f"has {len(configure.system_prompt)} characters; at most {prompts.MAX_CHARS} are taken",
        )
    variant = configure.system_prompt_variant
    if variant and configure.system_prompt:
        raise InvalidFieldError("configure.system_prompt_variant", "excludes a `system_prompt` of your own")
    if variant not in ("", prompts.AUTO, *settings.system_prompts):
        known = ", ".join((prompts.AUTO, *settings.system_prompts))
        raise InvalidFieldError(
            "configure.system_prompt_variant", f"there is no prompt {variant[:80]!r}; there are {known}"
        )
    parameters = configure.parameters
    _check_range("max_tokens", parameters, 1, 1_000_000)
    _check_range("temperature", parameters, 0, 2)
    _check_range("top_p", parameters, 0, 1)
    if parameters.HasField("top_p") and not parameters.top_p:
        raise InvalidFieldError("configure.parameters.top_p", "must be above 0")
    _check_stops(parameters.stop)
    return TextChoice(
        system_prompt=configure.system_prompt,
        prompt_variant="" if configure.system_prompt else variant or settings.gateway_prompt_variant,
        model=configure.model,
        parameters=parameters,
        reply_cache=not configure.bypass_reply_cache,
    )


def _check_stops(stops: Sequence[str]) -> None:
    if len(stops) > _MAX_STOPS:
        raise InvalidFieldError("configure.parameters.stop", f"at most {_MAX_STOPS} texts are taken")
    for number, stop in enumerate(stops):
        if not 1 <= len(stop) <= _MAX_STOP_CHARS:
            raise InvalidFieldError(
                f"configure.parameters.stop[{number}]",
                f"has {len(stop)} characters; 1 to {_MAX_STOP_CHARS} are taken",
            )


def _check_range(name: str, parameters: common_pb2.GenerationParameters, low: float, high: float) -> None:
    value = getattr(parameters, name)
    if parameters.HasField(name) and not low <= value <= high:  # type: ignore[arg-type] # names of optional fields
        raise InvalidFieldError(f"configure.parameters.{name}", f"must be {low} to {high}, not {value}")


def _check_name(field: str, value: str) -> None:
    if len(value) > _MAX_NAME_CHARS:
        raise InvalidFieldError(field, f"has {len(value)} characters; at most {_MAX_NAME_CHARS} are taken")
