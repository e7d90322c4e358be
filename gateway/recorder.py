"""What stays of a turn: its report, its span, one line in the log."""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from opentelemetry.trace import Span

from gateway import translation
from gateway.admission.rates import Bucket
from gateway.audit import Audit
from gateway.chunk_events import add_chunk_events
from gateway.core.report import TurnReport
from gateway.core.values import TurnSpec
from gateway.flags import Evaluation
from gateway.measuring import TurnMeter
from gateway.options import SpeechChoice
from gateway.prices import Prices
from gateway.record import DISCARDED, REFUSED, TurnBegun, TurnEnded, TurnRecord
from gateway.settings import GatewaySettings
from gateway.turn_line import EVENTS, fields_of, fields_of_refused
from gateway.usage import UsageMeter, variant_of
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime import trace_content
from voicemesh.runtime import trace_names as names
from voicemesh.runtime.errors import InvalidFieldError, MeshError, UnknownTurnError
from voicemesh.runtime.logs import Logger, get_logger, with_span
from voicemesh.runtime.metrics import Metrics
from voicemesh.runtime.status import reason_of, to_status
from voicemesh.runtime.telemetry import Telemetry, end_span, note_error, trace_id_of

_log = get_logger(__name__)
MAX_TURN_ID_CHARS: Final = 200
_LEAST_OF_AN_ID: Final = 6
"""With fewer characters, what is meant is as likely an id of its own."""
_MOST_SHOWN: Final = 5
_FOR_LOAD: Final = frozenset({"OVERLOADED", "RATE_LIMITED", "TOO_MANY_TURNS"})
"""Reasons of refusals that come in floods."""
_REFUSALS_PER_MIN: Final = 600
"""So many of these are traced and remembered."""
_LINE_NS: Final = 1_000_000_000
"""From one of these that is logged to the next: they are read by people."""


