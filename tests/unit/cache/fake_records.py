"""The records of leases as Redis keeps them: the rules of `lease_scripts.py`, in plain Python."""

from collections.abc import Callable
from dataclasses import dataclass, field

from services.cache.durable import DurableEntry
from services.cache.records import (
    KEEP_MS,
    Answer,
    Condemn,
    Condemned,
    Done,
    Gone,
    Held,
    Kept,
    Look,
    Mail,
    Piece,
    Push,
    Question,
    Stale,
    Store,
    Taken,
    Wanted,
    Yield,
)
from services.cache.values import AudioFormat, AudioValue, WordTiming
from voicemesh.runtime.clock import Clock


@dataclass
class Record:
    token: str
    generation: str
    replica: str
    expires_ms: float
    state: str = "held"
    followers: list[str] = field(default_factory=list)
    format: AudioFormat | None = None
    audio: bytes = b""
    words: tuple[WordTiming, ...] = ()


class FakeRecords:
    """Answers questions at once; `send` gets each mail, with the replica that it is for."""

    def __init__(self, clock: Clock, hold_ms: int, send: Callable[[str, Mail], None]) -> None:
        self._clock = clock
        self._hold_ms = hold_ms
        self._send = send
        self.records: dict[str, Record] = {}
        self.entries: dict[str, AudioValue] = {}
        self.stored: list[tuple[str, str]] = []
        """The name and the token of each entry that was written under a lease."""

    @property
    def now_ms(self) -> float:
        return self._clock.now_ns() / 1e6

    def forget(self) -> None:
        """Lose everything, as a Redis that was restarted."""
        self.records.clear()
        self.entries.clear()

    def ask(self, me: str, question: Question) -> Answer | None:
        """Return the answer; None where the entry exists."""
        name = question.name
        record = self.records.get(name)
        if record is not None and record.expires_ms <= self.now_ms:
            del self.records[name]
            record = None
        if isinstance(question, Look):
            return self._look(me, question, record)
        if isinstance(question, Condemn):
            return self._condemn(me, name, record)
        if record is None:
            return Gone()
        if record.state == "condemned" or record.token != question.token or record.state != "held":
            return Condemned() if record.state == "condemned" else Stale()
        return self._own(me, question, record)

    def _own(self, me: str, question: Push | Store | Yield, record: Record) -> Answer:
        if isinstance(question, Push):
            return self._push(me, question, record)
        if isinstance(question, Store):
            return self._store(me, question, record)
        return self._yield(me, question, record)

    def entry(self, name: str) -> DurableEntry | None:
        value = self.entries.get(name)
        return None if value is None else DurableEntry(value, 0, 1000)

    def _mail(self, me: str, record: Record, mail: Mail) -> None:
        for replica in record.followers:
            if replica != me:
                self._send(replica, mail)

    def _wanted(self, me: str, record: Record) -> bool:
        return any(replica != me for replica in record.followers)

    def _look(self, me: str, question: Look, record: Record | None) -> Answer | None:
        name, generation = question.name, question.generation
        if name in self.entries:
            return None
        if record is not None and question.fresh:
            self._mail(me, record, Mail("condemned", name, record.generation))
            record = None
        elif record is not None and record.state == "condemned":
            if generation:
                return Condemned()
            record = None
        elif record is not None and generation not in ("", record.generation):
            return Condemned()
        if record is None:
            expires_ms = self.now_ms + self._hold_ms + KEEP_MS
            generation = generation or question.token
            self.records[name] = Record(question.token, generation, me, expires_ms)
            return Taken(generation, Piece(0, 0, None), wanted=False)
        at = min(question.have, len(record.audio))
        words_at = min(question.have_words, len(record.words))
        piece = Piece(at, words_at, record.format, record.audio[at:], record.words[words_at:])
        left_ms = int(record.expires_ms - self.now_ms - KEEP_MS)
        if record.state == "held" and left_ms > 0 and record.replica != me:
            if me not in record.followers:
                record.followers.append(me)
            self._send(record.replica, Mail("wanted", name, record.generation))
            return Held(record.generation, piece, left_ms)
        record.token, record.replica, record.state = question.token, me, "held"
        record.expires_ms = self.now_ms + self._hold_ms + KEEP_MS
        self._mail(me, record, Mail("taken", name, record.generation))
        return Taken(record.generation, piece, self._wanted(me, record))

    def _push(self, me: str, question: Push, record: Record) -> Answer:
        record.expires_ms = self.now_ms + self._hold_ms + KEEP_MS
        piece = question.piece
        length, count = len(record.audio), len(record.words)
        if length >= piece.at and count >= piece.words_at and piece.format is not None:
            record.audio += piece.audio[length - piece.at :]
            record.words += piece.words[count - piece.words_at :]
            record.format = record.format or piece.format
            self._mail(me, record, Mail("piece", question.name, record.generation, piece))
        return Kept(len(record.audio), len(record.words), self._wanted(me, record))

    def _store(self, me: str, question: Store, record: Record) -> Answer:
        self.entries[question.name] = question.value
        self.stored.append((question.name, question.token))
        end = Piece(len(question.value.audio), len(question.value.words), None)
        del self.records[question.name]
        self._mail(me, record, Mail("stored", question.name, record.generation, end, question.value.tags))
        return Done()

    def _yield(self, me: str, question: Yield, record: Record) -> Answer:
        if not self._wanted(me, record) and not question.stay:
            del self.records[question.name]
            return Done()
        if len(record.audio) < question.length:
            return Wanted()
        record.state, record.expires_ms = "yielded", self.now_ms + KEEP_MS
        if question.stay and me not in record.followers:
            record.followers.append(me)
        self._mail(me, record, Mail("yielded", question.name, record.generation))
        return Done()

    def _condemn(self, me: str, name: str, record: Record | None) -> Answer:
        if record is None:
            return Gone()
        record.state, record.audio, record.words = "condemned", b"", ()
        record.expires_ms = self.now_ms + KEEP_MS
        mail = Mail("condemned", name, record.generation)
        self._mail(me, record, mail)
        self._send(record.replica, mail)
        return Done()
