"""All turns that run in this process: admitted, driven, refused when there are too many."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.beginnings import Beginnings
from gateway.choosing import Choice, Choosing
from gateway.core import events as on
from gateway.core.budget import Answerer, Budget
from gateway.core.values import Message, TurnSpec
from gateway.driver import Caller, TurnDriver
from gateway.flags import Flags
from gateway.openers import Openers
from gateway.options import TextChoice
from gateway.peers import Peers
from gateway.prompts import budget_of, choose
from gateway.recorder import MAX_TURN_ID_CHARS, Recorder
from gateway.settings import GatewaySettings
from gateway.standby import Standby
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.clock import Clock
from voicemesh.runtime.errors import DrainingError, InvalidFieldError, MeshError, TooManyTurnsError
from voicemesh.runtime.sessions import Session
from voicemesh.runtime.telemetry import Telemetry, trace_id_of

_RETRY_MS: Final = 1_000


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What a caller asks for."""

    tenant: str
    turn_id: str
    session_id: str
    received_ns: int
    prompt: Message | None
    traceparent: str = ""
    remembered: tuple[Message, ...] = ()
    new_session: bool = False
    keep_history: bool = True
    draft: bool = False
    patience_ms: int = 0
    """How much longer than a listener it can wait for an engine."""
    warms: bool = False
    """Its audio is to be kept for others: nobody hears it."""
    turn_id_field: str = "turn_id"
    """Where the caller named it."""
    in_flight: bool = False
    """It is part of a call that was taken: it may begin although the process is about to end."""


