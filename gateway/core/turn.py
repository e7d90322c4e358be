"""The turn engine: one turn as a state machine, events in, actions out.

    prompt:  start ─ history ─ reply cache ─ LLM ─┐
    words:   start ───────────────────────────────┴─ text ─ chunks ─ audio ─ … ─ finish

Text, chunks and audio overlap; `speech.py` moves the chunks. The engine never waits and never fails:
every call of `start` and `handle` returns the actions that follow. After `Finish` it returns none.

A draft runs like any turn, but what its caller would be told is held back:

    draft ──┬── Confirmed ──> what was held back is told, the turn goes on; its times count from here
            └── Discarded, Interrupted, too old, failed ──> `discarded`: nothing is told, nothing kept
"""

from dataclasses import replace

from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.attribution import TurnMarks, attribute
from gateway.core.failovers import Again, Failovers, always
from gateway.core.heard import heard_text
from gateway.core.history import fitted, with_system
from gateway.core.pace import PaceMeter, WriterMeter
from gateway.core.patience import Patience
from gateway.core.refusals import not_cached
from gateway.core.report import Attribution, TurnReport
from gateway.core.speech import Speech
from gateway.core.spent import Spent
from gateway.core.values import Chunk, Message, TurnSpec
from gateway.core.written import Written
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import DeadlineError

_TOLD = (do.EmitText, do.EmitChunk, do.EmitDegraded)
"""What a draft holds back here; what `Speech` sends is held back there."""

NEWS_MS = 100
"""The chunker is told of a report of the player that differs from the estimate by so much."""


