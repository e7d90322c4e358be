"""Chunks on their way to being heard: looked up, followed or spoken, and sent in order.

Each chunk goes its own way (`progress.py`), and `outgoing.py` sends what comes of it. Audio that another
turn is having made right now is not made again: the chunk follows it, and takes it over where the other
one cannot go on.
"""

from collections.abc import Callable
from dataclasses import replace

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.attribution import ChunkMarks
from gateway.core.failovers import Failovers
from gateway.core.heard import SpokenChunk
from gateway.core.lead import beyond_ms
from gateway.core.outgoing import Outgoing
from gateway.core.pace import PaceMeter
from gateway.core.playback import LeadingSilence, Player
from gateway.core.progress import Keep, Progress, State
from gateway.core.refusals import not_cached
from gateway.core.report import Attribution, ChunkAccount
from gateway.core.values import Chunk, TurnSpec, Word
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.frames import BYTES_PER_SAMPLE, FrameSlicer
from voicemesh.stages import Stage

MAX_CHUNKS_AHEAD = 3
"""Chunks that may be looked up or spoken at once: the head, and those that will follow it."""
DRAFT_CHUNKS_AHEAD = 1
"""The same for a draft: most drafts are replaced, and the first chunk is what the caller will wait for."""
_CROWD = 16
"""Chunks that wait, behind which no more are wanted of who does not read."""


