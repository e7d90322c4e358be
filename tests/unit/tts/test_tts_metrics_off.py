"""Where nobody measures, chunks are watched for their traces alone, and nobody hears of batches."""

from opentelemetry.trace import INVALID_SPAN

from services.tts.core.figures import unheard
from services.tts.metrics import TtsMetrics
from tests.unit.tts.speaking import World
from voicemesh.runtime.metrics import Metrics


async def test_chunks_are_watched_by_the_observer_itself() -> None:
    async with World() as world:
        observe = world.observe
        assert TtsMetrics(Metrics.off(), world.speech).watch(observe, INVALID_SPAN) is observe
        assert world.speech.on_batches is unheard
