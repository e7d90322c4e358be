"""Metrics: one meter provider a process, and none where nobody asked for any.

    add, record ── labels guarded ── provider ─┬─ Prometheus: voicemesh.runtime.scraping, when it is scraped
    observe  <── read when somebody looks ─────┘└─ OTLP, every minute

Where a process has neither an address to be scraped at nor a collector, `Metrics.off()` stands in: nothing is
imported, made or counted. Instruments are declared with `voicemesh.runtime.instruments`.
"""

import asyncio
import concurrent.futures
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import Span

from voicemesh.runtime.instruments import OTHER, Declared, Instrument, Kind
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.measured_span import SpanContexts

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider

    from voicemesh.runtime.scraping import Scraping

Labels = Mapping[str, str | bool]
"""Label to value. One that is missing, or "", is left out; True is "true"."""

Observed = Iterable[tuple[float, Labels]]
"""What a gauge shows: values, each with its labels."""

MAX_VALUE_CHARS: Final = 64
_READ_S: Final = 0.5
"""How long a busy event loop may take to read a gauge; then what was read last is shown."""
_BUSY_S: Final = 1.0
"""How long it is not asked again."""
_FLUSH_S: Final = 3.0
_NONE: Final[Mapping[str, str | bool]] = {}
_CONTEXTS: Final = SpanContexts()

_log = get_logger(__name__)


class Counting:
    """Adds to a counter, or to an up-down counter. This one does nothing: metrics are off."""

    def add(self, amount: float, labels: Labels = _NONE, span: Span | None = None) -> None:
        """Add `amount`. `span` is what an exemplar leads to: the turn's, where there is one."""


class Recording:
    """Takes the values of a histogram. This one does nothing: metrics are off."""

    def record(self, value: float, labels: Labels = _NONE, span: Span | None = None) -> None:
        """Take `value`, in the unit of the instrument. `span` is what an exemplar leads to."""


class Metrics:
    """The instruments of one process; this one measures nothing, which is how a process starts.

    Attributes:
        on: Whether anything is measured: work that only metrics need can be left out where it is not.
        scraping: What answers Prometheus; None where nothing does.

    """

    on: bool = False
    scraping: "Scraping | None" = None

    def counter(self, instrument: Instrument) -> Counting:  # noqa: ARG002 - nothing is made of it here
        """Return what adds to a counter or an up-down counter; the same for the same one."""
        return _NOT_COUNTING

    def histogram(self, instrument: Instrument) -> Recording:  # noqa: ARG002 - as above
        """Return what takes the values of a histogram; the same for the same one."""
        return _NOT_RECORDING

    def observe(self, instrument: Instrument, read: Callable[[], Observed]) -> None:
        """Have a gauge or an observed counter read by `read` whenever somebody looks.

        `read` is called on the event loop, so it may look at whatever lives there; it must not wait. An
        instrument may be read by several: all that they say is shown.
        """

    async def flush(self) -> None:
        """Export what is left and end. A collector that does not answer costs three seconds."""

    @staticmethod
    def off() -> "Metrics":
        """Return the metrics that measure nothing."""
        return _OFF


_NOT_COUNTING: Final = Counting()
_NOT_RECORDING: Final = Recording()
_OFF: Final = Metrics()


def exports() -> bool:
    """Say whether the environment names a collector that takes metrics over OTLP."""
    if os.environ.get("OTEL_METRICS_EXPORTER", "").strip().lower() == "none":
        return False
    names = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
    return any(os.environ.get(name) for name in names)


def make_metrics(service: str, *, scraped: bool) -> Metrics:
    """Return the metrics of a process: of its short name, and whether Prometheus scrapes it."""
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return Metrics.off()
    if not scraped and not exports():
        return Metrics.off()
    # Imported here: it costs start-up time and memory that only those who measure should pay.
    from opentelemetry.sdk.metrics.export import MetricReader  # noqa: PLC0415 - above
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - above

    from voicemesh.runtime.exemplars import make_provider  # noqa: PLC0415 - above

    readers: list[MetricReader] = []
    scraping = None
    if scraped:
        from voicemesh.runtime import scraping as prometheus  # noqa: PLC0415 - above

        scraping = prometheus.Scraping()
        readers.append(scraping.reader)
    if exports():
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader  # noqa: PLC0415 - above

        from voicemesh.runtime.otlp import metric_exporter  # noqa: PLC0415 - above

        readers.append(PeriodicExportingMetricReader(metric_exporter()))
    resource = Resource.create({"service.name": f"voicemesh-{service}", "service.namespace": "voicemesh"})
    return LiveMetrics(make_provider(readers, resource), scraping)


