"""An engine that fails while a file exists, in the middle of each text."""

import pathlib
from typing import Any

from services.tts.engines.base import Output, RequestFailedError, SpeakRequest
from tests.contract.own_engines import ToneEngine


class Blown:
    """Passes some audio on, then breaks."""

    def __init__(self, output: Output, writes: int, error: Exception) -> None:
        self._output = output
        self._left = writes
        self._error = error
        self.words = output.words
        self.pause = output.pause

    def write(self, pcm: bytes) -> bool:
        """See `Output`."""
        if not self._left:
            raise self._error
        self._left -= 1
        return self._output.write(pcm)


class FusedEngine(ToneEngine):
    """Options: `fuse`, the file; `letters` that it speaks while that exists; `alone`: only the
    request fails."""

    def __init__(self, language: str, options: dict[str, Any]) -> None:
        super().__init__(language, {})
        self._fuse = pathlib.Path(options["fuse"])
        self._letters = options["letters"]
        self._failure = RequestFailedError if options.get("alone") else RuntimeError

    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        """Speak, or break."""
        blown = self._fuse.exists() and not request.warm_up
        failure = self._failure("the fuse has blown")
        super().synthesize(request, Blown(output, self._letters, failure) if blown else output)
