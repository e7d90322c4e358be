"""An engine that loads something with each text."""

from services.tts.engines.base import Output, SpeakRequest
from services.tts.engines.loading import loading
from tests.contract.own_engines import ToneEngine


class LateEngine(ToneEngine):
    """Says so each time."""

    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        """Load, and speak."""
        loading("what it needs now")
        super().synthesize(request, output)
