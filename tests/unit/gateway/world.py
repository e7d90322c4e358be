"""Everything around a turn engine, in virtual time and in an order drawn by chance.

Services answer what the engine asks, each in its own order; a caller takes what it is told. Which of them is
next, and how much time passes, is drawn from a seed. `World` also keeps account by itself of what work is out
and which words were sent at which sample, so that a test can say what the engine should have done.
"""

import random
from array import array
from dataclasses import dataclass, field

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.values import Chunk, Word
from tests.unit.gateway.engine import RATE, Script
from voicemesh.runtime.errors import LlmStreamBrokenError

TOLD = (do.EmitFrame, do.EmitText, do.EmitChunk, do.EmitWords, do.EmitSpeakLocally, do.EmitDegraded)
WORD_SAMPLES = RATE // 4


@dataclass
class Sent:
    """A chunk as the caller got it."""

    chunk: Chunk
    words: list[Word]
    start: int = -1
    """Samples of the turn before it, once its first frame was sent."""
    samples: int = 0
    local: bool = False


@dataclass
class World:
    """See the module. `spoils`: whether services may fail; `shares`: whether others want the same audio."""

    seed: int
    script: Script
    spoils: bool = True
    sentences: int = 4
    shares: bool = False
    queues: dict[str, list[on.Event]] = field(default_factory=dict)
    llm_out: bool = False
    speech_out: set[int] = field(default_factory=set)
    sent: list[Sent] = field(default_factory=list)
    leases: dict[int, "Lease"] = field(default_factory=dict)
    """The leases that the cache has given, by chunk."""
    heard_audio: dict[int, bytearray] = field(default_factory=dict)
    """What the caller got, by chunk."""
    seen: int = 0
    samples: int = 0
    timer_ns: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self._text = ""
        self._cut = 0
        self._began = 0

    def start(self) -> None:
        """Begin the turn."""
        if self.script.engine.spec.prompt is None:
            self.queues["text"] = self._deltas()
        self.script.start()
        self.answer()

    def _deltas(self) -> list[on.Event]:
        """Return what an LLM, or a caller, writes: sentences of one to four words, cut anywhere."""
        draw = self.random
        sentences = [
            " ".join(draw.choice(("alpha", "be", "gamma")) for _ in range(draw.randint(1, 4))) + ". "
            for _ in range(draw.randint(0, self.sentences))
        ]
        text, events = "".join(sentences), []
        while text:
            size = draw.randint(1, 12)
            events.append(on.TextArrived(text[:size], 1, 1))
            text = text[size:]
        failed = self.spoils and draw.random() < 0.1
        end = on.TextFailed(LlmStreamBrokenError("cut")) if failed else on.TextEnded(complete=True)
        return [*events, end]

    def answer(self) -> None:
        """Have the services answer what the engine has asked since the last call."""
        for action in self.script.actions[self.seen :]:
            self._answer(action)
        self.seen = len(self.script.actions)

    def _answer(self, action: do.Action) -> None:
        down = "down" if self.spoils and self.random.random() < 0.1 else ""
        match action:
            case do.LoadHistory():
                event = on.HistoryUnavailable(down) if down else on.HistoryLoaded((), 0, 1)
                self.queues["history"] = [event]
            case do.LookUpReply():
                self.queues["reply"] = [on.ReplyMissing(detail=down)]
            case do.StartLlm():
                self.llm_out = True
                self.queues["text"] = self._deltas()
            case do.FeedChunker(text):
                self._text += text
                self._cut_chunks(".")
            case do.EndChunker():
                self._cut_chunks("")
                self.queues.setdefault("chunker", []).append(on.ChunksEnded())
            case do.LookUpAudio(index):
                self._look_up(index, down)
            case do.Synthesize():
                self._speak(action)
            case do.AppendAudio() | do.SealAudio() | do.ReleaseAudio():
                self._share(action)
            case do.EmitChunk(chunk):
                self.sent.append(Sent(chunk, words_of(chunk)))
            case do.EmitFrame() | do.EmitSpeakLocally():
                self._take(action)
            case do.SaveHistory():
                self.queues.setdefault("saved", []).append(on.HistorySaved(down, 0 if down else 1))
            case do.SetTimer(at_ns):
                self.timer_ns = at_ns
            case do.DropQueued():
                self.queues.pop("caller", None)

    def _cut_chunks(self, mark: str) -> None:
        while True:
            end = self._text.find(mark, self._cut) + 1 if mark else len(self._text)
            text = self._text[self._cut : end].strip()
            if end <= self._cut or not text:
                return
            offset = self._text.index(text, self._cut)
            chunk = Chunk(self._began, text, offset, len(text), "sentence", 0)
            self.queues.setdefault("chunker", []).append(on.ChunkCut(chunk))
            self._began += 1
            self._cut = end

    def _audio(self, index: int) -> tuple[tuple[Word, ...], bytes]:
        chunk = next(one.chunk for one in self._chunks() if one.chunk.index == index)
        words = words_of(chunk)
        return tuple(words), pcm_of(index, len(words))

    def _chunks(self) -> list[do.EmitChunk]:
        told = [a for a in self.script.actions if isinstance(a, do.EmitChunk)]
        return told or [a for a in self.script.engine._held if isinstance(a, do.EmitChunk)]

    def _look_up(self, index: int, down: str) -> None:
        words, audio = self._audio(index)
        if self.shares and not down:
            self._look_up_shared(index, words, audio)
            return
        hit = not down and self.random.random() < 0.3
        found = on.AudioFound(index, audio, words, "memory", 1)
        self.queues[f"cache{index}"] = [found if hit else on.AudioMissing(index, detail=down)]

    def _look_up_shared(self, index: int, words: tuple[Word, ...], audio: bytes) -> None:
        """Answer as a cache does that others ask, too: with what they have made, and what became of it."""
        queue = self.queues[f"cache{index}"] = []
        draw, size = self.random, len(audio) // 2
        how = draw.choice(("hit", "more", "following", "following", "following", "granted"))
        if how == "granted":
            self.leases[index] = Lease(index, 0, size)
            queue.append(on.AudioGranted(index, 0, 1))
            return
        if how == "hit":
            queue.append(on.AudioFound(index, audio, words, "memory", 1))
            return
        cuts = sorted(draw.randint(0, size) for _ in range(draw.randint(1, 6)))
        stop = size if draw.random() < 0.4 else cuts[-1]
        told = 0
        for number, (begin, end) in enumerate(zip((0, *cuts), (*cuts, stop), strict=True)):
            # A word is told with the part that it begins in; one whose part is empty, with the next.
            fresh = tuple(word for word in words[told:] if word.offset_samples < end)
            told += len(fresh)
            part = audio[2 * begin : 2 * end]
            if number:
                queue.append(on.AudioPart(index, part, fresh))
            elif how == "more":
                queue.append(on.AudioFound(index, part, fresh, "redis", 1, more=True))
            else:
                queue.append(on.AudioFollowing(index, part, fresh, 1))
        if stop == size and draw.random() < 0.8:
            queue.append(on.AudioSealed(index))
        elif how == "more" or draw.random() < 0.3:
            queue.append(on.AudioLost(index, draw.choice(("", "the cache is gone"))))
        else:
            self.leases[index] = Lease(index, stop, size)
            queue.append(on.AudioGranted(index, stop))

    def _share(self, action: do.AppendAudio | do.SealAudio | do.ReleaseAudio) -> None:
        lease = self.leases.get(action.index)
        match action:
            case do.AppendAudio(index, audio):
                assert lease is not None
                assert not lease.ended
                _, whole = self._audio(index)
                assert audio == whole[2 * lease.at : 2 * lease.at + len(audio)], "the very next samples"
                lease.at += len(audio) // 2
            case do.SealAudio():
                assert lease is not None
                assert not lease.ended
                assert lease.at == lease.size
                lease.ended = "sealed"
            case do.ReleaseAudio(index):
                if lease is not None:
                    assert not lease.ended
                    lease.ended = "released"
                self.queues.pop(f"cache{index}", None)

    def _speak(self, action: do.Synthesize) -> None:
        index = action.index
        self.speech_out.add(index)
        queue = self.queues.setdefault(f"tts{index}" if self.shares else "tts", [])
        words, audio = self._audio(index)
        start = action.start_offset_samples
        if not self.script.engine.spec.voice_repeats and start == 0:
            words, audio = words_and_pcm(index, action.text)
        audio, words = audio[2 * start :], tuple(word for word in words if word.offset_samples >= start)
        queue.append(on.WordsTimed(index, words))
        first, at = True, 0
        while at < len(audio):
            size = 2 * self.random.randint(1, WORD_SAMPLES)
            queue.append(on.FrameMade(index, start + at // 2, audio[at : at + size], 1, 1, first))
            at += size
            first = False
        bad = self.spoils and self.random.random() < 0.05
        queue.append(on.ChunkUnspeakable(index, "bad") if bad else on.ChunkSpoken(index))

    def _take(self, action: do.EmitFrame | do.EmitSpeakLocally) -> None:
        sent = self.sent[action.index]
        if isinstance(action, do.EmitSpeakLocally):
            sent.local = True
            sent.start = self.samples if sent.start < 0 else sent.start
            return
        if sent.start < 0:
            sent.start = self.samples
        assert action.turn_offset_samples == self.samples
        assert action.offset_samples == sent.samples
        sent.samples += len(action.audio) // 2
        self.heard_audio.setdefault(action.index, bytearray()).extend(action.audio)
        self.samples += len(action.audio) // 2
        if action.first:
            self.queues["caller"] = [on.FirstFrameSent()]

    def step(self) -> bool:
        """Let one thing happen; False where nothing is left that could."""
        ready = [name for name, queue in sorted(self.queues.items()) if queue]
        if not ready and self.timer_ns and not self.script.engine.ended:
            self._wait_for_timer()
            return True
        if not ready:
            return False
        event = self.queues[self.random.choice(ready)].pop(0)
        self.note(event)
        self.script.on(event, after_ms=self.random.choice((0, 0, 1, 30, 400)))
        self.answer()
        return True

    def _wait_for_timer(self) -> None:
        wait_ns, self.timer_ns = max(0, self.timer_ns - self.script.clock.now_ns()), 0
        self.script.on(on.TimerFired(), after_ms=wait_ns / 1e6)
        self.answer()

    def note(self, event: on.Event) -> None:
        """Note what work an event ends."""
        match event:
            case on.TextEnded() | on.TextFailed():
                self.llm_out = False
            case on.ChunkSpoken(index) | on.ChunkUnspeakable(index):
                self.speech_out.discard(index)

    def heard(self, played: int) -> str:
        """Return the text that was heard by sample `played` of the turn, from what was sent."""
        end = 0
        for sent in self.sent:
            if sent.start < 0 or played <= sent.start:
                break
            if sent.local and played >= sent.start + sent.samples:
                end = sent.chunk.text_offset + sent.chunk.text_length
                continue
            for word in sent.words:
                if sent.start + word.offset_samples < played:
                    end = sent.chunk.text_offset + word.text_offset + word.text_length
        # The full stop belongs to the word before it.
        return self._text[: end + (self._text[end : end + 1] == "." and end > 0)]


@dataclass
class Lease:
    """What the engine may append of a chunk, from which sample on."""

    index: int
    at: int
    size: int
    ended: str = ""


def pcm_of(index: int, words: int) -> bytes:
    """Return the audio of so many words: no sample is like one near it, or like that of another chunk."""
    return array("h", ((n * 7 + index * 131) % 32_000 + 500 for n in range(words * WORD_SAMPLES))).tobytes()


def words_and_pcm(index: int, text: str) -> tuple[tuple[Word, ...], bytes]:
    """Return what a voice makes of a text by itself."""
    words = tuple(words_of_text(text))
    return words, pcm_of(index, len(words))


def words_of(chunk: Chunk) -> list[Word]:
    """Return the words of a chunk, a quarter of a second each."""
    return words_of_text(chunk.text)


def words_of_text(text: str) -> list[Word]:
    """Return the words of a text, a quarter of a second each."""
    words, at = [], 0
    for number, word in enumerate(text.rstrip(".").split()):
        at = text.index(word, at)
        words.append(Word(word, at, len(word), number * WORD_SAMPLES))
        at += len(word)
    return words
