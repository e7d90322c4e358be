"""A turn's stream to the LLM service: opened ahead, asked once, told how patient the turn is."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from opentelemetry.trace import Span

from gateway import translation
from gateway.core import actions as do
from gateway.core import events as on
from gateway.core.tokens import prompt_tokens
from gateway.core.values import Image, Message, TurnSpec, Usage
from gateway.links import broke_off
from gateway.options import TextChoice
from gateway.peers import Peers
from gateway.standby import LlmLink, Standby
from voicemesh.llm.v1 import llm_pb2
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.retry_budget import LOST
from voicemesh.runtime.status import RemoteError


class Asking:
    """Asks the LLM for the reply of one turn, and tells the engine what comes.

        standby, or opened ahead ──┐
        opened by the question ────┴─ ask ── ready ── delta … ── finished
                                   ┌─ ask ──────┴───────┴─ lost: the engine may ask again
                                   └─ on a new stream, which goes on behind what was said

    Args:
        spec: The turn.
        text: How the reply is made.
        span: The turn's.
        peers: Are told what the service would answer with.
        standby: Has a stream open; None where the caller asks no more than this.
        new_link: Opens a stream.
        adopt: Is given a stream that stood by and is the turn's from now on.
        read: Begins to read a new stream.
        handle: Takes the events.
        room: Waits until the turn can take more text.

    """

    def __init__(
        self,
        spec: TurnSpec,
        text: TextChoice,
        span: Span,
        *,
        peers: Peers,
        standby: Standby | None,
        new_link: Callable[[], LlmLink],
        adopt: Callable[[LlmLink], None],
        read: Callable[[LlmLink], None],
        handle: Callable[[on.Event], None],
        room: Callable[[], Awaitable[None]],
    ) -> None:
        self._spec = spec
        self._text = text
        self._span = span
        self._peers = peers
        self._standby = standby
        self._new_link = new_link
        self._adopt = adopt
        self._read = read
        self._handle = handle
        self._room = room
        self._link: LlmLink | None = None
        self._messages: tuple[Message, ...] = ()
        self._asked = False
        self._complete = False

    def open_ahead(self) -> None:
        """Open a stream before the question, unless one stands by."""
        if self._standby is not None:
            if self._standby.ready:
                return
            self._standby.take()  # what is about to be opened there is opened here
        self._open()

    def ask(self, messages: tuple[Message, ...], said: str = "") -> None:
        """Ask for the reply; again, for what comes behind `said`, where the stream that told it was lost."""
        self._messages = messages
        if self._link is None and self._standby is not None and (link := self._standby.take()) is not None:
            self._link = link
            self._adopt(link)
        link = self._open()
        link.listen(self._take, self._ended)  # one that stood by was heard by another
        asked = [translation.message_to(message) for message in messages]
        start = self._text.start(self._spec, asked, link.begin(self._span), said)
        link.send(llm_pb2.GenerateRequest(start=start))
        self._asked = True

    def tell(self, action: do.TellPatience | do.CancelLlm) -> None:
        """Tell the service what the engine wants of it."""
        if self._link is None:
            return
        match action:
            case do.TellPatience(join_ms):
                patience = llm_pb2.GeneratePatience(join_ms=join_ms)
                self._link.send(llm_pb2.GenerateRequest(patience=patience))
            case do.CancelLlm():
                self._link.send(llm_pb2.GenerateRequest(cancel=llm_pb2.GenerateCancel()))

    def half_close(self) -> None:
        """Say that nothing more is asked."""
        if self._link is not None:
            self._link.half_close()

    def _open(self) -> LlmLink:
        if self._link is None:
            self._link = self._new_link()
            self._link.listen(self._take, self._ended)
            self._read(self._link)
        return self._link

    async def _take(self, response: llm_pb2.GenerateResponse) -> None:
        match response.WhichOneof("event"):
            case "delta":
                delta = response.delta
                self._handle(on.TextArrived(delta.text, delta.timing.connect_us, delta.timing.ttft_us))
                await self._room()
            case "ready":
                self._peers.hear_llm(response.ready)
            case "notice":
                self._noticed(response.notice)
            case "finished":
                self._finished(response.finished)

    def _noticed(self, notice: llm_pb2.GenerateNotice) -> None:
        match notice.kind:
            case llm_pb2.GenerateNotice.KIND_FALLBACK:
                self._span.add_event(names.FAILED_OVER)
                self._handle(on.ModelDegraded(notice.detail))
            case llm_pb2.GenerateNotice.KIND_RESUMED:
                self._span.add_event(names.RESUMED)
                self._handle(on.TextResumed(notice.detail))
            case _:
                self._span.add_event(names.RETRIED)

    def _finished(self, finished: llm_pb2.GenerateFinished) -> None:
        self._complete = True
        # Absent, it is estimated; who answered is known all the same.
        usage = translation.usage_from(finished.usage, finished.provider, finished.model)
        also = tuple(self._billed(billed) for billed in finished.also_billed)
        # A reply that went on was asked for with more than the turn's messages.
        if finished.HasField("usage") and not usage.estimated and not also:
            self._learn_tokens(finished.provider, usage.input_tokens)
        self._handle(on.TextEnded(usage, finished.reason == llm_pb2.FINISH_REASON_STOP, also))

    def _billed(self, billed: llm_pb2.BilledUsage) -> Usage:
        """Return what else was billed; the prompt, estimated, where its provider did not say."""
        usage = translation.usage_from(billed.usage, billed.provider, billed.model)
        if billed.HasField("usage"):
            return usage
        estimated = prompt_tokens(self._messages, self._spec.answerer.tiles) * self._spec.answerer.factor
        return replace(usage, input_tokens=round(estimated), estimated=True)

    def _learn_tokens(self, provider: str, reported: int) -> None:
        """Put the estimate of prompts right by what a provider counted; pictures say nothing of its words."""
        if any(isinstance(part, Image) for message in self._messages for part in message.parts):
            return
        answerer = self._spec.answerer
        if provider == answerer.provider:
            estimated = prompt_tokens(self._messages, answerer.tiles)
            self._peers.calibration.learn(provider, answerer.model, estimated, reported)

    def _ended(self, error: RemoteError | None) -> None:
        if self._complete:
            return
        self._link = None  # where it broke while it was idle, the question opens another
        if not self._asked:
            return
        if error is None or error.reason in LOST:
            self._handle(on.TextLost(error or broke_off("llm")))
        else:
            self._handle(on.TextFailed(error))
