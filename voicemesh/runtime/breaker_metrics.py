"""Where the circuit breakers of a process are, as a gauge."""

from collections.abc import Callable, Iterable
from typing import Final

from voicemesh.runtime.breaker import BreakerState
from voicemesh.runtime.instruments import Declared, Instrument, Kind
from voicemesh.runtime.metrics import Metrics

BREAKER_STATE: Final = Instrument(
    kind=Kind.GAUGE,
    name="voicemesh.breaker.state",
    unit="1",
    description="0: closed, 1: half open (one use tries it), 2: open (it is left alone).",
    labels={"target": Declared(72)},
)

_NUMBERS: Final = {BreakerState.CLOSED: 0, BreakerState.HALF_OPEN: 1, BreakerState.OPEN: 2}


def observe_breakers(metrics: Metrics, read: Callable[[], Iterable[tuple[str, BreakerState]]]) -> None:
    """Show the breakers that `read` gives: what each one stands in front of, and where it is."""
    metrics.observe(
        BREAKER_STATE, lambda: [(_NUMBERS[state], {"target": target}) for target, state in read()]
    )
