"""Chunks on their way to being heard: looked up, spoken, sent in order.

Each chunk goes its own way, and its frames are sent when it is the head: all chunks before it are done.

    WAITING ── LOOKING_UP ──┬── hit ─────────────────────────────────────────── DONE
                            └── miss ── MISSED ── SPEAKING ──┬── spoken ─────── DONE
                                                             └── unspeakable ── DONE (speak_locally)

While a turn is a draft there is no head: what is made is held back until `release`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.attribution import ChunkMarks
from gateway.core.heard import SpokenChunk
from gateway.core.pace import PaceMeter
from gateway.core.playback import LeadingSilence, Player
from gateway.core.report import ChunkAccount
from gateway.core.values import Chunk, TurnSpec, Word
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.frames import BYTES_PER_SAMPLE, FrameSlicer

MAX_CHUNKS_AHEAD = 3
"""Chunks that may be looked up or spoken at once: the head, and those that will follow it."""
DRAFT_CHUNKS_AHEAD = 1
"""The same for a draft: most drafts are replaced, and the first chunk is what the caller will wait for."""
MS_PER_CHAR = 65
"""Estimate of speech whose audio is not there yet, of an unknown voice: about 15 characters a second."""


class _State(Enum):
    WAITING = auto()
    LOOKING_UP = auto()
    MISSED = auto()
    SPEAKING = auto()
    DONE = auto()


@dataclass(slots=True)
class _Progress:
    """One chunk on its way."""

    chunk: Chunk
    account: ChunkAccount
    marks: ChunkMarks
    state: _State = _State.WAITING
    audio: bytearray = field(default_factory=bytearray)
    words: list[Word] = field(default_factory=list)
    sequence: int = 0
    made_samples: int = 0
    sent_samples: int = 0
    other_model: bool = False
    """Its audio is not that of the model that the turn was begun with."""
    fallback: bool = False
    """Another voice than the one asked for spoke it, or some of it."""
    held_back: list[do.Action] = field(default_factory=list)
    """What is to be sent once the chunk is the head."""


class Speech:
    """The audio side of a turn.

    Args:
        spec: The turn.
        clock: Stamps what goes out.
        act: Takes the actions that follow, in order.
        degrade: Is told what is given up, and a sentence about it.
        meter: Learns the pace of the voice; None for one that forgets it with the turn.

    """

    def __init__(
        self,
        spec: TurnSpec,
        clock: Clock,
        act: Callable[[do.Action], None],
        degrade: Callable[[str, str], None],
        meter: PaceMeter | None = None,
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._act = act
        self._degrade = degrade
        self._chunks: list[_Progress] = []
        self._head = 0
        self._gated = spec.draft
        self._received_ns = spec.received_ns
        self._characters = 0
        self._meter = meter or PaceMeter()
        self.pace = self._meter.pace()
        """What is known of the voice."""
        self._samples_per_char = round(self._ms_per_char * spec.sample_rate_hz / 1000)
        self._engine_free_ns = 0
        self.player = Player(spec.sample_rate_hz)
        self.silence = LeadingSilence()
        self.first_marks: ChunkMarks | None = None
        """Marks of the chunk that the turn's first frame belongs to, once there is one."""
        self.refused: Exception | None = None
        """Why nothing can be spoken at all: the turn fails by it."""
        self.wake_ns = 0
        """When `advance` is to be called though nothing happens; 0: never."""

    # ------------------------------------------------------------ state

    def __len__(self) -> int:
        """Return how many chunks have come."""
        return len(self._chunks)

    @property
    def _ms_per_char(self) -> float:
        return self.pace.ms_per_char or MS_PER_CHAR

    def left_ms(self, now_ns: int) -> float:
        """Milliseconds of audio in hand, and of all chunks that are not sent yet, as far as is known."""
        unsent = sum(self._unsent_ms(progress) for progress in self._chunks[self._head :])
        return self.player.in_hand_ms(now_ns) + unsent

    @property
    def idle(self) -> bool:
        """True while every chunk so far is done."""
        return self._head == len(self._chunks)

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunks that have come, in order."""
        return tuple(progress.chunk for progress in self._chunks)

    @property
    def at_work(self) -> bool:
        """True while an engine was asked for a chunk that is not done."""
        return any(progress.state is _State.SPEAKING for progress in self._chunks[self._head :])

    @property
    def accounts(self) -> tuple[ChunkAccount, ...]:
        """The accounts of the chunks, in order."""
        for progress in self._chunks:
            progress.account.audio_us = progress.sent_samples * 1_000_000 // self._spec.sample_rate_hz
        return tuple(progress.account for progress in self._chunks)

    @property
    def characters(self) -> int:
        """Characters that were given to engines."""
        return self._characters

    @property
    def spoken(self) -> list[SpokenChunk]:
        """What was sent of each chunk, in order."""
        return [
            SpokenChunk(
                p.chunk,
                tuple(p.words),
                p.sent_samples,
                complete=i < self._head,
                samples_per_char=self._samples_per_char,
            )
            for i, p in enumerate(self._chunks)
        ]

    # ------------------------------------------------------------ in

    def add(self, chunk: Chunk, marks: ChunkMarks) -> None:
        """Take the next chunk."""
        account = ChunkAccount(chunk.index, chunk.text, chunk.reason, chunk.held_us)
        self._chunks.append(_Progress(chunk, account, marks))
        self._act(do.EmitChunk(chunk))

    def handle(self, event: on.AudioEvent, now_ns: int) -> None:
        """Take an event about audio; one about a chunk that waits for no such thing is stale and ignored."""
        if isinstance(event, on.SpeechFailed):
            self._fail(event)
            for progress in self._chunks[self._head :]:
                if progress.state in (_State.MISSED, _State.SPEAKING):
                    self._unspeakable(progress, "the TTS service broke off", now_ns)
            return
        if event.index >= len(self._chunks):
            return
        progress = self._chunks[event.index]
        if isinstance(event, (on.AudioFound, on.AudioMissing)):
            if progress.state is _State.LOOKING_UP:
                self._on_lookup(progress, event, now_ns)
        elif progress.state is _State.SPEAKING:
            self._on_engine(progress, event, now_ns)

    def release(self, received_ns: int, now_ns: int) -> None:
        """Send what a draft held back; durations count from `received_ns`."""
        self._gated = False
        self._received_ns = received_ns
        self._flow(now_ns)

    def advance(self, now_ns: int) -> None:
        """Move every chunk as far as it can go."""
        self._dispatch(now_ns)
        self._ask_engine(now_ns)

    # ------------------------------------------------------------ lookups and synthesis

    def _dispatch(self, now_ns: int) -> None:
        """Look up the next chunks while the audio in hand and on its way is below the lead."""
        self.wake_ns = 0
        running: list[_Progress] = []
        ahead = DRAFT_CHUNKS_AHEAD if self._gated else MAX_CHUNKS_AHEAD
        for progress in self._chunks[self._head : self._head + ahead]:
            if progress.state is not _State.WAITING:
                running.append(progress)
                continue
            ahead_ms = self.player.in_hand_ms(now_ns) + sum(self._unsent_ms(p) for p in running)
            lead_ms = self._spec.max_lead_ms
            if lead_ms and ahead_ms >= lead_ms:
                if not running:
                    self.wake_ns = now_ns + round((ahead_ms - lead_ms + 1) * 1e6)
                return
            running.append(progress)
            if self._spec.audio_cache:
                progress.state = _State.LOOKING_UP
                progress.marks.looked_up_ns = self._clock.now_ns()
                self._act(do.LookUpAudio(progress.chunk.index, progress.chunk.said))
            else:
                progress.state = _State.MISSED

    def _unsent_ms(self, progress: _Progress) -> float:
        """Return the audio of a chunk that is not sent yet: known where it is complete, else estimated."""
        sent_ms = progress.sent_samples * 1000 / self._spec.sample_rate_hz
        made_ms = progress.made_samples * 1000 / self._spec.sample_rate_hz
        if progress.state is _State.DONE:
            return made_ms - sent_ms
        return max(made_ms, len(progress.chunk.text) * self._ms_per_char) - sent_ms

    def _ask_engine(self, now_ns: int) -> None:
        """Have spoken what the cache has not, in order: a lookup that is out holds up those behind it."""
        before_ms = self.player.in_hand_ms(now_ns)
        for progress in self._chunks[self._head :]:
            if progress.state in (_State.WAITING, _State.LOOKING_UP):
                return
            if progress.state is _State.MISSED:
                progress.state = _State.SPEAKING
                progress.marks.asked_ns = self._clock.now_ns()
                self._characters += len(progress.chunk.text)
                deadline_ms = int(before_ms) + self._spec.patience_ms
                self._act(do.Synthesize(progress.chunk.index, progress.chunk.said, deadline_ms))
            before_ms += self._unsent_ms(progress)

    def _on_lookup(self, progress: _Progress, event: on.AudioFound | on.AudioMissing, now_ns: int) -> None:
        progress.marks.cache_answered_ns = now_ns
        progress.marks.cache_us = event.server_us
        match event:
            case on.AudioFound(_, audio, words, tier):
                progress.account.cache = tier
                progress.marks.first_frame_ns = now_ns
                if words:
                    self._take_words(progress, words, now_ns)
                slicer = FrameSlicer(self._spec.sample_rate_hz, in_hand_ms=self.player.in_hand_ms(now_ns))
                for _, frame in (*slicer.push(audio), *slicer.flush()):
                    self._take_frame(progress, frame, now_ns)
                self._measure(progress)
                self._done(progress, now_ns)
            case on.AudioMissing(detail=detail):
                progress.account.cache = "miss"
                progress.state = _State.MISSED
                if detail:
                    self._degrade("cache", detail)

    def _on_engine(self, progress: _Progress, event: on.EngineEvent, now_ns: int) -> None:
        match event:
            case on.FrameMade():
                progress.other_model |= event.other_model
                if event.fallback:
                    progress.fallback = True
                    self._degrade("voice", f"{event.fallback} speaks instead")
                if event.first:
                    progress.marks.first_frame_ns = now_ns
                    progress.marks.queue_us = progress.account.queue_us = event.queue_us
                    progress.marks.synthesis_us = progress.account.synthesis_us = event.synthesis_us
                    begun_ns = progress.marks.looked_up_ns or progress.marks.asked_ns
                    # The chunk before may have kept the engine: that is no time of this one.
                    waited_ms = (now_ns - max(begun_ns, self._engine_free_ns)) / 1e6
                    if not progress.fallback:  # another voice has another pace
                        self._meter.began(len(progress.chunk.text), waited_ms)
                    self.pace = self._meter.pace()
                self._take_frame(progress, event.audio, now_ns)
            case on.WordsTimed(_, words):
                self._take_words(progress, words, now_ns)
            case on.ChunkSpoken(index, resumed):
                if resumed:
                    self._degrade("resumed", f"chunk {index} went on in another replica")
                self._engine_free_ns = now_ns
                if not progress.fallback:
                    self._measure(progress)
                if progress.audio and not (progress.fallback or progress.other_model):
                    self._act(
                        do.StoreAudio(progress.chunk.said, bytes(progress.audio), tuple(progress.words))
                    )
                self._done(progress, now_ns)
            case on.ChunkUnspeakable():
                self._fail(event)
                self._unspeakable(progress, event.detail, now_ns)

    def _measure(self, progress: _Progress) -> None:
        """Learn from a chunk that is complete how fast the voice speaks."""
        audio_ms = progress.made_samples * 1000 / self._spec.sample_rate_hz
        self._meter.spoke(len(progress.chunk.text), audio_ms)
        self.pace = self._meter.pace()

    def _fail(self, event: on.ChunkUnspeakable | on.SpeechFailed) -> None:
        """Note a refusal: before any audio, the turn fails by it instead of being spoken by the caller."""
        if event.refusal is not None and self.first_marks is None:
            self.refused = event.refusal

    def _unspeakable(self, progress: _Progress, detail: str, now_ns: int) -> None:
        if self.refused is None:
            self._degrade("local_speech", detail)
            samples = progress.made_samples
            made = SpokenChunk(
                progress.chunk,
                tuple(progress.words),
                samples,
                complete=False,
                samples_per_char=self._samples_per_char,
            )
            rest = progress.chunk.text[len(made.heard(samples)) :].lstrip()
            if rest:
                self._send(progress, do.EmitSpeakLocally(progress.chunk.index, rest), now_ns)
        self._done(progress, now_ns)

    # ------------------------------------------------------------ out, in order

    def _take_frame(self, progress: _Progress, audio: bytes, now_ns: int) -> None:
        frame = do.EmitFrame(
            index=progress.chunk.index,
            sequence=progress.sequence,
            offset_samples=progress.made_samples,
            turn_offset_samples=0,  # known when the chunk is the head
            audio=audio,
            first=False,
        )
        progress.sequence += 1
        progress.made_samples += len(audio) // BYTES_PER_SAMPLE
        if self._spec.audio_cache and progress.state is _State.SPEAKING:
            progress.audio += audio
        self._send(progress, frame, now_ns)

    def _take_words(self, progress: _Progress, words: tuple[Word, ...], now_ns: int) -> None:
        progress.words.extend(words)
        if self._spec.word_timings:
            told = tuple(_in_source(progress.chunk, word) for word in words)
            self._send(progress, do.EmitWords(progress.chunk.index, told), now_ns)

    def _send(self, progress: _Progress, action: do.Action, now_ns: int) -> None:
        if self._gated or self._chunks[self._head] is not progress:
            progress.held_back.append(action)
            return
        if isinstance(action, do.EmitFrame):
            if not progress.sent_samples:
                progress.account.first_frame_us = (now_ns - self._received_ns) // 1000
            first = self.first_marks is None
            if first:
                self.first_marks = progress.marks
            action = replace(action, turn_offset_samples=self.player.samples, first=first)
            samples = len(action.audio) // BYTES_PER_SAMPLE
            progress.sent_samples += samples
            self.player.add(samples, now_ns)
            self.silence.add(action.audio)
        self._act(action)

    def _done(self, progress: _Progress, now_ns: int) -> None:
        """End a chunk; if it is the head, those behind it move up and send what they held back."""
        progress.state = _State.DONE
        progress.audio = bytearray()  # it was sent, and given to the cache: the turn needs it no more
        if not self._gated and self._chunks[self._head] is progress:
            self._flow(now_ns)

    def _flow(self, now_ns: int) -> None:
        """Send what the head held back; one that is done gives way to the next."""
        while self._head < len(self._chunks):
            head = self._chunks[self._head]
            held_back, head.held_back = head.held_back, []
            for action in held_back:
                self._send(head, action, now_ns)
            if head.state is not _State.DONE:
                break
            self._head += 1


def _in_source(chunk: Chunk, word: Word) -> Word:
    """Return the word with where it stands in the turn's text."""
    begin, end = chunk.source(word.text_offset, word.text_offset + word.text_length)
    return replace(word, source_offset=begin, source_length=end - begin)