class Speech:
    """The audio side of a turn.

    Args:
        spec: The turn.
        clock: Stamps what goes out.
        act: Takes the actions that follow, in order.
        degrade: Is told what is given up, and a sentence about it.
        meter: Learns the pace of the voice; None for one that forgets it with the turn.
        failovers: Says whether chunks of a stream that broke off are asked for anew; None: always.

    """

    def __init__(
        self,
        spec: TurnSpec,
        clock: Clock,
        act: Callable[[do.Action], None],
        degrade: Callable[[str, str], None],
        meter: PaceMeter | None = None,
        failovers: Failovers | None = None,
    ) -> None:
        self._spec = spec
        self._clock = clock
        self._act = act
        self._degrade = degrade
        self._out = Outgoing(spec, act)
        self._failovers = failovers or Failovers()
        self._behind: tuple[Chunk, ...] = ()
        self._characters = 0
        self._meter = meter or PaceMeter()
        self.pace = self._meter.pace()
        """What is known of the voice."""
        self._samples_per_char = round(self.pace.likely_ms_per_char * spec.sample_rate_hz / 1000)
        self._engine_free_ns = 0
        self.refused: Exception | None = None
        """Why nothing can be spoken at all: the turn fails by it."""
        self.caller_behind = False
        """True while the caller does not take what it has: nothing further is made for it."""
        self.wake_ns = 0
        """When `advance` is to be called though nothing happens; 0: never."""

    # ------------------------------------------------------------ state

    def __len__(self) -> int:
        """Return how many chunks have come."""
        return len(self._out.chunks)

    @property
    def player(self) -> Player:
        """The caller's player."""
        return self._out.player

    @property
    def silence(self) -> LeadingSilence:
        """The silence at the start of the audio."""
        return self._out.silence

    @property
    def first_marks(self) -> ChunkMarks | None:
        """Marks of the chunk that the turn's first frame belongs to, once there is one."""
        return self._out.first_marks

    def left_ms(self, now_ns: int) -> float:
        """Milliseconds of audio in hand, and of all chunks that are not sent yet, as far as is known."""
        unsent = sum(self._unsent_ms(progress) for progress in self._out.open)
        return self.player.in_hand_ms(now_ns) + unsent

    @property
    def idle(self) -> bool:
        """True while every chunk so far is done."""
        return not self._out.open and not self._behind

    @property
    def crowded(self) -> bool:
        """True while no further chunks are wanted: many wait, and not for their time but for the caller."""
        return self.caller_behind and len(self._out.chunks) - self._out.sent_whole >= _CROWD

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """The chunks that have come, in order."""
        return tuple(progress.chunk for progress in self._out.chunks)

    def accounts(self, first: Attribution) -> tuple[ChunkAccount, ...]:
        """Return the accounts of the chunks, in order; `first` is that of the turn's first frame."""
        for progress in self._out.chunks:
            account = progress.account
            account.audio_us = progress.sent_samples * 1_000_000 // self._spec.sample_rate_hz
            if progress.marks is self.first_marks:
                account.path = first.path
                # By one clock point, however long it was queued: the player begins when it has it.
                account.first_frame_us = first.ttfa_us or account.first_frame_us
        return tuple(progress.account for progress in self._out.chunks)

    @property
    def characters(self) -> int:
        """Characters that were given to engines."""
        return self._characters

    @property
    def spoken(self) -> list[SpokenChunk]:
        """What was sent of each chunk, in order."""
        return [
            progress.sent(self._samples_per_char, complete=number < self._out.sent_whole)
            for number, progress in enumerate(self._out.chunks)
        ]

    # ------------------------------------------------------------ in

    def add(self, chunk: Chunk, marks: ChunkMarks) -> None:
        """Take the next chunk. It is known by its place from here on, whatever the chunker calls it."""
        chunk = replace(chunk, index=len(self._out.chunks))
        account = ChunkAccount(chunk.index, chunk.text, chunk.reason, chunk.held_us)
        self._out.chunks.append(Progress(chunk, account, marks))
        self._act(do.EmitChunk(chunk))

    def add_cut(self, chunks: tuple[Chunk, ...], now_ns: int) -> None:
        """Take all chunks of a reply. The first audio goes before what is told of those behind it."""
        at_once = 1 if self._spec.audio_cache else len(chunks)
        self._behind = chunks[at_once:]
        for chunk in chunks[:at_once]:
            self.add(chunk, ChunkMarks(cut_ns=now_ns, held_us=chunk.held_us))

    def _add_behind(self, now_ns: int) -> None:
        """Add the chunks behind the first one once it is known whether the cache has that."""
        if self._behind and self._out.chunks[0].state not in (State.WAITING, State.LOOKING_UP):
            behind, self._behind = self._behind, ()
            for chunk in behind:
                self.add(chunk, ChunkMarks(cut_ns=now_ns, held_us=chunk.held_us))

    def handle(self, event: on.AudioEvent, now_ns: int) -> bool:
        """Take an event about audio; one about a chunk that waits for no such thing is stale and ignored.

        Returns whether more is known by it of how long the audio lasts, or how soon it comes: it was the
        first of a chunk, or the last.
        """
        if isinstance(event, on.SpeechFailed):
            self._stream_ended(event, now_ns)
            return False
        if event.index >= len(self._out.chunks):
            return False
        progress = self._out.chunks[event.index]
        state, made_samples = progress.state, progress.made_samples
        if progress.state is State.LOOKING_UP and isinstance(event, on.LookupEvent):
            self._on_lookup(progress, event, now_ns)
        elif progress.state is State.FOLLOWING and isinstance(event, on.FollowEvent):
            self._on_follow(progress, event, now_ns)
        elif progress.state is State.SPEAKING and isinstance(event, on.EngineEvent):
            self._on_engine(progress, event, now_ns)
        ended = progress.state is State.DONE and state is not State.DONE
        return ended or (not made_samples and progress.made_samples > 0)

    def release(self, received_ns: int, now_ns: int) -> None:
        """Send what a draft held back; durations count from `received_ns`."""
        self._out.release(received_ns, now_ns)

    def advance(self, now_ns: int) -> None:
        """Move every chunk as far as it can go."""
        self._add_behind(now_ns)
        self._dispatch(now_ns)
        self._ask_engine(now_ns)

    def stop(self) -> None:
        """End what is under way for the turn's chunks: others go on with what they share with it."""
        if any(progress.state is State.SPEAKING for progress in self._out.open):
            self._act(do.CancelSpeech())
        for progress in self._out.open:
            if progress.shares:
                self._act(do.ReleaseAudio(progress.chunk.index))

    def _stream_ended(self, event: on.SpeechFailed, now_ns: int) -> None:
        """Have the chunks that a stream leaves behind spoken by another, where its process is gone."""
        left = [
            progress
            for progress in self._out.open
            if progress.state is State.SPEAKING
            and (event.indexes is None or progress.chunk.index in event.indexes)
        ]
        lost = event.lost if left else None
        # Of each chunk by itself: a long turn may outlive many processes, but no chunk takes many along.
        most = max((progress.lost for progress in left), default=0)
        goes_on = lost is not None and self._failovers.allows("tts", lost, now_ns, most)
        if not goes_on:
            self._fail(event)
        for progress in left:
            if goes_on:
                self._go_on(progress, now_ns)
            else:
                self._unspeakable(progress, "the TTS service broke off", now_ns)

    # ------------------------------------------------------------ lookups and synthesis

    def _dispatch(self, now_ns: int) -> None:
        """Look up the next chunks while the audio in hand and on its way is below the lead."""
        self.wake_ns = 0
        running: list[Progress] = []
        ahead = DRAFT_CHUNKS_AHEAD if self._out.gated else MAX_CHUNKS_AHEAD
        for progress in self._out.open[:ahead]:
            if progress.state is not State.WAITING:
                running.append(progress)
                continue
            unsent_ms = sum(self._unsent_ms(p) for p in running)
            too_far_ms = beyond_ms(self._spec.max_lead_ms, unsent_ms, self.player, now_ns)
            # The first one is made in any case: what is not read may be of the turn before.
            if (self.caller_behind and (running or self.player.samples)) or too_far_ms >= 0:
                if not (running or self.caller_behind):
                    self.wake_ns = now_ns + round((too_far_ms + 1) * 1e6)
                return
            running.append(progress)
            if progress.marks.cut_ns < now_ns:
                progress.marks.paced_ns = now_ns
            if self._spec.audio_cache:
                progress.state = State.LOOKING_UP
                progress.marks.looked_up_ns = self._clock.now_ns()
                due_ms = int(self.player.in_hand_ms(now_ns) + unsent_ms) + self._spec.patience_ms
                begin_ms = self.pace.begin_ms(len(progress.chunk.text))
                self._act(do.LookUpAudio(progress.chunk.index, progress.chunk.said, due_ms, begin_ms))
            else:
                progress.state = State.MISSED

    def _unsent_ms(self, progress: Progress) -> float:
        """Return the audio of a chunk that is not sent yet: known where it is complete, else estimated."""
        sent_ms = progress.sent_samples * 1000 / self._spec.sample_rate_hz
        made_ms = progress.made_samples * 1000 / self._spec.sample_rate_hz
        if progress.state is State.DONE:
            return made_ms - sent_ms
        return max(made_ms, len(progress.chunk.text) * self.pace.likely_ms_per_char) - sent_ms

    def _ask_engine(self, now_ns: int) -> None:
        """Have spoken what the cache has not, in order: a lookup that is out holds up those behind it."""
        before_ms = self.player.in_hand_ms(now_ns)
        for progress in self._out.open:
            if progress.state in (State.WAITING, State.LOOKING_UP):
                return
            if progress.state is State.MISSED:
                if self._spec.cached_only and self._spec.prompt is None and self.first_marks is None:
                    self.refused = not_cached()
                    return
                progress.state = State.SPEAKING
                # Else its first frame has another beginning, or it was asked for before, in vain.
                if not (progress.made_samples or progress.marks.asked_ns):
                    marks = progress.marks
                    if max(marks.cut_ns, marks.paced_ns, marks.cache_answered_ns, marks.followed_ns) < now_ns:
                        marks.ordered_ns = now_ns
                    marks.asked_ns = self._clock.now_ns()
                text = progress.chunk.said[progress.text_before :]
                self._characters += len(progress.chunk.text) - progress.text_before
                deadline_ms = int(before_ms) + self._spec.patience_ms
                leads = progress.keep is Keep.LEASED
                self._act(
                    do.Synthesize(progress.chunk.index, text, deadline_ms, progress.asked_from, at_once=leads)
                )
            before_ms += self._unsent_ms(progress)

    def _on_lookup(self, progress: Progress, event: on.LookupEvent, now_ns: int) -> None:
        progress.marks.cache_answered_ns = now_ns
        progress.marks.cache_us = event.server_us
        match event:
            case on.AudioFound(_, audio, words, tier, more=more):
                progress.account.cache = tier
                progress.marks.source = Stage.AUDIO_CACHE
                self._follow(progress, audio, words, now_ns)
                if not more:
                    self._complete(progress, now_ns)
            case on.AudioFollowing(_, audio, words):
                progress.account.cache = "shared"
                self._follow(progress, audio, words, now_ns)
            case on.AudioGranted():
                progress.account.cache = "miss"
                progress.keep = Keep.LEASED
                progress.state = State.MISSED
            case on.AudioMissing(detail=detail):
                progress.account.cache = "miss"
                progress.keep = Keep.WHOLE
                progress.state = State.MISSED
                if detail:
                    marks = progress.marks
                    marks.cache_us = event.server_us or (now_ns - marks.looked_up_ns) // 1000
                    self._degrade("cache", detail)

    # ------------------------------------------------------------ audio that another one makes

    def _follow(self, progress: Progress, audio: bytes, words: tuple[Word, ...], now_ns: int) -> None:
        in_hand_ms = self.player.in_hand_ms(now_ns)
        progress.slicer = FrameSlicer(self._spec.sample_rate_hz, in_hand_ms=in_hand_ms)
        progress.state = State.FOLLOWING
        self._take_part(progress, audio, words, now_ns)

    def _on_follow(self, progress: Progress, event: on.FollowEvent, now_ns: int) -> None:
        match event:
            case on.AudioPart(_, audio, words):
                self._take_part(progress, audio, words, now_ns)
            case on.AudioSealed():
                self._complete(progress, now_ns)
            case on.AudioGranted(index, offset_samples):
                self._flush(progress, now_ns)
                # What is appended must be the very next sample of what one voice says.
                if offset_samples == progress.made_samples and (
                    self._spec.voice_repeats or not offset_samples
                ):
                    progress.keep = Keep.LEASED
                else:
                    self._act(do.ReleaseAudio(index))
                self._take_over(progress, now_ns)
            case on.AudioLost(_, detail):
                self._flush(progress, now_ns)
                if detail:
                    self._degrade("cache", detail)
                self._take_over(progress, now_ns)

    def _take_part(self, progress: Progress, audio: bytes, words: tuple[Word, ...], now_ns: int) -> None:
        if audio and not progress.marks.first_frame_ns:
            progress.marks.first_frame_ns = progress.marks.followed_ns = now_ns
            waited_us = (now_ns - progress.marks.cache_answered_ns) // 1000
            progress.account.synthesis_us = waited_us
        self._take_words(progress, words, now_ns)
        assert progress.slicer is not None
        for _, frame in progress.slicer.push(audio):
            self._out.frame(progress, frame, now_ns)

    def _flush(self, progress: Progress, now_ns: int) -> None:
        assert progress.slicer is not None
        for _, frame in progress.slicer.flush():
            self._out.frame(progress, frame, now_ns)

    def _complete(self, progress: Progress, now_ns: int) -> None:
        self._flush(progress, now_ns)
        self._measure(progress)
        self._out.done(progress, now_ns)

    def _take_over(self, progress: Progress, now_ns: int) -> None:
        """Have the rest spoken for this chunk, which follows nobody any more."""
        if not progress.made_samples:
            progress.marks.followed_ns = now_ns
            progress.account.cache = "miss"
        progress.marks.source = Stage.TTS_SYNTHESIS
        self._resume(progress, now_ns, repeats=self._spec.voice_repeats)

    def _go_on(self, progress: Progress, now_ns: int) -> None:
        """Have the rest spoken of what an engine had begun that is gone, as if one engine spoke all of it."""
        progress.lost += 1
        # What another voice said, or was asked for from a word on, has offsets of its own.
        repeats = self._spec.voice_repeats and not (progress.foreign or progress.text_before)
        if progress.made_samples and not repeats:
            self._keep_nothing(progress)
        self._resume(progress, now_ns, repeats=repeats)

    def _resume(self, progress: Progress, now_ns: int, *, repeats: bool) -> None:
        progress.state = State.MISSED
        if not progress.resume(repeats=repeats, samples_per_char=self._samples_per_char):
            self._out.done(progress, now_ns)

    # ------------------------------------------------------------ audio that is made for the turn

    def _on_engine(self, progress: Progress, event: on.EngineEvent, now_ns: int) -> None:
        match event:
            case on.FrameMade():
                if event.fallback:
                    progress.fallback = True
                    self._degrade("voice", f"{event.fallback} speaks instead")
                if event.fallback or event.other_model:
                    progress.foreign = True
                    self._keep_nothing(progress, foreign=True)
                if event.first:
                    self._note_first(progress, event, now_ns)
                self._take_made(progress, event.audio, now_ns)
            case on.WordsTimed(_, words):
                self._take_words(progress, self._placed(progress, words), now_ns)
            case on.ChunkSpoken(index, resumed, engine_us):
                progress.account.engine_us = engine_us
                if resumed:
                    self._degrade("resumed", f"chunk {index} went on in another replica")
                self._engine_free_ns = now_ns
                if not progress.fallback:
                    self._measure(progress)
                self._keep(progress)
                self._out.done(progress, now_ns)
            case on.ChunkUnspeakable():
                progress.account.engine_us = event.engine_us
                self._fail(event)
                self._unspeakable(progress, event.detail, now_ns)

    def _note_first(self, progress: Progress, event: on.FrameMade, now_ns: int) -> None:
        marks = progress.marks
        if marks.first_frame_ns:
            return  # it goes on with what the cache gave: its beginning was another's
        marks.first_frame_ns = now_ns
        marks.queue_us = progress.account.queue_us = event.queue_us
        marks.synthesis_us = progress.account.synthesis_us = event.synthesis_us
        begun_ns = marks.followed_ns or marks.looked_up_ns or marks.asked_ns
        # The chunk before may have kept the engine: that is no time of this one.
        waited_ms = (now_ns - max(begun_ns, self._engine_free_ns)) / 1e6
        if not (progress.fallback or progress.lost):  # another voice has another pace
            self._meter.began(len(progress.chunk.text), waited_ms)
        self.pace = self._meter.pace()

    def _take_made(self, progress: Progress, audio: bytes, now_ns: int) -> None:
        surplus = min(progress.surplus_samples, len(audio) // BYTES_PER_SAMPLE)
        progress.surplus_samples -= surplus
        audio = audio[surplus * BYTES_PER_SAMPLE :]
        if not audio:
            return
        self._out.frame(progress, audio, now_ns)
        if progress.keep is Keep.WHOLE:
            progress.audio += audio
        elif progress.keep is Keep.LEASED:
            self._act(do.AppendAudio(progress.chunk.index, audio, ()))

    def _placed(self, progress: Progress, words: tuple[Word, ...]) -> tuple[Word, ...]:
        """Return the words of what an engine was asked to say as words of the chunk."""
        if not progress.text_before:
            return words
        return tuple(
            replace(
                word,
                text_offset=word.text_offset + progress.text_before,
                offset_samples=word.offset_samples + progress.samples_before,
            )
            for word in words
        )

    def _take_words(self, progress: Progress, words: tuple[Word, ...], now_ns: int) -> None:
        words = progress.new_words(words)
        if not words:
            return
        self._out.words(progress, words, now_ns)
        if progress.keep is Keep.LEASED:
            self._act(do.AppendAudio(progress.chunk.index, b"", words))

    def _keep(self, progress: Progress) -> None:
        """Have the cache keep what an engine made of a chunk, which is complete."""
        if progress.keep is Keep.LEASED and progress.made_samples:
            self._act(do.SealAudio(progress.chunk.index))
        elif progress.keep is Keep.LEASED:
            self._act(do.ReleaseAudio(progress.chunk.index))
        elif progress.keep is Keep.WHOLE and progress.audio:
            said, audio = progress.chunk.said, bytes(progress.audio)
            self._act(do.StoreAudio(said, audio, tuple(progress.words)))

    def _keep_nothing(self, progress: Progress, *, foreign: bool = False) -> None:
        """Let nobody find what an engine makes of a chunk; `foreign`: it is not what was asked for."""
        if progress.keep is Keep.LEASED:
            self._act(do.ReleaseAudio(progress.chunk.index, foreign=foreign))
        progress.keep = Keep.NOTHING
        progress.audio = bytearray()

    def _measure(self, progress: Progress) -> None:
        """Learn from a chunk that is complete how fast the voice speaks."""
        audio_ms = progress.made_samples * 1000 / self._spec.sample_rate_hz
        self._meter.spoke(len(progress.chunk.text), audio_ms)
        self.pace = self._meter.pace()

    def _fail(self, event: on.ChunkUnspeakable | on.SpeechFailed) -> None:
        """Note a refusal: before any audio, the turn fails by it instead of being spoken by the caller."""
        if event.refusal is not None and self.first_marks is None:
            self.refused = event.refusal

    def _unspeakable(self, progress: Progress, detail: str, now_ns: int) -> None:
        self._keep_nothing(progress)
        if self.refused is None:
            self._degrade("local_speech", detail)
            rest = progress.chunk.text[progress.rest(self._samples_per_char) :]
            if rest:
                self._out.local(progress, rest, now_ns)
        self._out.done(progress, now_ns)