class Turns:
    """Begins turns while there is room for them.

    Args:
        settings: Limits.
        peers: The services.
        recorder: Is told of every turn.
        telemetry: Makes spans.
        clock: Stamps everything.
        flags: Have a say in how turns are made.
        overhear: Is told of each turn that begins, and who listens; returns who is to listen.

    Attributes:
        choosing: Says how a turn is made.
        flags: As given.

    """

    def __init__(
        self,
        settings: GatewaySettings,
        peers: Peers,
        recorder: Recorder,
        telemetry: Telemetry,
        clock: Clock,
        flags: Flags,
        overhear: Callable[[TurnSpec, Caller], Caller] | None = None,
    ) -> None:
        self.flags = flags
        self._overhear = overhear
        self.choosing = Choosing(settings, peers, flags)
        self.settings = settings
        self.peers = peers
        self.clock = clock
        self._recorder = recorder
        self._telemetry = telemetry
        self._openers = Openers()
        self._beginnings = Beginnings()
        self._running: set[TurnDriver] = set()
        self.draining = asyncio.Event()

    def __len__(self) -> int:
        """Turns that run now."""
        return len(self._running)

    def standby(self, session: Session, remaining_s: Callable[[], float | None]) -> Standby:
        """Return where a caller's stream to the LLM service stands by; `prepare` opens the first."""
        return Standby(self.peers, session, self._telemetry, self.settings.gateway_standby_s, remaining_s)

    def begin(
        self,
        request: TurnRequest,
        choice: Choice,
        caller: Caller,
        session: Session,
        standby: Standby | None,
        timeout_s: float | None,
    ) -> TurnDriver:
        """Admit a turn, start it, and tell the caller so unless it is a draft.

        Raises:
            DrainingError: The process is shutting down.
            TooManyTurnsError: Every place is taken.
            InvalidFieldError: The turn id is too long.

        """
        text, speech = choice.text, choice.speech
        if self.draining.is_set() and not request.in_flight:
            raise DrainingError("this gateway is shutting down; ask another", retry_after_ms=0)
        if len(self._running) >= self.settings.gateway_max_turns:
            raise TooManyTurnsError(
                f"all {self.settings.gateway_max_turns} places for turns are taken", retry_after_ms=_RETRY_MS
            )
        if len(request.turn_id) > MAX_TURN_ID_CHARS:
            raise InvalidFieldError(
                request.turn_id_field, f"at most {MAX_TURN_ID_CHARS} characters are taken"
            )
        answerer = self.peers.answerer(text.model)
        budget = self._budget(text, answerer)
        variant = ""
        if request.prompt is not None and text.prompt_variant:  # who speaks words of one's own asks no model
            variant = choose(self.settings.system_prompts, text.prompt_variant, budget)
        spec = TurnSpec(
            turn_id=request.turn_id or uuid.uuid4().hex,
            session_id=request.session_id,
            tenant=request.tenant,
            shares_audio=self.settings.gateway_shared_cache in ("audio", "all"),
            shares_replies=self.settings.gateway_shared_cache == "all",
            received_ns=request.received_ns,
            sample_rate_hz=speech.format.sample_rate_hz,
            prompt=request.prompt,
            system_prompt=self.settings.system_prompts[variant] if variant else text.system_prompt,
            prompt_variant=variant,
            budget=budget,
            answerer=answerer,
            remembered=request.remembered,
            new_session=request.new_session,
            keep_history=request.keep_history and self.settings.gateway_history_messages > 0,
            cache_tags=speech.cache_tags,
            reply_cache=text.reply_cache,
            audio_cache=speech.audio_cache,
            voice_repeats=speech.voice.repeats,
            max_lead_ms=speech.max_lead_ms,
            word_timings=speech.word_timings,
            draft=request.draft,
            draft_ms=round(self.settings.gateway_draft_s * 1000),
            text_idle_ms=round(self.settings.gateway_text_idle_s * 1000),
            patience_ms=request.patience_ms,
            keeps_audio=request.warms,
            variants=tuple((flag.key, flag.variant) for flag in choice.flags),
        )
        if self._overhear is not None:
            caller = self._overhear(spec, caller)
        span = self._recorder.begin(spec, speech, request.traceparent, choice.flags)
        driver = TurnDriver(
            spec,
            text,
            speech,
            settings=self.settings,
            peers=self.peers,
            caller=caller,
            session=session,
            standby=standby,
            telemetry=self._telemetry,
            clock=self.clock,
            span=span,
            openers=self._openers,
            beginnings=self._beginnings,
            started=pb.TurnStarted(
                turn_id=spec.turn_id,
                session_id=spec.session_id,
                trace_id=trace_id_of(span),
                format=speech.heard,
            ),
            record=lambda report: self._ended(driver, self._recorder.end(spec, report, span, speech)),
            late=lambda engine_us: self._recorder.late(spec, speech, engine_us),
            timeout_s=timeout_s,
        )
        self._running.add(driver)
        driver.start()
        return driver

    def _budget(self, text: TextChoice, answerer: Answerer) -> Budget:
        """Return what the prompt of a turn may have."""
        ready, own = self.peers.llm_ready, text.parameters
        return budget_of(
            tokens=self.settings.gateway_prompt_tokens,
            context_tokens=ready.context_tokens,
            reply_tokens=own.max_tokens if own.HasField("max_tokens") else ready.max_tokens,
            messages=self.settings.gateway_history_messages,
            chars=self.settings.gateway_history_chars,
            answerer=answerer,
        )

    def barged_in(self, driver: TurnDriver) -> None:
        """Take note of a turn that its caller speaks over; once, however often that is told."""
        if not driver.spoken_over:
            driver.spoken_over = True
            self._recorder.meter.barged_in()

    def cut(self, error: MeshError) -> None:
        """End every turn that runs, at once: the process cannot wait for it any longer."""
        for driver in tuple(self._running):
            driver.handle(on.TextFailed(error, at_once=True))

    def refuse(
        self, tenant: str, turn_id: str, session_id: str, traceparent: str, error: MeshError
    ) -> pb.TurnFailed:
        """Take note of a turn that could not begin; return what the caller is told."""
        report = self._recorder.refuse(tenant, turn_id or uuid.uuid4().hex, session_id, traceparent, error)
        return pb.TurnFailed(turn_id=report.turn_id, status=report.error, report=report)

    def _ended(self, driver: TurnDriver, told: pb.TurnReport | None) -> pb.TurnReport | None:
        self._running.discard(driver)
        return told
