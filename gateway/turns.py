"""All turns that run in this process: admitted, driven, refused when there are too many."""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.access.caller import Caller as Who
from gateway.access.caller import Priority
from gateway.admission.dimming import GivenUp, dimmed
from gateway.admission.door import Door, Place
from gateway.admission.limit import AdaptiveLimit
from gateway.admission.probe import Probe
from gateway.beginnings import Beginnings
from gateway.choosing import Choice, Choosing
from gateway.core import events as on
from gateway.core.budget import Answerer, Budget
from gateway.core.report import TurnReport
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
from voicemesh.runtime.errors import DrainingError, InvalidFieldError, MeshError
from voicemesh.runtime.sessions import Session
from voicemesh.runtime.telemetry import Telemetry, trace_id_of

PRIORITIES: Final = {
    pb.PRIORITY_UNSPECIFIED: Priority.NORMAL,
    pb.PRIORITY_LOW: Priority.LOW,
    pb.PRIORITY_NORMAL: Priority.NORMAL,
    pb.PRIORITY_HIGH: Priority.HIGH,
}


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
    given_up: GivenUp = ()
    """What is given up because of much load, and why."""


def priority_of(asked: pb.Priority.ValueType, field: str) -> Priority:
    """Return the priority that a caller asks for in `field`.

    Raises:
        InvalidFieldError: There is no such priority.

    """
    if asked not in PRIORITIES:
        known = ", ".join(pb.Priority.keys())
        raise InvalidFieldError(field, f"is none of {known}, but number {asked}")
    return PRIORITIES[asked]


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
        door: Lets turns in.

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
        self.door = Door(
            clock,
            AdaptiveLimit(
                least=settings.gateway_min_turns,
                start=settings.gateway_start_turns or settings.gateway_max_turns,
                most=settings.gateway_max_turns,
                target_ms=settings.accepted_lateness_ms,
            ),
            most=settings.gateway_max_turns,
            rules=settings.admission_rules,
            steps=settings.gateway_brownout,
        )
        self.peers = peers
        self.clock = clock
        self._recorder = recorder
        self._telemetry = telemetry
        self._openers = Openers()
        self._beginnings = Beginnings()
        self._running: set[TurnDriver] = set()
        self.draining = asyncio.Event()
        self._cut: MeshError | None = None

    def __len__(self) -> int:
        """Turns that run now."""
        return len(self._running)

    def standby(self, session: Session, remaining_s: Callable[[], float | None]) -> Standby:
        """Return where a caller's stream to the LLM service stands by; `prepare_first` opens the first."""
        return Standby(self.peers, session, self._telemetry, self.settings.gateway_standby_s, remaining_s)

    def admit(self, who: Who, wanted: Priority, *, draft: bool = False, in_flight: bool = False) -> Place:
        """Let a turn in, before any work is done for it; use the place with `with`, and `begin` keeps it.

        Args:
            who: Whose it is.
            wanted: The priority that it asks for.
            draft: True where it may be for nothing.
            in_flight: True for part of a call that was taken: it may begin although the process is about to
                end.

        Raises:
            DrainingError: The process is shutting down.
            UnauthenticatedError: The caller's key is not accepted any more.
            RateLimitedError: The caller's key has no more for now.
            TooManyTurnsError: Every place is taken.
            OverloadedError: The mesh can take no more turns like this one.

        """
        if self._cut is not None:
            raise self._cut
        if self.draining.is_set() and not in_flight:
            raise DrainingError("this gateway is shutting down; ask another", retry_after_ms=0)
        who.check()  # a stream may be older than what became of its key
        return self.door.admit(who, wanted, draft=draft)

    def dim(
        self, choice: Choice, configure: pb.Configure, place: Place, field: str
    ) -> tuple[Choice, GivenUp]:
        """Return how a turn is made with what its place has to give up; `field` is that of `speech`."""
        if not place.steps:
            return choice, ()
        voices = self.settings.gateway_overload_voices
        return dimmed(choice, configure, place.steps, voices, self.choosing, field)

    def begin(
        self,
        request: TurnRequest,
        place: Place,
        choice: Choice,
        caller: Caller,
        session: Session,
        standby: Standby | None,
        timeout_s: float | None,
    ) -> TurnDriver:
        """Start a turn that has a place, and tell the caller so unless it is a draft.

        Raises:
            InvalidFieldError: The turn id is too long.

        """
        text, speech = choice.text, choice.speech
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
            given_up=request.given_up,
            cached_only=place.cached_only,
            priority=int(place.priority),
        )
        if self._overhear is not None:
            caller = self._overhear(spec, caller)
        probe = Probe(self.door, place, speech.voice.name, self.clock)
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
            probe=probe,
            record=lambda report: self._ended(
                driver, place, probe, self._recorder.end(spec, report, span, speech), report
            ),
            late=lambda engine_us: self._recorder.late(spec, speech, engine_us),
            timeout_s=timeout_s,
        )
        self._running.add(driver)
        place.keep()
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
        """End every turn that runs, at once, and begin none: the process cannot wait any longer."""
        self._cut = error
        for driver in tuple(self._running):
            driver.handle(on.TextFailed(error, at_once=True))

    def refuse(
        self, tenant: str, turn_id: str, session_id: str, traceparent: str, error: MeshError
    ) -> pb.TurnFailed:
        """Take note of a turn that could not begin; return what the caller is told."""
        report = self._recorder.refuse(tenant, turn_id or uuid.uuid4().hex, session_id, traceparent, error)
        return pb.TurnFailed(turn_id=report.turn_id, status=report.error, report=report)

    def _ended(
        self,
        driver: TurnDriver,
        place: Place,
        probe: Probe,
        told: pb.TurnReport | None,
        report: TurnReport,
    ) -> pb.TurnReport | None:
        self._running.discard(driver)
        if driver.spec.prompt is not None:  # own words were counted as they came
            place.spend(report.characters)
        probe.end()
        return told
