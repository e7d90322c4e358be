"""A turn that may have only what is cached, and what was given up before a turn began."""

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.values import Chunk
from tests.unit.gateway.engine import Script, pcm
from voicemesh.runtime.errors import OverloadedError

STEP = (("cached_only", "too much load"),)


def test_a_reply_that_is_cached_is_given() -> None:
    script = Script(cached_only=True, given_up=STEP, keep_history=False)
    script.start()
    script.on(on.ReplyFound("Yes.", "memory", 100, (Chunk(0, "Yes.", 0, 4, "sentence", 0),)))
    script.on(on.AudioFound(0, pcm(300), (), "memory", 100))
    script.on(on.FirstFrameSent())

    assert script.report.outcome == "completed"
    assert script.report.degraded == ("cached_only",)
    assert script.of(do.EmitDegraded) == [do.EmitDegraded("cached_only", "too much load")]


def test_a_reply_that_is_not_is_refused_before_a_model_is_asked() -> None:
    script = Script(cached_only=True, given_up=STEP, keep_history=False)
    script.start()
    script.on(on.ReplyMissing(100))

    assert not script.of(do.StartLlm)
    error = script.report.error
    assert isinstance(error, OverloadedError)
    assert (error.limit, error.retry_after_ms) == ("cache", 1000)


def test_own_words_whose_audio_is_not_cached_are_refused_before_an_engine_is_asked() -> None:
    script = Script(cached_only=True, prompt=None, keep_history=False)
    script.start()
    script.on(on.TextArrived("Hello."))
    script.on(on.TextEnded())
    script.say(0, "Hello.", 0)
    script.on(on.AudioGranted(0, 0))

    assert not script.of(do.Synthesize)
    assert script.of(do.ReleaseAudio)  # others go on without it
    assert isinstance(script.report.error, OverloadedError)
