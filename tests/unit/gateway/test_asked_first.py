"""What leaves first of what one step of a turn leads to."""

from gateway.core import actions as do
from gateway.core.values import Chunk

_CHUNK = do.EmitChunk(Chunk(0, "So it is.", 0, 9, "sentence", 0))
_FRAME = do.EmitFrame(0, 0, 0, 0, b"\0\0", first=True)
_SYNTHESIZE = do.Synthesize(0, "So it is.", 0)


def test_questions_leave_ahead_of_the_captions_before_them() -> None:
    text, lookup = do.EmitText("So it is."), do.LookUpAudio(0, "So it is.")
    actions: list[do.Action] = [text, _CHUNK, lookup, _SYNTHESIZE]

    assert do.asked_first(actions) == [lookup, _SYNTHESIZE, text, _CHUNK]


def test_captions_keep_their_place_before_audio_and_the_end() -> None:
    actions: list[do.Action] = [_CHUNK, _FRAME, _SYNTHESIZE, _CHUNK, do.DropQueued()]

    assert do.asked_first(actions) == actions


def test_nothing_is_lost_where_captions_come_last() -> None:
    actions: list[do.Action] = [do.FeedChunker("So"), do.EmitText("So")]

    assert do.asked_first(actions) == actions
