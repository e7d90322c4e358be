"""The harness's own voice as an engine of the mesh, so that speech costs every peer the same.

A voice names it as `benchmarks.peers.engine:HarnessEngine`; the harness's folder must be on `PYTHONPATH`.
"""

import json
import os
import threading
import time
from typing import Any, Final

from peerbench.tts_engine import MODES, SAMPLE_RATE, SLOTS, TTSEngine

from services.tts.engines.base import Capabilities, Engine, OptionsError, Output, SpeakRequest

_MANY_SLOTS: Final = 160
"""Chunks at once where they mostly wait: 40 turns have up to three each on their way."""
_SLICE_BYTES: Final = SAMPLE_RATE // 5 * 2


class HarnessEngine(Engine):
    """Speaks through the harness's `TTSEngine`: a whole chunk at once, from an espeak-ng process.

    Args:
        language: Not used: the harness has one voice.
        options: `mode`: one of the harness's, `fast` if absent. `calls`: a file to which each call is
            added as a line of JSON, `[text, from_s, to_s, bytes]` on the monotonic clock.

    Raises:
        OptionsError: An option is unknown or wrong.

    """

    def __init__(self, language: str, options: dict[str, Any]) -> None:
        if unknown := sorted(options.keys() - {"mode", "calls"}):
            raise OptionsError(f"option {unknown[0]}: the harness's voice has the options mode and calls")
        mode = options.get("mode", "fast")
        if mode not in MODES:
            raise OptionsError(f"option mode: must be one of {', '.join(MODES)}")
        self._voice = TTSEngine(mode)
        self._calls = -1
        if options.get("calls"):
            self._calls = os.open(options["calls"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._writing = threading.Lock()
        self.capabilities = Capabilities(
            sample_rate_hz=SAMPLE_RATE,
            # The harness runs so many espeak processes at a time; who is next is the service's to decide.
            # The delay of `slow` holds none of them, so there more chunks must be on their way.
            slots=_MANY_SLOTS if mode == "slow" else SLOTS,
            word_timings=False,
            deterministic=True,
            revision=f"harness-{mode}",
            language=language,
        )

    def synthesize(self, request: SpeakRequest, output: Output) -> None:
        """Speak. A cancel takes effect when the harness hands the chunk over."""
        began_s = time.monotonic()
        pcm: bytes = self._voice.synthesize_blocking(request.text)
        self._note(request.text, began_s, len(pcm))
        for at in range(0, len(pcm), _SLICE_BYTES):
            if not output.write(pcm[at : at + _SLICE_BYTES]):
                return

    def _note(self, text: str, began_s: float, size_bytes: int) -> None:
        if self._calls >= 0:
            line = json.dumps([text, began_s, time.monotonic(), size_bytes]) + "\n"
            with self._writing:
                os.write(self._calls, line.encode())
