"""What is measured of the door."""

from gateway import instruments
from gateway.admission.door import Door
from voicemesh.runtime.metrics import Metrics


def observe_door(metrics: Metrics, door: Door) -> None:
    """Have each scrape ask the door."""
    metrics.observe(instruments.ADMISSION_LIMIT, lambda: [(door.limit.turns, {})])
    metrics.observe(instruments.ADMISSION_PLACES, lambda: [(door.running, {})])
    metrics.observe(instruments.ADMISSION_LATENESS, lambda: [(door.limit.late_ms / 1000, {})])
    metrics.observe(instruments.ADMISSION_CUTS, lambda: [(door.limit.cuts, {})])
    metrics.observe(instruments.ADMISSION_STEPS, lambda: [(door.brownout.level, {})])
