"""Speech over HTTP as OpenAI's clients ask for it: text in, audio out while it is made.

https://platform.openai.com/docs/api-reference/audio
"""

import base64
import json
import struct
from collections.abc import AsyncIterator
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from gateway import encoding, tenancy
from gateway.access.caller import CURRENT, Caller
from gateway.callers import Responses
from gateway.http.errors import failure
from gateway.speaking import Speaker
from gateway.turns import Turns
from voicemesh.common.v1 import common_pb2
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.ogg import OggOpus
from voicemesh.runtime.errors import InvalidFieldError, MeshError, NoEngineError
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.sessions import SessionRegistry
from voicemesh.tenant import HTTP_HEADER

_log = get_logger(__name__)
_NO_ENGINE_RETRY_MS: Final = 5_000
"""Breakers of engines let a try through about so often."""
_MAX_BODY_BYTES: Final = 1_000_000
_MAX_INPUT_CHARS: Final = 4096
_FIELDS: Final = {"text": "input", "speech.format.encoding": "response_format"}
"""Fields of `SpeakRequest` that have another name here."""
_ENCODINGS: Final = {
    "pcm": common_pb2.AUDIO_ENCODING_PCM_S16LE,
    "wav": common_pb2.AUDIO_ENCODING_PCM_S16LE,
    "mp3": common_pb2.AUDIO_ENCODING_MP3,
    "opus": common_pb2.AUDIO_ENCODING_OPUS,
    "aac": common_pb2.AUDIO_ENCODING_AAC,
    "flac": common_pb2.AUDIO_ENCODING_FLAC,
}
_MEDIA_TYPES: Final = {
    "pcm": "audio/pcm",
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
}


def _usual_format() -> Literal["mp3", "wav"]:
    """Return what who names no format gets: MP3 as from OpenAI, where there is what makes it."""
    return "wav" if encoding.load() else "mp3"


class SpeechBody(BaseModel):
    """The body of `POST /v1/audio/speech`. Fields that are not here are ignored, as OpenAI does."""

    model_config = ConfigDict(extra="ignore")

    input: Annotated[str, Field(min_length=1, max_length=_MAX_INPUT_CHARS)]
    voice: str = ""
    model: str = ""
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = Field(
        default_factory=_usual_format
    )
    speed: Annotated[float, Field(ge=0.25, le=4)] = 1.0
    stream_format: Literal["audio", "sse"] = "audio"


