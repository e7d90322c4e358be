"""Where nobody measures, attempts are watched for their traces alone."""

from opentelemetry.trace import INVALID_SPAN

from services.llm.core.figures import Figures
from services.llm.metrics import LlmMetrics
from tests.unit.llm.virtual import RecordingObserver
from voicemesh.runtime.clock import ManualClock
from voicemesh.runtime.metrics import Metrics


def test_attempts_are_watched_by_the_observer_itself() -> None:
    metrics = LlmMetrics(Metrics.off(), ManualClock(), Figures(), ())
    observer = RecordingObserver()
    assert metrics.watch(observer, lambda: INVALID_SPAN) is observer