class LiveMetrics(Metrics):
    """Metrics that are measured.

    Args:
        provider: Has the readers.
        scraping: Answers Prometheus; closed with the rest.

    """

    on = True

    def __init__(self, provider: "MeterProvider", scraping: "Scraping | None" = None) -> None:
        self.scraping = scraping
        self._provider = provider
        self._meter = provider.get_meter("voicemesh")
        self._loop = _Loop()
        self._made: dict[Instrument, Any] = {}
        self._reads: dict[Instrument, list[Callable[[], Observed]]] = {}

    def counter(self, instrument: Instrument) -> Counting:
        """Return what adds to a counter or an up-down counter; the same for the same one."""
        made: Counting | None = self._made.get(instrument)
        if made is None:
            create = (
                self._meter.create_counter
                if _checked(instrument, Kind.COUNTER, Kind.UP_DOWN) is Kind.COUNTER
                else self._meter.create_up_down_counter
            )
            own = create(instrument.name, unit=instrument.unit, description=instrument.description)
            made = self._made[instrument] = _Counting(own, _Guard(instrument))
        return made

    def histogram(self, instrument: Instrument) -> Recording:
        """Return what takes the values of a histogram; the same for the same one."""
        made: Recording | None = self._made.get(instrument)
        if made is None:
            _checked(instrument, Kind.HISTOGRAM)
            own = self._meter.create_histogram(
                instrument.name,
                unit=instrument.unit,
                description=instrument.description,
                # Advice and not a view: a view would also hold where a collector is to get exponential
                # histograms (OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION).
                explicit_bucket_boundaries_advisory=instrument.buckets,
            )
            made = self._made[instrument] = _Recording(own, _Guard(instrument))
        return made

    def observe(self, instrument: Instrument, read: Callable[[], Observed]) -> None:
        """Have a gauge or an observed counter read by `read` whenever somebody looks."""
        kind = _checked(instrument, Kind.GAUGE, Kind.OBSERVED_COUNTER)
        if instrument in self._reads:
            self._reads[instrument].append(read)
            return
        reads = self._reads[instrument] = [read]
        shown = _Shown(instrument, reads, self._loop)
        create: Any = (
            self._meter.create_observable_gauge
            if kind is Kind.GAUGE
            else self._meter.create_observable_counter
        )
        create(instrument.name, callbacks=[shown], unit=instrument.unit, description=instrument.description)

    async def flush(self) -> None:
        """Export what is left and end. A collector that does not answer costs three seconds."""
        done = asyncio.Event()
        loop = asyncio.get_running_loop()

        def shutdown() -> None:
            if self.scraping is not None:
                self.scraping.close()
            self._provider.shutdown(timeout_millis=_FLUSH_S * 1000)
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        # A daemon, and not a worker of the loop's executor: the exit of the process waits for those.
        threading.Thread(target=shutdown, name="metrics-flush", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done.wait(), _FLUSH_S)


def _checked(instrument: Instrument, *kinds: Kind) -> Kind:
    if instrument.kind not in kinds:
        raise ValueError(f"{instrument.name} is declared as a {instrument.kind.value}")
    return instrument.kind


class _Guard:
    """Lets through declared labels with declared values, whatever it is given.

    Raises ValueError for a label that is not declared: that is a mistake in the code that measures.
    """

    def __init__(self, instrument: Instrument) -> None:
        self._name = instrument.name
        self._allowed: dict[str, set[str]] = {}
        self._most: dict[str, int] = {}
        for label, values in instrument.labels.items():
            if isinstance(values, Declared):
                self._allowed[label], self._most[label] = set(), values.most
            else:
                self._allowed[label] = set(values)

    def __call__(self, labels: Labels) -> dict[str, str]:
        """Return `labels` as they may be seen."""
        seen = {}
        for label, given in labels.items():
            value = given if isinstance(given, str) else str(given).lower()
            if not value:
                continue
            allowed = self._allowed.get(label)
            if allowed is None:
                raise ValueError(f"{self._name} has no label {label!r}")
            if value not in allowed:
                if len(allowed) < self._most.get(label, 0) and len(value) <= MAX_VALUE_CHARS:
                    allowed.add(value)
                else:
                    value = OTHER
            seen[label] = value
        return seen


class _Counting(Counting):
    def __init__(self, own: Any, guard: _Guard) -> None:
        self._own = own
        self._guard = guard

    def add(self, amount: float, labels: Labels = _NONE, span: Span | None = None) -> None:
        self._own.add(amount, self._guard(labels), _CONTEXTS(span))


class _Recording(Recording):
    def __init__(self, own: Any, guard: _Guard) -> None:
        self._own = own
        self._guard = guard

    def record(self, value: float, labels: Labels = _NONE, span: Span | None = None) -> None:
        self._own.record(value, self._guard(labels), _CONTEXTS(span))


class _Loop:
    """The event loop of the process: gauges look at what lives there, and are asked from other threads."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):  # without a loop there is nothing to be careful with
            self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._busy_until_s = 0.0

    def call(self, read: Callable[[], list[Any]]) -> list[Any]:
        """Call `read` there and return what it returns.

        Raises:
            TimeoutError: The loop is busy.
            RuntimeError: It has ended.

        """
        if self._loop is None or threading.get_ident() == self._thread:
            return read()
        if time.monotonic() < self._busy_until_s:
            raise TimeoutError
        answer: concurrent.futures.Future[list[Any]] = concurrent.futures.Future()

        def answering() -> None:
            try:
                answer.set_result(read())
            except Exception as error:  # noqa: BLE001 - raised where it was asked for
                answer.set_exception(error)

        self._loop.call_soon_threadsafe(answering)
        try:
            return answer.result(_READ_S)
        except TimeoutError:
            # Once for all that are read now: whoever scrapes waits for the whole.
            self._busy_until_s = time.monotonic() + _BUSY_S
            raise


class _Shown:
    """The callback of one observed instrument."""

    def __init__(self, instrument: Instrument, reads: list[Callable[[], Observed]], loop: _Loop) -> None:
        self._instrument = instrument
        self._reads = reads
        self._loop = loop
        self._guard = _Guard(instrument)
        self._last: list[Observation] = []

    def __call__(self, _options: CallbackOptions) -> Iterable[Observation]:
        """Return what is to be seen now; where the loop does not answer, what was to be seen last."""
        # A loop that has no time, or has ended, is no reason to show nothing.
        with contextlib.suppress(TimeoutError, RuntimeError):
            self._last = self._loop.call(self._read)
        return self._last

    def _read(self) -> list[Observation]:
        shown: list[Observation] = []
        for read in self._reads:
            try:
                shown += [Observation(value, self._guard(labels)) for value, labels in read()]
            except Exception as error:  # noqa: BLE001 - one that cannot be read must not hide the others
                _log.error("cannot read a metric", metric=self._instrument.name, exc_info=error)
        return shown
