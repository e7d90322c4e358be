"""One turn's dealings with the cache about its words: history and replies."""

import contextlib
from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from gateway import cached, keys, translation
from gateway.audio_cache import tier_of, trouble
from gateway.beginnings import Beginnings, Response, question_of
from gateway.cache_link import CacheLink
from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.history import fitted, with_system
from gateway.core.values import Chunk, Message, TurnSpec
from gateway.options import SpeechChoice, TextChoice
from gateway.peers import Peers
from voicemesh.cache.v1 import cache_pb2
from voicemesh.runtime.clock import Clock

_SAVE_TRIES: Final = 32
"""Each failure means that another message got in: so many may be written at once before one is given up."""

_SIMILAR_SHARE: Final = 0.75
"""Of the time that a turn waits for the cache: what may be spent on the search for a similar prompt."""


class Memory:
    """Asks the cache what the engine wants to know, and gives it what the engine wants kept.

    `handle` takes the events that come of it: exactly one for each lookup, whatever the cache does.
    `beginnings` are those of all turns.

    Attributes:
        beginning: How the reply that was asked for began the last time; "" where that is not known.
        found: True once a reply was found.

    """

    def __init__(
        self,
        spec: TurnSpec,
        text: TextChoice,
        speech: SpeechChoice,
        peers: Peers,
        cache: CacheLink,
        handle: Callable[[on.Event], None],
        clock: Clock,
        beginnings: Beginnings,
    ) -> None:
        self._spec = spec
        self._text = text
        self._speech = speech
        self._peers = peers
        self._cache = cache
        self._handle = handle
        self._clock = clock
        self._beginnings = beginnings
        self._question = b""
        self.beginning = ""
        self.found = False

    def look_up(self, action: do.LoadHistory | do.LookUpReply) -> None:
        """Ask the cache; the answer is an event."""
        match action:
            case do.LoadHistory():
                self._cache.request(_get(keys.history_key(self._spec)), self._history_answered, history=True)
            case do.LookUpReply(messages):
                if not self._peers.llm_revision:
                    self._handle(on.ReplyMissing())  # not known yet what would answer
                    return
                key = keys.reply_key(self._spec, self._peers.llm_revision, self._text, messages)
                self._question = self._question_of(key)
                self.beginning = self._beginnings.known(self._question)
                # It is to be here in time: a cache that is late is held off.
                similar_ms = round(_SIMILAR_SHARE * self._cache.timeout_ms)
                self._cache.request(_get(key, similar_ms), self._reply_answered)

    def _history_answered(self, response: Response, why: str) -> None:
        why = why or trouble(response)
        if response is None or why:
            self._handle(on.HistoryUnavailable(why))
            return
        try:
            messages = cached.history_of(response.hit.value.history.messages)
        except cached.ImpossibleAnswerError as error:
            self._handle(on.HistoryUnavailable(self._distrust(error)))
        else:
            self._handle(on.HistoryLoaded(messages, response.hit.version, response.server_us))

    def _distrust(self, error: cached.ImpossibleAnswerError) -> str:
        why = f"the cache gave {error}"
        self._cache.distrust(why)
        return why

    def _reply_answered(self, response: Response, why: str) -> None:
        if response is not None and response.WhichOneof("result") == "hit":
            reply = response.hit.value.reply
            try:
                cached.check_reply(reply)
            except cached.ImpossibleAnswerError as error:
                self._note_beginning(())
                self._handle(on.ReplyMissing(response.server_us, self._distrust(error)))
                return
            tier = "similar" if response.hit.similar else tier_of(response.hit)
            cut = cache_pb2.ReplyChunks()
            with contextlib.suppress(DecodeError):  # another version's: it is cut anew
                cut.ParseFromString(reply.chunks)
            same = cut.chunked_for == self._chunked_for
            chunks = self._chunks(cut, reply.text) if same else ()
            usage = translation.usage_from(reply.usage, cut.provider, cut.model)
            self.found = True
            self._note_beginning(chunks)
            self._handle(on.ReplyFound(reply.text, tier, response.server_us, chunks, usage))
        else:
            server_us = response.server_us if response is not None else 0
            if response is not None:
                self._note_beginning(())
            self._handle(on.ReplyMissing(server_us, why or trouble(response)))

    def _chunks(self, cut: cache_pb2.ReplyChunks, text: str) -> tuple[Chunk, ...]:
        try:
            return cached.chunks_of(cut.chunks, text)
        except cached.ImpossibleAnswerError as error:
            self._distrust(error)
            return ()  # it is cut anew

    @property
    def _chunked_for(self) -> str:
        return keys.chunking(self._speech, self._peers.chunker_revision)

    def _question_of(self, key: cache_pb2.CacheKey) -> bytes:
        return question_of(self._spec.tenant, self._speech.voice.name, self._chunked_for, key)

    def _note_beginning(self, chunks: tuple[Chunk, ...]) -> None:
        if chunks:
            self._beginnings.note(self._question, chunks[0].said)
        else:
            self._beginnings.forget(self._question)

    def store(self, action: do.StoreReply | do.SaveHistory) -> None:
        """Give the cache something to keep; only the history's fate is an event."""
        match action:
            case do.StoreReply(messages, text, usage, chunks):
                key = keys.reply_key(self._spec, self._peers.llm_revision, self._text, messages)
                cut = cache_pb2.ReplyChunks(
                    chunks=[translation.chunk_to("", chunk) for chunk in chunks],
                    chunked_for=self._chunked_for,
                    provider=usage.provider if usage is not None else "",
                    model=usage.model if usage is not None else "",
                )
                reply = cache_pb2.ReplyValue(
                    text=text, usage=translation.usage_to(usage), chunks=cut.SerializeToString()
                )
                self._cache.request(
                    keys.put_of(self._spec, self._clock, key, cache_pb2.CacheValue(reply=reply))
                )
                if chunks:
                    self._beginnings.note(self._question_of(key), chunks[0].said)
            case do.SaveHistory(messages, added, expected_version):
                self._save(messages, added, expected_version, _SAVE_TRIES)

    def _save(
        self, messages: tuple[Message, ...], added: tuple[Message, ...], version: int, tries: int
    ) -> None:
        key = keys.history_key(self._spec)

        def saved(response: Response, why: str) -> None:
            result = response.WhichOneof("result") if response is not None else None
            if result == "conflict" and tries > 1:
                self._cache.request(_get(key), reloaded, history=True)
            elif response is not None and result == "done":
                self._handle(on.HistorySaved(version=response.done.version))
            else:
                self._handle(on.HistorySaved(why or trouble(response) or "others kept writing it"))

        def reloaded(response: Response, why: str) -> None:
            why = why or trouble(response)
            if response is None or why:
                self._handle(on.HistorySaved(why))
                return
            hit = response.hit  # empty, version 0, where it was removed meanwhile
            try:
                theirs = cached.history_of(hit.value.history.messages)
            except cached.ImpossibleAnswerError as error:
                self._handle(on.HistorySaved(self._distrust(error)))
                return
            beside = with_system(self._spec.system_prompt, ())
            both = fitted((*theirs, *added), self._spec.budget, beside)
            self._save(both, added, hit.version, tries - 1)

        history = cache_pb2.HistoryValue(messages=[translation.message_to(message) for message in messages])
        self._cache.request(_put(key, cache_pb2.CacheValue(history=history), version), saved, history=True)


def _get(key: cache_pb2.CacheKey, similar_ms: int = 0) -> cache_pb2.ExchangeRequest:
    get = cache_pb2.Get(key=key, on_miss=cache_pb2.Get.ON_MISS_RETURN, similar_ms=similar_ms)
    return cache_pb2.ExchangeRequest(get=get)


def _put(
    key: cache_pb2.CacheKey, value: cache_pb2.CacheValue, expected_version: int
) -> cache_pb2.ExchangeRequest:
    return cache_pb2.ExchangeRequest(
        put=cache_pb2.Put(key=key, value=value, expected_version=expected_version)
    )
