"""One turn's dealings with the cache about the audio of its chunks: looked up, followed, led.

look_up ──┬── hit                                        AudioFound
          ├── hit, more ──── part* ──┬── sealed          AudioFound, AudioPart*, AudioSealed
          ├── following ──── part* ──┤── granted         AudioFollowing, AudioPart*, AudioGranted
          │                          └── (broken, stalled)                      … AudioLost
          ├── granted        append* ── seal | release   AudioGranted
          └── miss, late, held off                       AudioMissing

look_ahead: asked before the chunk is known; where it is that chunk's, `look_up` goes on with what came.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from opentelemetry.trace import Span

from gateway import cached, keys, translation
from gateway.beginnings import Ahead, Response, kind_of
from gateway.cache_link import CacheLink, Stream
from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.values import TurnSpec, Word
from gateway.options import SpeechChoice
from gateway.peers import Peers
from voicemesh.cache.v1 import cache_pb2
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.frames import BYTES_PER_SAMPLE
from voicemesh.runtime.telemetry import link_to

HEAD_MS: Final = 200
"""Audio that is enough to begin with: the rest of an entry comes behind it."""
_AT_ONCE_MS: Final = 160
"""So much of a chunk leaves for its followers as it comes: the first frames, up to the long ones."""
_TOGETHER_S: Final = 0.025
"""Behind that, what comes within this time leaves together: followers have more than that in hand."""

_FIRST: Final = 0
"""The chunk that a turn begins with."""

TIERS: Final = {cache_pb2.CACHE_TIER_MEMORY: "memory", cache_pb2.CACHE_TIER_REDIS: "redis"}


@dataclass(eq=False, slots=True)
class _Share:
    """One chunk's part in audio that is being made, or comes in parts."""

    request_id: int = 0
    """The lookup, while it may be answered."""
    lease_id: str = ""
    stream: Stream | None = None
    leads: bool = False
    audio: bytearray = field(default_factory=bytearray)
    """What is to be appended next."""
    words: list[Word] = field(default_factory=list)
    appended_bytes: int = 0
    text: str = ""
    begun: bool = False
    """True once the lookup was answered."""
    heard_bytes: int = 0
    """What came of it so far."""
    timer: asyncio.TimerHandle | asyncio.Handle | None = None


