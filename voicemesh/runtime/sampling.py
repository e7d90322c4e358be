"""Which traces are recorded, decided where a trace begins: `OTEL_TRACES_SAMPLER`, checked at start.

The SDK reads these variables too, but takes its default, with a warning, where they are wrong: who had
asked for one trace in a hundred would get, and pay for, all.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from voicemesh.runtime.errors import SettingsError

SAMPLER: Final = "OTEL_TRACES_SAMPLER"
RATIO: Final = "OTEL_TRACES_SAMPLER_ARG"
_DEFAULT: Final = "parentbased_always_on"


class _Linked(Sampler):
    """Takes what begins a trace of its own and is linked with a trace that is recorded; else asks another.

    A batch has to do with turns that were chosen already: one in ten of those would show its own.
    """

    def __init__(self, other: Sampler) -> None:
        self._other = other

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """See `Sampler`."""
        chosen = any(link.context.trace_flags.sampled for link in links or ())
        sampler = ALWAYS_ON if chosen else self._other
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        """See `Sampler`."""
        return f"Linked{{{self._other.get_description()}}}"


_FIXED: Final[Mapping[str, Sampler]] = {
    "always_on": ALWAYS_ON,
    "always_off": ALWAYS_OFF,
    "parentbased_always_on": ParentBased(ALWAYS_ON),
    "parentbased_always_off": ParentBased(_Linked(ALWAYS_OFF)),
}
_RATIOS: Final = ("traceidratio", "parentbased_traceidratio")


def head_sampler(environment: Mapping[str, str]) -> Sampler:
    """Return the sampler that the environment names; without a name all traces are recorded.

    `parentbased_…` leave it to a caller that sends a `traceparent`, and to the gateway for all processes
    behind it: so a trace is whole or not there.

    Raises:
        SettingsError: There is no such sampler, or the ratio is none.

    """
    name = environment.get(SAMPLER, "").strip().lower() or _DEFAULT
    if name in _FIXED:
        return _FIXED[name]
    if name not in _RATIOS:
        known = ", ".join(sorted([*_FIXED, *_RATIOS]))
        raise SettingsError(f"{SAMPLER}: there is no sampler {name[:80]!r}; there are {known}")
    ratio = _Linked(TraceIdRatioBased(_ratio(environment.get(RATIO, "").strip())))
    return ParentBased(ratio) if name.startswith("parentbased") else ratio


def _ratio(value: str) -> float:
    try:
        ratio = float(value or 1)
    except ValueError:
        ratio = -1.0
    if not 0 <= ratio <= 1:  # also what is not a number
        raise SettingsError(f"{RATIO}: must be the share of traces to record, 0 to 1, not {value[:80]!r}")
    return ratio
