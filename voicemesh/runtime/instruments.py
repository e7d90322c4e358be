"""What a process can measure: instruments, declared once, as data.

A declaration says everything that others build on: the name, the unit, what it says, and which labels it
may have with which values. `docs/metrics.md` is made from the declarations, and `voicemesh.runtime.metrics`
records with them. No value of a label comes from a caller: one that is not declared becomes `other`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import Final

OTHER: Final = "other"
"""What a label says instead of a value that is not declared, or is one too many."""

MAX_SERIES: Final = 2000
"""Most combinations of label values of an instrument; a declaration that allows more is refused."""

LATENCY_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
    *(0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0),
)
"""Bounds of buckets for what somebody waits for, in seconds: narrow up to a second, where goals are."""

DURATION_S: Final = (
    *(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 8.0, 10.0, 20.0, 30.0),
    *(60.0, 120.0, 300.0),
)
"""Bounds of buckets for how long work goes on, in seconds; 8 is where the alert on turns is."""

_UNIT_NAMES: Final = {"s": "seconds", "By": "bytes", "USD": "USD"}


class Kind(Enum):
    """What an instrument does with what it is given. The value is the word in the docs."""

    COUNTER = "counter"
    """Adds up, and never goes down."""
    UP_DOWN = "up-down counter"
    """Adds up, and may go down."""
    HISTOGRAM = "histogram"
    """Counts values by size."""
    GAUGE = "gauge"
    """Is read when somebody looks."""
    OBSERVED_COUNTER = "observed counter"
    """A total that is kept elsewhere, and read when somebody looks."""


@dataclass(frozen=True, slots=True)
class Declared:
    """The values of a label that come from settings and not from callers: voices, models, providers, targets.

    The first `most` that are seen are shown; further ones are `other`.
    """

    most: int = 32


Values = tuple[str, ...] | Declared
"""What a label may say: one of these, or what settings declare."""


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """One instrument.

    Attributes:
        kind: What it is.
        name: Its name in OpenTelemetry, with dots.
        unit: UCUM: `s`, `By`, `{turn}`; `1` for a ratio.
        description: What it says, in one sentence.
        labels: Name of each label to its values.
        buckets: Bounds of a histogram's buckets, in `unit`.

    Raises:
        ValueError: Its labels allow more than `MAX_SERIES` combinations, or a histogram has no buckets.

    """

    kind: Kind
    name: str
    unit: str
    description: str
    labels: Mapping[str, Values] = field(default_factory=dict)
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what would grow without bound."""
        if self.series > MAX_SERIES:
            raise ValueError(f"{self.name}: labels allow {self.series} series, more than {MAX_SERIES}")
        if (self.kind is Kind.HISTOGRAM) != bool(self.buckets):
            raise ValueError(f"{self.name}: a histogram needs buckets, and nothing else has any")

    @property
    def series(self) -> int:
        """Most combinations of values that its labels can have: each may also be `other`, or missing."""
        return prod(
            (values.most if isinstance(values, Declared) else len(values)) + 2
            for values in self.labels.values()
        )

    @property
    def prometheus(self) -> str:
        """Its name in Prometheus, without `_bucket`, `_count` and `_sum` of a histogram."""
        name = self.name.replace(".", "_")
        unit = _UNIT_NAMES.get(self.unit, "")
        if unit and not name.endswith(f"_{unit}"):
            name = f"{name}_{unit}"
        return f"{name}_total" if self.kind in (Kind.COUNTER, Kind.OBSERVED_COUNTER) else name

    def __hash__(self) -> int:
        """Hash by name: there is one of each."""
        return hash(self.name)
