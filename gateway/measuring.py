"""Metrics of turns: all of a turn at once, when it has ended. Nothing is measured while it runs."""

from collections.abc import Mapping, Sequence
from typing import Final

from grpc import StatusCode
from opentelemetry.trace import Span

from gateway import instruments
from gateway.core.invariant import Rule
from gateway.core.report import TurnReport
from gateway.core.values import TurnSpec
from gateway.prices import Cost
from voicemesh.runtime.errors import DrainingError, MeshError, RateLimitedError
from voicemesh.runtime.instruments import OTHER
from voicemesh.runtime.metrics import Metrics
from voicemesh.runtime.status import code_of

_CALLERS_FAULT: Final = (StatusCode.INVALID_ARGUMENT, StatusCode.NOT_FOUND)
_BY_THE_LLM: Final = ("off", "miss")


class TurnMeter:
    """Takes the account of every turn.

    Args:
        metrics: Where it goes.
        objective_ms: A first frame that comes later has missed the objective.
        tenants: Those that are shown by name; all others are `other`. None are, where it is empty.

    """

    def __init__(self, metrics: Metrics, objective_ms: int, tenants: Sequence[str] = ()) -> None:
        self._on = metrics.on
        self._objective_us = objective_ms * 1000
        self._tenants = frozenset(tenants)
        self._turns = metrics.counter(instruments.TURNS)
        self._refusals = metrics.counter(instruments.REFUSALS)
        self._barge_ins = metrics.counter(instruments.BARGE_INS)
        self._duration = metrics.histogram(instruments.DURATION)
        self._first_audio = metrics.histogram(instruments.FIRST_AUDIO)
        self._first_token = metrics.histogram(instruments.FIRST_TOKEN)
        self._leading_silence = metrics.histogram(instruments.LEADING_SILENCE)
        self._stage = metrics.histogram(instruments.STAGE)
        self._unattributed = metrics.histogram(instruments.UNATTRIBUTED)
        self._slo = metrics.counter(instruments.SLO)
        metrics.observe(instruments.OBJECTIVE, lambda: [(objective_ms / 1000, {})])
        self._underruns = metrics.counter(instruments.UNDERRUNS)
        self._underrun = metrics.histogram(instruments.UNDERRUN)
        self._degradations = metrics.counter(instruments.DEGRADATIONS)
        self._failovers = metrics.counter(instruments.FAILOVERS)
        self._audio = metrics.counter(instruments.AUDIO)
        self._characters = metrics.counter(instruments.CHARACTERS)
        self._cost = metrics.counter(instruments.COST)
        self._saved = metrics.counter(instruments.SAVED)
        self._violations = metrics.counter(instruments.VIOLATIONS)
        self._lookups = metrics.counter(instruments.LOOKUPS)
        if self._on:
            self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """Show what alerts ask for before it happens: `increase` does not see what a series is born with."""
        for rule in Rule:
            self._violations.add(0, {"rule": rule.value})
        for tenant in (*self._tenants, OTHER) if self._tenants else ("",):
            for met in (True, False):
                self._slo.add(0, {"met": met, "voicemesh.tenant": tenant})

    def ended(self, report: TurnReport, spec: TurnSpec, cost: Cost, span: Span) -> None:
        """Take a turn that ended, a draft that nobody wanted among them. `span` is the turn's."""
        if not self._on:
            return
        kind = _kind(spec)
        tenant = self._tenant(report.tenant)
        error = _reason(report.error)
        self._turns.add(1, {"outcome": report.outcome, "kind": kind, "error.type": error}, span)
        self._cost.add(cost.llm_usd, {"part": "llm", **tenant})
        self._cost.add(cost.speech_usd, {"part": "speech", **tenant})
        self._saved.add(cost.saved_usd, tenant)
        self._characters.add(report.characters, tenant)
        if report.outcome == "discarded":
            return
        self._audio.add(report.audio_us / 1e6, {"kind": kind, **tenant})
        for what in report.degraded:
            self._degradations.add(1, {"what": what}, span)
        for failover in report.failovers:
            self._failovers.add(1, {"voicemesh.peer": failover.service}, span)
        self._look_ups(report)
        # Where nobody listens as it comes, nobody waits: goals are not for these.
        if kind != "background":
            self._times(report, kind, tenant, span)

    def _times(self, report: TurnReport, kind: str, tenant: Mapping[str, str], span: Span) -> None:
        attribution = report.attribution
        self._duration.record(report.total_us / 1e6, {"outcome": report.outcome, "kind": kind}, span)
        if report.ttft_us and kind == "prompt" and report.reply_cache in _BY_THE_LLM:
            self._first_token.record(report.ttft_us / 1e6, span=span)
        if attribution.ttfa_us:
            labels = {"kind": kind, "reply_cache": report.reply_cache, **tenant}
            self._first_audio.record(attribution.ttfa_us / 1e6, labels, span)
            self._leading_silence.record(report.leading_silence_us / 1e6, span=span)
            self._unattributed.record(abs(attribution.unattributed_us) / 1e6, span=span)
            for stage, duration_us in attribution.stages.items():
                # A turn that did not go through a stage says nothing about it.
                if duration_us:
                    self._stage.record(duration_us / 1e6, {"stage": stage}, span)
        met = self._met(report)
        if met is not None:
            self._slo.add(1, {"met": met, **tenant}, span)
        for chunk in report.chunks:
            for dry in chunk.underrun_list:
                self._underruns.add(1, {"stage": dry.cause}, span)
                self._underrun.record(dry.duration_us / 1e6, {"stage": dry.cause}, span)
            # Of a chunk that stutters not each is kept.
            more = chunk.underruns - len(chunk.underrun_list)
            if more > 0:
                self._underruns.add(more, {"stage": chunk.underrun_cause}, span)

    def _look_ups(self, report: TurnReport) -> None:
        if report.reply_cache != "off":
            self._lookups.add(1, {"kind": "reply", "result": report.reply_cache})
        for chunk in report.chunks:
            if chunk.cache != "off":
                self._lookups.add(1, {"kind": "audio", "result": chunk.cache})

    def _met(self, report: TurnReport) -> bool | None:
        """Say whether a turn met the objective; None where it does not count.

        Who spoke before the objective was over has not waited in vain, and neither has who asked for what
        there is not.
        """
        if report.attribution.ttfa_us:
            return report.attribution.ttfa_us <= self._objective_us
        if report.outcome == "failed":
            return None if _is_callers_fault(report.error) else False
        # Nothing was to be heard, or it was interrupted first.
        return False if report.outcome == "interrupted" and report.total_us > self._objective_us else None

    def refused(self, tenant: str, error: MeshError, span: Span | None = None) -> None:
        """Take a turn that could not begin; `span` is its own, if it has one."""
        self._refusals.add(1, {"error.type": error.reason}, span)
        # A gateway that shuts down sends callers to another one: they are served there. Who takes more than
        # was agreed has not been failed.
        if not (_is_callers_fault(error) or isinstance(error, (DrainingError, RateLimitedError))):
            self._slo.add(1, {"met": False, **self._tenant(tenant)}, span)

    def barged_in(self) -> None:
        """Take a turn that its caller spoke over, while it ran or while the last of it was played."""
        self._barge_ins.add(1)

    def violated(self, rule: Rule) -> None:
        """Take a rule that the attribution of a turn breaks."""
        self._violations.add(1, {"rule": rule.value})

    def spoke_late(self, tenant: str, speech_usd: float) -> None:
        """Take what engines cost for a turn that had ended when they said so."""
        self._cost.add(speech_usd, {"part": "speech", **self._tenant(tenant)})

    def _tenant(self, tenant: str) -> dict[str, str]:
        if not self._tenants:
            return {}
        return {"voicemesh.tenant": tenant if tenant in self._tenants else OTHER}


def _kind(spec: TurnSpec) -> str:
    if spec.patience_ms or spec.keeps_audio:
        return "background"
    return "prompt" if spec.prompt is not None else "text"


def _reason(error: Exception | None) -> str:
    if error is None:
        return ""
    return error.reason if isinstance(error, MeshError) else MeshError.reason


def _is_callers_fault(error: Exception | None) -> bool:
    return isinstance(error, MeshError) and code_of(error) in _CALLERS_FAULT