class TurnEngine:
    """One turn.

    `clock` stamps events when they are taken, and what goes out; `meter` learns of the voice, `writer` of
    the model; `again` says whether streams are opened anew, as in `Failovers`. `speech` is its audio side.
    """

    def __init__(
        self,
        spec: TurnSpec,
        clock: Clock,
        meter: PaceMeter | None = None,
        writer: WriterMeter | None = None,
        again: Again = always,
    ) -> None:
        self.spec = spec
        self.finished = False
        self._clock = clock
        self._marks = TurnMarks(received_ns=spec.received_ns)
        self.failovers = Failovers(spec.received_ns, again)
        self.speech = Speech(spec, clock, self._act, self._degrade, meter, self.failovers)
        self._writer = writer or WriterMeter()
        self._actions: list[do.Action] = []
        self._history = spec.remembered
        self._history_version = 0
        self._saving = False
        self._amended = False
        self._interrupted = False
        self._draft = spec.draft
        self._held: list[do.Action] = []
        self._head_start_ns = 0
        self._text_at_ns = spec.received_ns
        self._messages: tuple[Message, ...] = ()
        self._reply_cache = "off"
        self._llm_running = False
        self._text = Written()
        self._text_ended = False
        self._reply_complete = False
        self._own_reply = True
        self._cut_already = False
        self._news_of_audio = False
        self._patience = Patience()
        self._timer_ns = 0
        self._chunks_ended = False
        self._spent = Spent()
        self._degraded: dict[str, str] = {}  # and why
        self._error: Exception | None = None
        self._outcome = ""
        self._ended_ns = 0
        self._heard = ""

    @property
    def history(self) -> tuple[Message, ...]:
        """The session's history as this turn knows it; after the end of the turn, with the turn in it."""
        return self._history

    @property
    def ended(self) -> bool:
        """True once the turn's outcome is known: nothing more is asked of any service but the cache."""
        return bool(self._outcome)

    # ------------------------------------------------------------ in

    def start(self) -> list[do.Action]:
        """Begin; call once, when the turn is admitted."""
        now_ns = self._marks.admitted_ns = self._clock.now_ns()
        for what, why in self.spec.given_up:
            self._degrade(what, why)
        if self.spec.prompt is not None:
            if self.spec.keep_history and not self.spec.new_session:
                self._marks.history_asked_ns = now_ns
                self._act(do.LoadHistory())
            else:
                self._ask(now_ns)
        self._set_timer()
        return self._take()

    def handle(self, event: on.Event) -> list[do.Action]:
        """Take an event; return what is to be done, in order."""
        now_ns = self._clock.now_ns()
        if self._outcome and isinstance(event, on.Interrupted):
            self._interrupt_ended(event.played_ms, now_ns)
            return self._take()
        if self._outcome and not isinstance(event, (on.HistorySaved, on.FirstFrameSent)):
            return []  # the turn has ended and waits for its last marks: what still arrives is stale
        if isinstance(event, on.CacheEvent):
            self._on_cache(event, now_ns)
        elif isinstance(event, on.TextEvent):
            if self._llm_running or not isinstance(event, on.TextLost):
                self._on_text(event, now_ns)
        elif isinstance(event, on.ChunkerEvent):
            self._on_chunker(event, now_ns)
        elif isinstance(event, on.AudioEvent):
            self._news_of_audio = self.speech.handle(event, now_ns)
        else:
            self._on_caller(event, now_ns)
        if not self._outcome:
            self._advance(now_ns)
        if not self.finished:
            self._maybe_finish()
        return self._take()

    def _act(self, action: do.Action) -> None:
        (self._held if self._draft and isinstance(action, _TOLD) else self._actions).append(action)

    def _take(self) -> list[do.Action]:
        actions, self._actions = self._actions, []
        return actions

    def _on_caller(self, event: on.CallerEvent, now_ns: int) -> None:
        match event:
            case on.FirstFrameSent():
                self._marks.first_frame_sent_ns = now_ns
            case on.PlaybackReported(played_ms):
                before_ms = self.speech.player.in_hand_ms(now_ns)
                self.speech.player.report(played_ms, now_ns)
                differs_ms = abs(self.speech.player.in_hand_ms(now_ns) - before_ms)
                self._news_of_audio = differs_ms >= NEWS_MS
            case on.Interrupted() | on.Discarded() if self._draft:
                self._discard(now_ns)
            case on.Interrupted(played_ms):
                self._interrupted = True
                self._act(do.DropQueued())
                self._stop()
                self._end("interrupted", now_ns, self._played_ms(played_ms, now_ns))
            case on.Confirmed(received_ns) if self._draft:
                self._confirm(received_ns, now_ns)
            case on.Confirmed() | on.Discarded():
                pass  # it is no draft, or none any more
            case on.CallerBehind(behind):
                self.speech.caller_behind = behind
            case on.TimerFired():
                self._timer_ns = 0  # `_advance` looks at the time

    def _confirm(self, received_ns: int, now_ns: int) -> None:
        self._draft = False
        self._head_start_ns = received_ns - self.spec.received_ns
        self._marks.received_ns = received_ns
        self._actions += self._held
        self._held.clear()
        self.speech.release(received_ns, now_ns)

    def _discard(self, now_ns: int) -> None:
        self._stop()
        self._end("discarded", now_ns)

    # ------------------------------------------------------------ history and reply

    def _on_cache(self, event: on.CacheEvent, now_ns: int) -> None:
        marks = self._marks
        match event:
            case on.HistoryLoaded(messages, version, server_us):
                marks.history_answered_ns, marks.history_us = now_ns, server_us
                self._history_version = version
                if messages or not self.spec.remembered:
                    self._history = messages
                else:
                    self._degrade("history", "the cache has lost it; this gateway's copy goes on")
                self._ask(now_ns)
            case on.HistoryUnavailable(detail):
                marks.history_answered_ns = now_ns
                marks.history_us = (now_ns - marks.history_asked_ns) // 1000
                self._degrade("history", detail)
                self._ask(now_ns)
            case on.HistorySaved(detail, version):
                self._saving = False
                self._history_version = version or self._history_version
                if detail and not self.finished:
                    self._degrade("history", detail)
                if self._amended:
                    self._amended = False
                    self._act(do.SaveHistory(self._history, (), self._history_version))
            case on.ReplyFound(text, tier, server_us, chunks, usage):
                self._spent.cached = usage
                marks.reply_answered_ns, marks.reply_us = now_ns, server_us
                self._reply_cache = tier
                self._cut_already = bool(chunks)
                self._on_text(on.TextArrived(text), now_ns)
                self._on_text(on.TextEnded(), now_ns)
                self.speech.add_cut(chunks, now_ns)
            case on.ReplyMissing(server_us, detail):
                marks.reply_answered_ns, marks.reply_us = now_ns, server_us
                self._reply_cache = "miss"
                if detail:
                    marks.reply_us = server_us or (now_ns - marks.reply_asked_ns) // 1000
                    self._degrade("cache", detail)
                self._start_llm(now_ns)

    def _ask(self, now_ns: int) -> None:
        """Put the conversation together and look for its reply."""
        spec, prompt = self.spec, self.spec.prompt
        assert prompt is not None, "a turn of the caller's own words asks nobody"
        beside = (*with_system(spec.system_prompt, ()), prompt)
        self._history = fitted(self._history, spec.budget, beside, asking=True)
        self._messages = (*with_system(spec.system_prompt, self._history), prompt)
        if self.spec.reply_cache:
            self._marks.reply_asked_ns = now_ns
            self._act(do.LookUpReply(self._messages))
        else:
            self._start_llm(now_ns)

    def _start_llm(self, now_ns: int) -> None:
        if self.spec.cached_only:
            self._on_text(on.TextFailed(not_cached()), now_ns)
            return
        self._marks.llm_asked_ns = now_ns
        self._llm_running = True
        self._act(do.StartLlm(self._messages))

    # ------------------------------------------------------------ text and chunks

    def _on_text(self, event: on.TextEvent, now_ns: int) -> None:
        match event:
            case on.TextArrived() if not self._text_ended:
                self._text_at_ns = now_ns
                self._take_text(event, now_ns)
            case on.TextFlushed():
                self._text_at_ns = now_ns
                self._text.flush()
                self._act(do.FlushChunker())
            case on.TextEnded(usage, complete, also):
                if self._llm_running and self._text:
                    took_ms = (self._text_at_ns - self._marks.first_text_ns) / 1e6
                    self._writer.wrote(self._text.behind_first, took_ms)
                self._llm_running = False
                self._spent.usage, self._spent.also = usage, also
                self._end_text()
                kept = complete and self.spec.reply_cache and bool(self._text)
                self._reply_complete = kept and self._own_reply
            case on.TextLost(error) if self.failovers.allows("llm", error, now_ns):
                self._patience = Patience()  # the next stream was told nothing of it
                self._act(do.StartLlm(self._messages, self._text.text))
            case on.TextFailed() | on.TextLost():
                at_once = isinstance(event, on.TextFailed) and event.at_once
                if at_once:
                    self._stop()
                self._llm_running = False
                self._error = event.error
                if self._text and not at_once:
                    self._end_text()  # what was written is spoken to its end; then the turn fails
                else:
                    self._end("failed", now_ns)
            case on.ModelDegraded(detail):
                self._own_reply = False  # the cache would give it out as the first model's
                self._degrade("model", detail)
            case on.TextResumed(detail):
                self._own_reply = False
                self._spent.resumed_at = len(self._text)
                self._degrade("resumed", detail)

    def _take_text(self, event: on.TextArrived, now_ns: int) -> None:
        if not self._marks.first_text_ns:
            self._marks.first_text_ns = now_ns
            self._marks.connect_us, self._marks.ttft_us = event.connect_us, event.ttft_us
        self._text.add(event.text, now_ns, self._clock.now_ns())
        if not self._cut_already:
            self._act(do.FeedChunker(event.text))
        if self.spec.prompt is not None:
            self._act(do.EmitText(event.text))
        in_hand_ms = self.speech.player.in_hand_ms(now_ns)
        if self._llm_running and (join_ms := self._patience.news(in_hand_ms)) is not None:
            self._act(do.TellPatience(join_ms))

    def _end_text(self) -> None:
        if not self._text_ended:
            self._text_ended = True
            if self._text and not self._cut_already:
                self._act(do.EndChunker())
            else:
                self._chunks_ended = True  # a reply without text is a valid reply

    def _on_chunker(self, event: on.ChunkerEvent, now_ns: int) -> None:
        match event:
            case on.ChunkCut(chunk):
                self.speech.add(chunk, self._text.marks(chunk, now_ns))
            case on.ChunksEnded():
                self._chunks_ended = True
                self._keep_reply(self.speech.chunks)
            case on.ChunkerLost(error, anew) if self.failovers.allows("chunker", error, now_ns):
                self._act(do.RestartChunker(*self._text.told(), self.speech.chunks, anew))
                self._news_of_audio = True  # the next stream was told nothing of the player
                if self._text_ended:
                    self._act(do.EndChunker())
            case on.ChunkerLost(error) | on.ChunkerFailed(error):
                self._chunks_ended = True
                self._keep_reply()
                self._error = self._error or error
                self._stop_llm()

    def _keep_reply(self, chunks: tuple[Chunk, ...] = ()) -> None:
        """Give a complete reply to the cache, once; with its chunks, so that their audio is found again."""
        if self._reply_complete:
            self._reply_complete = False
            # What a chunk was held says nothing about the turn that finds it.
            anew = tuple(replace(chunk, held_us=0) for chunk in chunks)
            self._act(do.StoreReply(self._messages, self._text.text, self._spent.usage, anew))

    # ------------------------------------------------------------ the end

    def _advance(self, now_ns: int) -> None:
        speech = self.speech
        if self._draft and (self._error or now_ns >= self._draft_ends_ns):
            self._discard(now_ns)  # its confirmation begins the turn anew
            return
        if self._idle_ends_ns and now_ns >= self._idle_ends_ns:
            limit = f"{self.spec.text_idle_ms / 1000:g} s (VOICEMESH_GATEWAY_TEXT_IDLE_S)"
            late = DeadlineError(f"no `text` came for {limit} and none was marked `last`")
            self._on_text(on.TextFailed(late), now_ns)
            if self._outcome:
                return
        speech.advance(now_ns)
        if speech.refused is not None:
            self._error = speech.refused
            self._stop()
            self._end("failed", now_ns)
        elif self._chunks_ended and not self._llm_running and speech.idle and not self._draft:
            self._end("failed" if self._error else "completed", now_ns)
        elif self._news_of_audio and not self._text_ended:
            self._act(do.TellSlack(round(speech.left_ms(now_ns)), len(speech), speech.pace))
        self._news_of_audio = False
        self._set_timer()

    @property
    def _draft_ends_ns(self) -> int:
        return self.spec.received_ns + self.spec.draft_ms * 1_000_000

    @property
    def _idle_ends_ns(self) -> int:
        """When the caller has been silent for too long; 0: never."""
        if not self.spec.text_idle_ms or self._text_ended or self.spec.prompt is not None:
            return 0
        return self._text_at_ns + self.spec.text_idle_ms * 1_000_000

    def _set_timer(self) -> None:
        due_ns = [due for due in (self.speech.wake_ns, self._idle_ends_ns) if due]
        if self._draft:
            due_ns.append(self._draft_ends_ns)
        wanted_ns = min(due_ns, default=0)
        if wanted_ns and wanted_ns != self._timer_ns:
            self._act(do.SetTimer(wanted_ns))
        self._timer_ns = wanted_ns

    def _stop_llm(self) -> None:
        if self._llm_running:
            self._llm_running = False
            self._act(do.CancelLlm())

    def _stop(self) -> None:
        self._stop_llm()
        self.speech.stop()

    def _degrade(self, what: str, detail: str) -> None:
        if what not in self._degraded:
            self._degraded[what] = detail
            self._act(do.EmitDegraded(what, detail))

    def _end(self, outcome: str, now_ns: int, played_ms: float | None = None) -> None:
        self._ended_ns = now_ns
        self._keep_reply()
        if self._draft:
            self._outcome = "discarded"  # whatever became of it: nobody has asked for it yet
            return
        self._outcome = outcome
        self._heard = self._text.text
        if played_ms is not None:
            played_samples = round(played_ms * self.spec.sample_rate_hz / 1000)
            self._heard = heard_text(self._heard, self.speech.spoken, played_samples)
        if self.spec.keep_history:
            self._save_history()

    def _interrupt_ended(self, played_ms: int | None, now_ns: int) -> None:
        """Take an interrupt behind the end: all audio was made, but the user had not heard all of it."""
        if self._outcome == "discarded":
            return
        self._act(do.DropQueued())
        if self._interrupted:
            return  # the first one said what was heard
        self._interrupted = True
        played_samples = round(self._played_ms(played_ms, now_ns) * self.spec.sample_rate_hz / 1000)
        heard = heard_text(self._text.text, self.speech.spoken, played_samples)
        amends = self.spec.keep_history and self._outcome == "completed" and len(heard) < len(self._heard)
        if amends and self._history and self._history[-1].role == "assistant":
            said = (Message("assistant", (heard,)),) if heard.strip() else ()
            self._heard = heard
            self._history = (*self._history[:-1], *said)
            if self._saving:
                self._amended = True  # written behind the one under way: its version is not known yet
            else:
                self._act(do.SaveHistory(self._history, (), self._history_version))
        if not self.finished and not self._marks.first_frame_sent_ns:
            # Nothing was handed over, and nothing will be.
            self._outcome = "interrupted"
            self._maybe_finish()

    def _played_ms(self, told_ms: int | None, now_ns: int) -> float:
        """Return how much was heard: what the caller says, but no more than was sent; else the estimate."""
        player = self.speech.player
        return player.played_ms(now_ns) if told_ms is None else min(float(told_ms), player.audio_ms)

    def _save_history(self) -> None:
        said = (Message("assistant", (self._heard,)),) if self._heard.strip() else ()
        if self.spec.prompt is None:
            added = said
        elif self._outcome == "failed" and not said:
            added = ()  # the person will ask again
        else:
            added = (self.spec.prompt, *said)
        if added:
            self._saving = True
            beside = with_system(self.spec.system_prompt, ())
            self._history = fitted((*self._history, *added), self.spec.budget, beside)
            self._act(do.SaveHistory(self._history, added, self._history_version))

    def _maybe_finish(self) -> None:
        if not self._outcome or self._saving:
            return
        on_its_way = self.speech.first_marks is not None and not self._marks.first_frame_sent_ns
        if on_its_way and self._outcome != "interrupted":
            return  # the first frame is not handed over yet: the report would not know its time
        self.finished = True
        self._act(do.Finish(self._report()))

    def _report(self) -> TurnReport:
        spec, marks, speech = self.spec, self._marks, self.speech
        first = speech.first_marks if marks.first_frame_sent_ns else None
        attribution = attribute(marks, first) if first is not None else Attribution()
        return TurnReport(
            turn_id=spec.turn_id,
            session_id=spec.session_id,
            tenant=spec.tenant,
            outcome=self._outcome,
            text=self._text.text,
            ttft_us=max(0, marks.first_text_ns - marks.received_ns) // 1000 if spec.prompt else 0,
            attribution=attribution,
            leading_silence_us=speech.silence.samples * 1_000_000 // spec.sample_rate_hz if first else 0,
            total_us=(max(self._ended_ns, self._marks.first_frame_sent_ns) - marks.received_ns) // 1000,
            audio_us=speech.player.samples * 1_000_000 // spec.sample_rate_hz,
            underruns=speech.player.underruns,
            underrun_us=speech.player.underrun_ns // 1000,
            degraded=tuple(self._degraded),
            degraded_why=tuple(self._degraded.values()),
            chunks=speech.accounts(attribution),
            reply_cache=self._reply_cache,
            usage=self._spent.told(
                spec.answerer,
                self._messages,
                self._text.text,
                billed=bool(marks.llm_asked_ns) and (bool(self._text) or self._outcome != "failed"),
            ),
            also_billed=self._spent.also_told(spec.answerer, self._text.text),
            cached_usage=self._spent.cached,
            prompt_variant=spec.prompt_variant,
            characters=speech.characters,
            heard=self._heard,
            error=self._error,
            variants=spec.variants,
            priority=spec.priority,
            head_start_us=self._head_start_ns // 1000,
            failovers=tuple(self.failovers.done),
        )