class Speech:
    """Answers `POST /v1/audio/speech`.

    Args:
        turns: Begins turns.
        sessions: Holds their tasks.

    """

    def __init__(self, turns: Turns, sessions: SessionRegistry) -> None:
        self._turns = turns
        self._sessions = sessions
        self._speakers: set[Speaker] = set()

    def abandon(self) -> None:
        """End all that is spoken at once. Does not wait."""
        for speaker in tuple(self._speakers):
            speaker.abandon()

    async def answer(self, request: Request) -> Response:
        """Speak what a request asks for."""
        received_ns = self._turns.clock.now_ns()
        speaker = None
        try:
            body = _parse(await _read(request))
            caller = CURRENT.get() or Caller(
                tenant=tenancy.one_of(request.headers.getlist(HTTP_HEADER), HTTP_HEADER)
            )
            speaker = Speaker(self._turns, self._sessions.open(), caller.tenant, None)
            self._speakers.add(speaker)
            await speaker.speak(
                pb.SpeakRequest(
                    text=body.input,
                    speech=pb.SpeechOptions(
                        voice=body.voice,
                        speed=body.speed,
                        max_lead_ms=0,
                        format=common_pb2.AudioFormat(encoding=_ENCODINGS[body.response_format]),
                    ),
                    traceparent=request.headers.get("traceparent", ""),
                ),
                received_ns,
            )
            # Until there is audio, a failure can still be a status code.
            responses = Responses(speaker.outbox)
            started, first = await _first(responses)
        except MeshError as error:
            self._end(speaker)
            return _error(error)
        except ClientDisconnect:  # before all of the body was there: nobody reads the answer
            return Response(status_code=400)
        headers = {"x-voicemesh-turn-id": started.turn_id, "x-voicemesh-trace-id": started.trace_id}
        audio = self._audio(speaker, responses, started.format, first)
        if body.response_format == "wav":
            audio = _wav(audio, started.format.sample_rate_hz)
        if body.stream_format == "sse":
            return StreamingResponse(_sse(audio), headers=headers, media_type="text/event-stream")
        return StreamingResponse(audio, headers=headers, media_type=_MEDIA_TYPES[body.response_format])

    async def _audio(
        self,
        speaker: Speaker,
        responses: Responses,
        form: common_pb2.AudioFormat,
        first: common_pb2.Frame | None,
    ) -> AsyncIterator[bytes]:
        opus = form.encoding == common_pb2.AUDIO_ENCODING_OPUS
        ogg = OggOpus(form.sample_rate_hz, form.preskip_samples) if opus else None
        left_to_caller = False
        try:
            if first is not None:
                yield _contained(first, ogg)
                async for response in responses:
                    event = response.WhichOneof("event")
                    left_to_caller |= event == "speak_locally"
                    if event == "frame" and (part := _contained(response.frame, ogg)):
                        yield part
            if ogg is not None:
                yield ogg.finish()
            if left_to_caller:
                raise _no_engine()
        except MeshError as error:
            # The status line is long gone: an incomplete response is how HTTP says so.
            _log.warning("speech broke off", reason=error.reason)
            raise
        finally:
            self._end(speaker)

    def _end(self, speaker: Speaker | None) -> None:
        if speaker is not None:
            self._speakers.discard(speaker)
            speaker.abandon()


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            raise InvalidFieldError("body", f"is larger than {_MAX_BODY_BYTES} bytes")
    return bytes(body)


def _parse(body: bytes) -> SpeechBody:
    try:
        return SpeechBody.model_validate_json(body)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(str(part) for part in problem["loc"]) or "body"
        raise InvalidFieldError(field, problem["msg"]) from None


async def _first(responses: Responses) -> tuple[pb.TurnStarted, common_pb2.Frame | None]:
    """Wait for the first audio, or for the end of a turn that has none.

    Raises:
        NoEngineError: It has none because the caller would have to speak by itself.

    """
    started = pb.TurnStarted()
    left_to_caller = False
    async for response in responses:
        match response.WhichOneof("event"):
            case "turn_started":
                started = response.turn_started
            case "frame":
                return started, response.frame
            case "speak_locally":
                left_to_caller = True
            case "turn_completed":
                if left_to_caller:
                    raise NoEngineError(
                        "no engine can speak this text now", retry_after_ms=_NO_ENGINE_RETRY_MS
                    )
                return started, None
    return started, None


def _no_engine() -> NoEngineError:
    """Return the error of a text, or a part of it, that the caller would have to speak by itself."""
    return NoEngineError("no engine can speak all of this text now", retry_after_ms=_NO_ENGINE_RETRY_MS)


def _contained(frame: common_pb2.Frame, ogg: OggOpus | None) -> bytes:
    """Return what of a frame goes into the response now: Opus packets need a container."""
    return frame.audio if ogg is None else ogg.push(frame.audio, frame.samples)


async def _wav(audio: AsyncIterator[bytes], rate_hz: int) -> AsyncIterator[bytes]:
    """Put a header before the samples; the sizes are unknown, and said to be 0xFFFFFFFF as OpenAI does."""
    unknown = 0xFFFFFFFF
    yield struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF",
        unknown,
        b"WAVE",
        b"fmt ",
        16,
        1,
        1,
        rate_hz,
        rate_hz * 2,
        2,
        16,
        b"data",
        unknown,
    )
    async for part in audio:
        yield part


async def _sse(audio: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for part in audio:
        event = {"type": "speech.audio.delta", "audio": base64.b64encode(part).decode()}
        yield f"data: {json.dumps(event)}\n\n".encode()
    yield b'data: {"type": "speech.audio.done"}\n\n'


def _error(error: MeshError) -> Response:
    return failure(error, _FIELDS.get(error.field, error.field.removeprefix("speech.")))
