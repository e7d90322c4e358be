"""Random orders of everything that can happen to a turn."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.values import Chunk
from tests.unit.gateway.engine import Script, pcm
from voicemesh.runtime.errors import LlmStreamBrokenError


@given(data=st.data())
def test_frames_are_in_order_nothing_follows_the_end_and_every_turn_ends_once(data: st.DataObject) -> None:
    script = Script(keep_history=data.draw(st.booleans()), max_lead_ms=0)
    script.start()
    chunks = data.draw(st.integers(1, 5))
    # What each service may still say, in its own order; which service speaks next is drawn.
    queues: dict[str, list[on.Event]] = {"llm": [on.TextArrived("word. ", 1, 1) for _ in range(chunks)]}
    queues["llm"].append(
        on.TextFailed(LlmStreamBrokenError("cut")) if data.draw(st.booleans()) else on.TextEnded()
    )
    interrupt_at = data.draw(st.none() | st.integers(0, 30))
    cut = 0
    step = 0
    seen = 0
    while not script.of(do.Finish):
        for action in script.actions[seen:]:
            match action:
                case do.LoadHistory():
                    queues["history"] = [on.HistoryLoaded((), 0, 1)]
                case do.LookUpReply():
                    queues["reply"] = [on.ReplyMissing()]
                case do.FeedChunker():
                    text = "word."
                    chunk = Chunk(cut, text, cut * 6, len(text), "sentence", 0)
                    queues.setdefault("chunker", []).append(on.ChunkCut(chunk))
                    cut += 1
                case do.EndChunker():
                    queues.setdefault("chunker", []).append(on.ChunksEnded())
                case do.LookUpAudio(index):
                    hit = data.draw(st.booleans())
                    queues[f"cache{index}"] = [
                        on.AudioFound(index, pcm(90), (), "memory", 1) if hit else on.AudioMissing(index)
                    ]
                case do.Synthesize(index):
                    queue = queues.setdefault("tts", [])
                    queue += [on.FrameMade(index, 0, pcm(20), first=True), on.FrameMade(index, 0, pcm(40))]
                    bad = data.draw(st.integers(0, 9)) == 0
                    queue.append(on.ChunkUnspeakable(index, "bad") if bad else on.ChunkSpoken(index))
                case do.EmitFrame(first=True):
                    queues["caller"] = [on.FirstFrameSent()]
                case do.SaveHistory():
                    queues["saved"] = [on.HistorySaved()]
        seen = len(script.actions)
        ready = [
            name
            for name, queue in sorted(queues.items())
            if queue and not (name == "llm" and not script.of(do.StartLlm))
        ]
        if step == interrupt_at:
            script.on(on.Interrupted(data.draw(st.none() | st.integers(0, 500))))
        else:
            name = data.draw(st.sampled_from(ready))
            script.on(queues[name].pop(0), after_ms=data.draw(st.integers(0, 50)))
        step += 1
        assert step < 500

    end = next(i for i, action in enumerate(script.actions) if isinstance(action, do.DropQueued | do.Finish))
    after = script.actions[end:]
    assert not [action for action in after if isinstance(action, do.EmitFrame | do.EmitText | do.EmitChunk)]
    assert len(script.of(do.Finish)) == 1
    for queue in queues.values():
        for late in queue:
            assert script.on(late) == []
    frames = script.of(do.EmitFrame)
    assert [(f.index, f.sequence) for f in frames] == sorted((f.index, f.sequence) for f in frames)
    offset = 0
    for frame in frames:
        assert frame.turn_offset_samples == offset
        offset += len(frame.audio) // 2
    attribution = script.report.attribution
    assert sum(attribution.stages.values()) + attribution.unattributed_us == attribution.ttfa_us
    if script.report.outcome == "completed":
        assert {f.index for f in frames} | {a.index for a in script.of(do.EmitSpeakLocally)} == set(
            range(chunks)
        )