class Recorder:
    """Keeps the reports of the last turns, and writes each to its trace, to the log and to the metrics.

    Args:
        settings: How many it keeps, prices, and the objective.
        telemetry: Makes spans.
        wall_ns: Time of day in nanoseconds since 1970: for people, no duration is made from it.
        metrics: Where turns are measured.
        now_ns: A clock that never goes back.

    Attributes:
        record: The turns that run and the last ones that ended.
        usage: What was consumed.
        meter: What is measured of turns.

    """

    def __init__(
        self,
        settings: GatewaySettings,
        telemetry: Telemetry,
        wall_ns: Callable[[], int] = time.time_ns,
        metrics: Metrics | None = None,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._settings = settings
        self._wall_ns = wall_ns
        self.record = TurnRecord(settings.gateway_remembered_turns, settings.gateway_remembered_bytes)
        self.meter = TurnMeter(
            metrics or Metrics.off(), settings.gateway_ttfa_objective_ms, settings.gateway_metrics_tenants
        )
        self.usage = UsageMeter(Prices(settings.prices_llm, settings.prices_speech))
        self.audit = Audit(settings.gateway_attribution_check)
        self.audit.on_violation = self.meter.violated
        self._telemetry = telemetry
        self._now_ns = now_ns
        self._refusals = Bucket(_REFUSALS_PER_MIN, now_ns())
        self._lines_from_ns = now_ns()
        self._not_logged = 0

    def now_us(self) -> int:
        """Return the time of day, in microseconds since 1970."""
        return self._wall_ns() // 1000

    def find(self, tenant: str, turn_id: str) -> pb.TurnReport:
        """Return the report of a tenant's turn; of its last one that ran and ended, for "".

        `turn_id` may be the id of its trace, and the beginning of either, if no other turn's begins so.

        Raises:
            UnknownTurnError: It is not remembered here.
            InvalidFieldError: Several turns begin so.

        """
        turn = self.record.find(tenant, turn_id)
        if turn is None and len(turn_id) >= _LEAST_OF_AN_ID:
            turn = self._beginning(tenant, turn_id)
        if turn is None:
            kept = self._settings.gateway_remembered_turns
            raise UnknownTurnError(
                f"no turn {turn_id[:80]!r} of this tenant is remembered here; the last {kept} that ended are"
                if turn_id
                else "no turn of this tenant has ended here yet",
                field="turn_id",
            )
        return turn.report()

    def _beginning(self, tenant: str, start: str) -> TurnEnded | None:
        found = self.record.beginning(tenant, start)
        if len(found) < 2:
            return found[0] if found else None
        shown = ", ".join(turn.turn_id[:80] for turn in found[:_MOST_SHOWN])
        more = f" and {len(found) - _MOST_SHOWN} more" if len(found) > _MOST_SHOWN else ""
        raise InvalidFieldError(
            "turn_id",
            f"{start[:80]!r} begins the ids of {len(found)} turns or of their traces: {shown}{more}",
        )

    def begin(
        self, spec: TurnSpec, speech: SpeechChoice, traceparent: str, flags: Iterable[Evaluation] = ()
    ) -> Span:
        """Start the span of a turn: below the caller's, or of a trace of its own."""
        kind = "prompt" if spec.prompt is not None else "text"
        span = self._telemetry.root_span(names.TURN_SPAN, traceparent)
        if not spec.draft:
            self.record.begin(
                TurnBegun(
                    tenant=spec.tenant,
                    turn_id=spec.turn_id,
                    session_id=spec.session_id,
                    trace_id=trace_id_of(span),
                    voice=speech.voice.name,
                    kind=kind,
                    began_unix_us=self.now_us(),
                )
            )
        if not span.is_recording():
            return span
        span.set_attributes(
            {
                names.TURN_ID: spec.turn_id,
                names.CONVERSATION: spec.session_id,
                names.TENANT: spec.tenant,
                names.VOICE: speech.voice.name,
                names.KIND: kind,
                **{names.variant_of(key): variant for key, variant in spec.variants},
            }
        )
        if self._telemetry.content and spec.prompt is not None:
            span.set_attribute(names.INPUT_MESSAGES, trace_content.message("user", spec.prompt.text))
        for flag in flags:
            # https://opentelemetry.io/docs/specs/semconv/feature-flags/feature-flags-events/
            span.add_event(
                names.FLAG_EVENT,
                {
                    names.FLAG_KEY: flag.key,
                    names.FLAG_VARIANT: flag.variant,
                    names.FLAG_REASON: flag.reason,
                    names.FLAG_PROVIDER: flag.provider,
                    names.FLAG_CONTEXT: spec.session_id or spec.turn_id,
                },
            )
        return span

    def end(
        self, spec: TurnSpec, report: TurnReport, span: Span, speech: SpeechChoice
    ) -> pb.TurnReport | None:
        """Take the report of a turn that ended, and how it was spoken.

        Return it as the caller is told it, None for a draft.
        """
        cost = self.usage.take(report, speech.voice.name, speech.voice.engine)
        began_us = self.now_us() - report.total_us
        self.meter.ended(report, spec, cost, span)
        if report.outcome == "discarded":
            self._discard(report, span)
            empty = pb.TurnReport(turn_id=report.turn_id, began_unix_us=began_us)
            self.record.end(report.tenant, empty, DISCARDED)
            return None
        told = translation.report_to(report, trace_id_of(span), cost)
        told.format.CopyFrom(speech.heard)
        told.began_unix_us = began_us
        told.attribution_violations.extend(self.audit.check(report, with_span(_log, span, **_names(report))))
        self.record.end(report.tenant, told, report.outcome)
        self._end_span(report, told, span)
        self._log_line(report, told, span)
        return told

    def late(self, spec: TurnSpec, speech: SpeechChoice, engine_us: int) -> None:
        """Take engine time of a turn that was told only behind its end: its report is without it."""
        voice = speech.voice
        usd = self.usage.take_late(spec.tenant, variant_of(spec), voice.name, voice.engine, engine_us)
        self.meter.spoke_late(spec.tenant, usd)

    def refuse(
        self, tenant: str, turn_id: str, session_id: str, traceparent: str, error: MeshError
    ) -> pb.TurnReport:
        """Take a turn that could not begin, and why; return its report, which says no more than that.

        Of a flood of them each is counted, some are traced and remembered, and one a second is logged:
        it must cost little.
        """
        if error.reason in _FOR_LOAD:
            if self._refusals.left(self._now_ns()) < 1:
                self._not_logged += 1
                self.meter.refused(tenant, error)
                return self._refused(turn_id, session_id, error)
            self._refusals.take(1, self._now_ns())
        span = self._telemetry.root_span(
            names.TURN_SPAN,
            traceparent,
            {
                names.TURN_ID: turn_id[:MAX_TURN_ID_CHARS],
                names.CONVERSATION: session_id,
                names.TENANT: tenant,
                names.OUTCOME: "refused",
            },
        )
        told = self._refused(turn_id, session_id, error, trace_id_of(span))
        if len(turn_id) <= MAX_TURN_ID_CHARS:
            self.record.end(tenant, told, REFUSED)
        log = with_span(_log, span, turn_id=turn_id[:MAX_TURN_ID_CHARS], session_id=session_id, tenant=tenant)
        self._log_refused(log, error.reason)
        self.meter.refused(tenant, error, span)
        end_span(span, error)
        return told

    def _log_refused(self, log: Logger, reason: str) -> None:
        others = 0
        if reason in _FOR_LOAD:
            if self._now_ns() < self._lines_from_ns:
                self._not_logged += 1
                return
            self._lines_from_ns = self._now_ns() + _LINE_NS
            others, self._not_logged = self._not_logged, 0
        log.warning(EVENTS["refused"], **fields_of_refused(reason), **({"others": others} if others else {}))

    def _refused(self, turn_id: str, session_id: str, error: MeshError, trace_id: str = "") -> pb.TurnReport:
        return pb.TurnReport(
            turn_id=turn_id,
            session_id=session_id,
            trace_id=trace_id,
            outcome=pb.TURN_OUTCOME_FAILED,
            error=to_status(error, trace_id),
            began_unix_us=self.now_us(),
        )

    def _discard(self, report: TurnReport, span: Span) -> None:
        """Note a draft that nobody wanted: in its trace and in the log, and nowhere else."""
        span.set_attributes({names.OUTCOME: report.outcome, names.CHARACTERS: report.characters})
        span.end()
        log = with_span(_log, span, **_names(report))
        log.info(EVENTS["discarded"], **{**fields_of(report, pb.TurnReport()), "cost_usd": None})

    def _end_span(self, report: TurnReport, told: pb.TurnReport, span: Span) -> None:
        if not span.is_recording():
            return
        span.set_attributes(_attributes(report, told))
        add_chunk_events(span, report)
        if report.error is not None:
            note_error(span, reason_of(told.error))
        if self._telemetry.content:
            span.set_attribute(names.OUTPUT_MESSAGES, trace_content.message("assistant", report.text))
        span.end()

    @staticmethod
    def _log_line(report: TurnReport, told: pb.TurnReport, span: Span) -> None:
        log = with_span(_log, span, **_names(report))
        say = log.warning if report.outcome == "failed" else log.info
        say(EVENTS[report.outcome], **fields_of(report, told))


def _names(report: TurnReport) -> dict[str, str]:
    """Return what a line of the log is found by."""
    return {"turn_id": report.turn_id, "session_id": report.session_id, "tenant": report.tenant}


def _attributes(report: TurnReport, told: pb.TurnReport) -> dict[str, str | int | float | Sequence[str]]:
    """Return what the span of a turn says at its end: set at once, which costs less than one by one."""
    attribution = report.attribution
    attributes: dict[str, str | int | float | Sequence[str]] = {
        names.OUTCOME: report.outcome,
        names.TTFT_MS: report.ttft_us / 1000,
        names.TTFA_MS: attribution.ttfa_us / 1000,
        names.TOTAL_MS: report.total_us / 1000,
        names.LEADING_SILENCE_MS: report.leading_silence_us / 1000,
        names.AUDIO_MS: report.audio_us / 1000,
        names.UNDERRUNS: report.underruns,
        names.UNDERRUN_MS: report.underrun_us / 1000,
        names.CHUNK_COUNT: len(report.chunks),
        names.CHARACTERS: report.characters,
        names.ENGINE_MS: report.engine_us / 1000,
        names.SAVED_USD: told.cost.saved_usd,
        names.REPLY_CACHE: report.reply_cache,
        names.UNATTRIBUTED_MS: attribution.unattributed_us / 1000,
        **{names.stage_ms(stage): duration_us / 1000 for stage, duration_us in attribution.stages.items()},
        **{names.hop_ms(hop): late_us / 1000 for hop, late_us in attribution.hops.items()},
    }
    if report.head_start_us:
        attributes[names.HEAD_START_MS] = report.head_start_us / 1000
    if told.provider:
        attributes[names.PROVIDER] = told.provider
    if report.prompt_variant:
        attributes[names.PROMPT_VARIANT] = report.prompt_variant
    if told.cost.unpriced:
        # Without a price there is no cost: a sum over spans must not take it for free.
        attributes[names.UNPRICED] = list(told.cost.unpriced)
    else:
        attributes[names.COST_USD] = told.cost_usd
    if report.degraded:
        attributes[names.DEGRADED] = list(report.degraded)
    return attributes