class AudioCache:
    """Finds the audio of a turn's chunks, or shares it with the turns that want the same at the same time.

    Args:
        spec: The turn.
        speech: How it is spoken.
        peers: Knows which voices are not their own at present.
        cache: The turn's stream.
        handle: Takes the events that come of it.
        span: The turn's: is told of what is shared.
        clock: Says how old is what is stored.

    """

    def __init__(
        self,
        spec: TurnSpec,
        speech: SpeechChoice,
        peers: Peers,
        cache: CacheLink,
        handle: Callable[[on.Event], None],
        span: Span,
        clock: Clock,
    ) -> None:
        self._spec = spec
        self._speech = speech
        self._peers = peers
        self._cache = cache
        self._handle = handle
        self._span = span
        self._clock = clock
        self._shares: dict[int, _Share] = {}
        self._ahead: Ahead | None = None
        self._at_once_bytes = _AT_ONCE_MS * speech.format.sample_rate_hz // 1000 * BYTES_PER_SAMPLE

    # ------------------------------------------------------------ asking

    def foresee(self, action: do.LookUpAudio) -> None:
        """Ask for audio that may be wanted: all of it or nothing, and nobody is to wait for this turn."""
        get = self._get(action.text, cache_pb2.Get.ON_MISS_RETURN)
        self._cache.request(get, partial(self._foreseen, action.index, _Share(text=action.text)))

    def look_ahead(self, text: str) -> None:
        """Ask for audio that the first chunk will want if it says `text`; takes no lease."""
        ahead = self._ahead = Ahead(text)
        self._span.set_attribute(names.BEGINNING, "unused")
        get = self._get(text, cache_pb2.Get.ON_MISS_RETURN, head_ms=HEAD_MS)
        answered = partial(self._answered_ahead, ahead)
        ahead.request_id = self._cache.request(get, answered, lasting=True)

    def look_up(self, action: do.LookUpAudio) -> None:
        """Ask for the audio of a chunk, or for the lease on it; the answer is an event."""
        if self._claim(action):
            return
        if self._peers.stand_ins.speaks_for(self._speech.voice.name):
            # What is made now is not to be shared: everybody has it made.
            self.foresee(action)
            return
        share = self._shares[action.index] = _Share(text=action.text)
        get = self._get(action.text, cache_pb2.Get.ON_MISS_LEASE_OR_FOLLOW, head_ms=HEAD_MS)
        get.get.due_ms, get.get.begin_ms = action.due_ms, action.begin_ms
        answered = partial(self._answered, action.index, share)
        share.request_id = self._cache.request(get, answered, lasting=True)

    def _claim(self, action: do.LookUpAudio) -> bool:
        """Give the first chunk what was asked for ahead; return False where it is not that, or not there."""
        ahead = self._ahead
        if ahead is None or action.index:
            return False
        self._ahead = None
        if ahead.text != action.text or ahead.failed:
            self._span.set_attribute(names.BEGINNING, "wrong" if ahead.text != action.text else "missing")
            self._cache.forget(ahead.request_id)
            return False
        self._span.set_attribute(names.BEGINNING, "right")
        ahead.claimed_ns = self._clock.now_ns()
        share = self._shares[action.index] = _Share(ahead.request_id, text=action.text)
        for response, why in ahead.came:
            if response is not None:
                response.server_us = 0  # the time that the cache took was nobody's
            self._answered(action.index, share, response, why)
        return True

    def _answered_ahead(self, ahead: Ahead, response: Response, why: str) -> None:
        first = not ahead.came
        if ahead.claimed_ns is None:
            ahead.came.append((response, why))
            return
        if first:
            ahead.came.append((response, why))
        share = self._shares[_FIRST]  # else this request would be forgotten
        if first and kind_of(response) == "miss":
            self._span.set_attribute(names.BEGINNING, "missing")
            del self._shares[_FIRST]
            self.look_up(do.LookUpAudio(_FIRST, ahead.text))
            return
        if first and response is not None:
            # What the cache did before the chunk asked was nobody's time.
            waited_us = (self._clock.now_ns() - ahead.claimed_ns) // 1000
            response.server_us = min(response.server_us, waited_us)
        self._answered(_FIRST, share, response, why)

    def _get(
        self, text: str, on_miss: cache_pb2.Get.OnMiss.ValueType, head_ms: int = 0
    ) -> cache_pb2.ExchangeRequest:
        key = keys.audio_key(self._spec, self._speech, text)
        return cache_pb2.ExchangeRequest(
            get=cache_pb2.Get(key=key, on_miss=on_miss, head_ms=head_ms, keep=self._spec.keeps_audio)
        )

    def _foreseen(self, index: int, share: _Share, response: Response, why: str) -> None:
        try:
            self._found(index, share, response, why)
        except cached.ImpossibleAnswerError as error:
            self._handle(on.AudioMissing(index, 0, self._distrust(error)))

    def _found(self, index: int, share: _Share, response: Response, why: str) -> None:
        if response is not None and response.WhichOneof("result") == "hit":
            audio, words = self._audio(share, response.hit.value.audio)
            if not audio:
                raise cached.ImpossibleAnswerError("a hit without audio")
            tier, more = tier_of(response.hit), response.hit.more
            self._handle(on.AudioFound(index, audio, words, tier, response.server_us, more))
        else:
            server_us = response.server_us if response is not None else 0
            self._handle(on.AudioMissing(index, server_us, why or trouble(response)))

    def _audio(self, share: _Share, value: cache_pb2.AudioValue) -> tuple[bytes, tuple[Word, ...]]:
        """Return the next of a chunk. Raises `ImpossibleAnswerError`."""
        found = cached.audio_of(value, self._speech.format, share.text, share.heard_bytes)
        share.heard_bytes += len(value.audio)
        return found

    def _distrust(self, error: cached.ImpossibleAnswerError) -> str:
        why = f"the cache gave {error}"
        self._cache.distrust(why)
        return why

    def _answered(self, index: int, share: _Share, response: Response, why: str) -> None:
        """Take an answer to a lookup: the first, or one of those that follow it."""
        begun, share.begun = share.begun, True
        share.stream = self._cache.stream
        try:
            self._take(index, share, response, why, begun=begun)
        except cached.ImpossibleAnswerError as error:
            self.release(index)
            why = self._distrust(error)
            self._handle(on.AudioLost(index, why) if begun else on.AudioMissing(index, 0, why))

    def _take(self, index: int, share: _Share, response: Response, why: str, *, begun: bool) -> None:
        match response.WhichOneof("result") if response is not None else None:
            case "hit" if begun:
                raise cached.ImpossibleAnswerError("two answers to one question")
            case "hit":
                assert response is not None
                if not response.hit.more:
                    self._drop(index)
                self._found(index, share, response, "")
            case "following" if not begun:
                assert response is not None
                share.lease_id = response.following.lease_id
                self._span.add_event(names.FOLLOWED, {names.CHUNK_INDEX: index})
                maker = response.following.traceparent
                link_to(self._span, maker, **{names.CHUNK_INDEX: index})
                audio, words = self._audio(share, response.following.so_far)
                self._handle(on.AudioFollowing(index, audio, words, response.server_us))
            case "part" if begun:
                assert response is not None
                audio, words = self._audio(share, response.part)
                self._handle(on.AudioPart(index, audio, words))
            case "sealed" if begun:
                self._drop(index)
                self._handle(on.AudioSealed(index))
            case "following" | "part" | "sealed":
                raise cached.ImpossibleAnswerError("an answer to nothing that was asked")
            case "granted":
                assert response is not None
                self._granted(index, share, response, begun=begun)
            case _ if begun:
                self.release(index)  # a follow that stalled must not be granted the lease
                self._handle(on.AudioLost(index, why or trouble(response)))
            case _:
                self._drop(index)
                self._found(index, share, response, why)

    def _granted(
        self, index: int, share: _Share, response: cache_pb2.ExchangeResponse, *, begun: bool
    ) -> None:
        share.lease_id = response.granted.lease_id
        offset, server_us = response.granted.offset_samples, response.server_us
        if begun:
            attributes = {names.CHUNK_INDEX: index, names.OFFSET_SAMPLES: offset}
            self._span.add_event(names.TAKEN_OVER, attributes)
        if not self._peers.stand_ins.speaks_for(self._speech.voice.name):
            share.leads = True
            self._handle(on.AudioGranted(index, offset, server_us))
            return
        self.release(index)
        self._handle(on.AudioLost(index) if begun else on.AudioMissing(index, server_us))

    # ------------------------------------------------------------ leading

    def append(self, index: int, audio: bytes, words: tuple[Word, ...]) -> None:
        """Give the next of a chunk to those that follow, where the turn still holds its lease."""
        share = self._shares.get(index)
        if share is None or not share.leads:
            return
        share.audio += audio
        share.words += words
        if share.timer is not None:
            return
        loop = asyncio.get_running_loop()
        if share.appended_bytes + len(share.audio) <= self._at_once_bytes:
            share.timer = loop.call_soon(self._flush, index, share)  # its words may come with it
        else:
            share.timer = loop.call_later(_TOGETHER_S, self._flush, index, share)

    def _flush(self, index: int, share: _Share) -> None:
        if share.timer is not None:
            share.timer.cancel()
            share.timer = None
        if not (share.audio or share.words):
            return
        part = cache_pb2.AudioValue(
            format=self._speech.format, audio=bytes(share.audio), words=translation.words_to(share.words)
        )
        share.appended_bytes += len(share.audio)
        share.audio, share.words = bytearray(), []
        append = cache_pb2.Append(lease_id=share.lease_id, part=part)
        request = cache_pb2.ExchangeRequest(append=append)
        if not self._cache.tell(share.stream, request, partial(self._appended, index, share)):
            self._lose(index, share)

    def _appended(self, index: int, share: _Share, response: Response, why: str) -> None:  # noqa: ARG002 - late is no fault
        if response is not None and response.WhichOneof("result") == "error":
            self._lose(index, share)

    def _lose(self, index: int, share: _Share) -> None:
        """Note that a lease was lost: somebody else goes on, and what is made from now on is this turn's."""
        if self._shares.get(index) is share:
            self._span.add_event(names.LEASE_LOST, {names.CHUNK_INDEX: index})
            self._drop(index)

    def seal(self, index: int) -> None:
        """Complete a chunk, where the turn still holds its lease."""
        share = self._shares.get(index)
        if share is None or not share.leads:
            return
        self._flush(index, share)
        if self._drop(index):
            seal = cache_pb2.Seal(
                lease_id=share.lease_id,
                tags=self._spec.cache_tags,
                age_ms=keys.age_ms(self._spec, self._clock),
            )
            self._cache.tell(share.stream, cache_pb2.ExchangeRequest(seal=seal))

    def release(self, index: int, *, foreign: bool = False) -> None:
        """Ask for the audio of a chunk no more: others go on, from where this turn stopped.

        With `foreign` another voice than that of the turn speaks, so nothing is shared for a while.
        """
        if foreign:
            self._peers.stand_ins.note(self._speech.voice.name)
        share = self._shares.get(index)
        if share is None:
            return
        if share.leads:
            self._flush(index, share)
        if self._drop(index) and share.lease_id:
            release = cache_pb2.Release(lease_id=share.lease_id)
            self._cache.tell(share.stream, cache_pb2.ExchangeRequest(release=release))

    def _drop(self, index: int) -> bool:
        """Forget a chunk's share; return False where it was lost already."""
        share = self._shares.pop(index, None)
        if share is None:
            return False
        if share.timer is not None:
            share.timer.cancel()
        self._cache.forget(share.request_id)
        return True

    def store(self, text: str, audio: bytes, words: tuple[Word, ...]) -> None:
        """Give the cache the whole audio of a chunk, for which it gave no lease."""
        value = cache_pb2.AudioValue(
            format=self._speech.format, audio=audio, words=translation.words_to(words)
        )
        key = keys.audio_key(self._spec, self._speech, text)
        put = keys.put_of(self._spec, self._clock, key, cache_pb2.CacheValue(audio=value))
        self._cache.request(put)


def tier_of(hit: cache_pb2.Hit) -> str:
    """Return where an entry was; memory where the cache knows a tier that this gateway does not."""
    return TIERS.get(hit.tier, "memory")


def trouble(response: Response) -> str:
    """Return why the cache could not do what was asked, or "" where it could."""
    if response is None:
        return ""
    if response.WhichOneof("result") == "error":
        return str(response.error.message)
    return "Redis could not be asked" if response.miss.degraded else ""
