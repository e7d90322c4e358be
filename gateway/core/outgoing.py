"""What a turn's chunks send, in order: frames, words, and what the caller is to speak itself.

The frames of a chunk are sent when it is the head: all chunks before it are done. While a turn is a
draft there is no head: what is made is held back until `release`.
"""

from collections.abc import Callable
from dataclasses import replace

from gateway.core import actions as do
from gateway.core.attribution import ChunkMarks, Step, path_of, walk_later
from gateway.core.playback import LeadingSilence, Player
from gateway.core.progress import Progress, State
from gateway.core.underruns import note, shares_of
from gateway.core.values import Chunk, TurnSpec, Word
from voicemesh.runtime.frames import BYTES_PER_SAMPLE


class Outgoing:
    """The chunks of a turn, as they leave.

    Args:
        spec: The turn.
        act: Takes the actions that follow, in order.

    """

    def __init__(self, spec: TurnSpec, act: Callable[[do.Action], None]) -> None:
        self._spec = spec
        self._act = act
        self._received_ns = spec.received_ns
        self._head = 0
        self.chunks: list[Progress] = []
        self.gated = spec.draft
        """True while nothing is sent, because the turn is a draft."""
        self.player = Player(spec.sample_rate_hz)
        self.silence = LeadingSilence()
        self.first_marks: ChunkMarks | None = None
        """Marks of the chunk that the turn's first frame belongs to, once there is one."""

    @property
    def open(self) -> list[Progress]:
        """The head and those behind it."""
        return self.chunks[self._head :]

    @property
    def sent_whole(self) -> int:
        """How many chunks are done, and all that is in them sent."""
        return self._head

    def frame(self, progress: Progress, audio: bytes, now_ns: int) -> None:
        """Send the next audio of a chunk."""
        frame = do.EmitFrame(
            index=progress.chunk.index,
            sequence=progress.sequence,
            offset_samples=progress.made_samples,
            turn_offset_samples=0,  # known when the chunk is the head
            audio=audio,
            first=False,
        )
        if not progress.sequence:
            progress.marks.framed_ns = now_ns
        progress.sequence += 1
        progress.made_samples += len(audio) // BYTES_PER_SAMPLE
        self._send(progress, frame, now_ns)

    def words(self, progress: Progress, words: tuple[Word, ...], now_ns: int) -> None:
        """Send when words of a chunk are heard."""
        progress.words.extend(words)
        if self._spec.word_timings:
            told = tuple(_in_source(progress.chunk, word) for word in words)
            self._send(progress, do.EmitWords(progress.chunk.index, told), now_ns)

    def local(self, progress: Progress, text: str, now_ns: int) -> None:
        """Ask the caller to speak `text`, behind the audio of the chunk."""
        self._send(progress, do.EmitSpeakLocally(progress.chunk.index, text), now_ns)

    def done(self, progress: Progress, now_ns: int) -> None:
        """End a chunk; if it is the head, those behind it move up and send what they held back."""
        progress.state = State.DONE
        progress.audio = bytearray()  # it was sent, and given to the cache: the turn needs it no more
        if not self.gated and self.chunks[self._head] is progress:
            for behind in self.open[1:]:
                if behind.made_samples:
                    behind.marks.behind_ns = now_ns
            self._flow(now_ns)

    def release(self, received_ns: int, now_ns: int) -> None:
        """Send what a draft held back; durations count from `received_ns`."""
        self.gated = False
        self._received_ns = received_ns
        self._flow(now_ns)

    def _send(self, progress: Progress, action: do.Action, now_ns: int) -> None:
        if self.gated or self.chunks[self._head] is not progress:
            progress.held_back.append(action)
            return
        if isinstance(action, do.EmitFrame):
            first = self.first_marks is None
            action = replace(action, turn_offset_samples=self.player.samples, first=first)
            self._play(progress, len(action.audio) // BYTES_PER_SAMPLE, now_ns, first=first)
            self.silence.add(action.audio)
        elif isinstance(action, do.EmitSpeakLocally):
            self._rest(progress, now_ns)
        self._act(action)

    def _play(self, progress: Progress, samples: int, now_ns: int, *, first: bool) -> None:
        """Have the player get `samples` of a chunk now, and account for when they come."""
        account, marks = progress.account, progress.marks
        steps: list[Step] | None = None
        if not progress.sent_samples:
            marks.queued_ns = now_ns
            account.first_frame_us = (now_ns - self._received_ns) // 1000
            if first:
                self.first_marks = marks
            else:
                walk = walk_later(self._received_ns, self._heard_before(progress), marks)
                account.path = path_of(walk, self._received_ns)
                account.slack_us = self.player.slack_ns(now_ns) // 1000
                steps = walk.steps
        progress.sent_samples += samples
        dry_ns = self.player.add(samples, now_ns)
        if dry_ns:
            self._blame(progress, dry_ns, steps, now_ns)

    def _rest(self, progress: Progress, now_ns: int) -> None:
        """Have the player rest, for the caller speaks now; nobody has spoken for as long as it was dry."""
        dry_ns = self.player.rest(now_ns)
        steps: list[Step] | None = None
        if dry_ns and not progress.sent_samples:
            marks = replace(progress.marks, queued_ns=now_ns)
            if marks.asked_ns and not marks.first_frame_ns:  # engines were at work on it all the while
                marks.first_frame_ns, marks.synthesis_us = now_ns, (now_ns - marks.asked_ns) // 1000
            steps = walk_later(self._received_ns, self._heard_before(progress), marks).steps
        if dry_ns:
            self._blame(progress, dry_ns, steps, now_ns)

    def _blame(self, progress: Progress, dry_ns: int, steps: list[Step] | None, now_ns: int) -> None:
        """Note that the player was dry until now: by the steps of a chunk's way, None in the midst of it."""
        if steps is None:
            shares = {progress.marks.source: dry_ns}
        else:
            before = self.chunks[max(0, progress.chunk.index - 1)].marks
            shares = shares_of(steps, now_ns - dry_ns, now_ns, before.source)
        note(progress.account, (now_ns - self._received_ns) // 1000, dry_ns, shares)

    def _heard_before(self, progress: Progress) -> ChunkMarks:
        """Return the marks of the last chunk with audio before one, else of the first."""
        place = max(0, progress.chunk.index - 1)
        while place and not self.chunks[place].sent_samples:
            place -= 1
        return self.chunks[place].marks

    def _flow(self, now_ns: int) -> None:
        """Send what the head held back; one that is done gives way to the next."""
        while self._head < len(self.chunks):
            head = self.chunks[self._head]
            held_back, head.held_back = head.held_back, []
            for action in held_back:
                self._send(head, action, now_ns)
            if head.state is not State.DONE:
                break
            self._head += 1


def _in_source(chunk: Chunk, word: Word) -> Word:
    """Return the word with where it stands in the turn's text."""
    begin, end = chunk.source(word.text_offset, word.text_offset + word.text_length)
    return replace(word, source_offset=begin, source_length=end - begin)
