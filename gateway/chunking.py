"""What the chunker is told, as messages. No decisions."""

from gateway.core import actions as do
from gateway.core.pace import Pace
from gateway.options import SpeechChoice
from voicemesh.chunker.v1 import chunker_pb2
from voicemesh.common.v1 import common_pb2


def configure_chunker(turn_id: str, speech: SpeechChoice, pace: Pace) -> chunker_pb2.ChunkRequest:
    """Return the message that begins a stream to the chunker."""
    return chunker_pb2.ChunkRequest(
        configure=chunker_pb2.ChunkConfigure(
            turn_id=turn_id,
            policy=speech.policy,
            language=speech.voice.language,
            speech_text=speech.speech_text,
            voice_max_chars=speech.voice.max_chars,
            pace=_pace(pace),
        )
    )


def wants_slack(speech: SpeechChoice) -> bool:
    """Say whether the policy looks at the player at all."""
    return speech.policy.kind in (
        common_pb2.ChunkPolicy.KIND_UNSPECIFIED,
        common_pb2.ChunkPolicy.KIND_ADAPTIVE,
    )


def tell_chunker(
    action: do.FeedChunker | do.FlushChunker | do.EndChunker | do.TellSlack,
) -> chunker_pb2.ChunkRequest:
    """Return the message that an action asks for."""
    match action:
        case do.FeedChunker(text):
            return chunker_pb2.ChunkRequest(text=chunker_pb2.ChunkText(text=text))
        case do.FlushChunker():
            return chunker_pb2.ChunkRequest(flush=chunker_pb2.ChunkFlush())
        case do.EndChunker():
            return chunker_pb2.ChunkRequest(end=chunker_pb2.ChunkEnd())
        case do.TellSlack(left_to_play_ms, chunks_counted, pace):
            slack = chunker_pb2.ChunkSlack(
                left_to_play_ms=left_to_play_ms, chunks_counted=chunks_counted, pace=_pace(pace)
            )
            return chunker_pb2.ChunkRequest(slack=slack)


def _pace(pace: Pace) -> chunker_pb2.Pace:
    return chunker_pb2.Pace(
        ms_per_char=pace.ms_per_char,
        first_frame_ms=pace.first_frame_ms,
        first_frame_ms_per_char=pace.first_frame_ms_per_char,
        writer_chars_per_s=pace.writer_chars_per_s,
    )
