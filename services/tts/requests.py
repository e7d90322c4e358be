"""Requests of an engine that speaks each in a thread of its own.

A full window holds the engine in its `write`, and a cancel frees it: the write returns False. Workers
import this module: standard library only.
"""

import contextlib
import queue
import threading
import time
from collections.abc import Callable

from services.tts import loudness
from services.tts.delivery import Delivery, Voice, failed
from services.tts.engines.base import CannotSpeakError, Engine
from services.tts.wire import SpeakRequest, Word


class Request:
    """One chunk at work: the engine's `Output`, with window and cancel.

    Args:
        send: Takes whole messages.
        request_id: For the messages.
        request: What to speak.
        voice: How.
        now_ns: A monotonic clock.

    """

    def __init__(
        self,
        send: Callable[[bytes], None],
        request_id: int,
        request: SpeakRequest,
        voice: Voice,
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.id = request_id
        self._now_ns = now_ns
        self._tell = send
        self._request = request
        self._delivery = Delivery(request_id, request, voice)
        self._levels = voice.levels
        self._changed = threading.Condition()
        self._cancelled = False
        self._stopped = False
        self._waited_ns = 0

    def run(self, engine: Engine) -> bytes:
        """Speak; return the message that ends the request."""
        began_ns = self._now_ns()
        if not self._cancelled:
            self._level(engine)
            engine.synthesize(self._request, self)
            if not self._stopped:
                self._delivery.finish()
                self._deliver()
        busy_ns = self._now_ns() - began_ns - self._waited_ns
        # A cancel that came behind the last sample changed nothing.
        cancelled = self._stopped or (self._cancelled and not self._delivery.made_samples)
        return self._delivery.done(busy_ns, cancelled=cancelled)

    def measure(self) -> None:
        """See `Delivery.measure`; call when its end was told."""
        self._delivery.measure()

    def _level(self, engine: Engine) -> None:
        """Have a variant measured that speaks for the first time here: some 20 ms with espeak-ng."""
        variant = self._request.variant
        if self._levels.wants(variant) and not self._request.warm_up:
            heard = _Heard()
            with contextlib.suppress(CannotSpeakError):
                engine.synthesize(SpeakRequest(loudness.TEXT, variant, warm_up=True), heard)
            self._levels.measure(variant, b"".join(heard.parts))

    def write(self, pcm: bytes) -> bool:
        """See `Output`."""
        self._delivery.push(pcm)
        self._deliver()
        return self._go_on()

    def words(self, words: list[Word]) -> None:
        """See `Output`."""
        self._delivery.words(words)

    def pause(self, seconds: float) -> bool:
        """See `Output`."""
        if seconds > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._cancelled, seconds)
        return self._go_on()

    def cancel(self) -> None:
        """Stop the engine at its next `write`."""
        with self._changed:
            self._cancelled = True
            self._changed.notify_all()

    def add_credit(self, samples: int) -> None:
        """Let `samples` more be sent."""
        with self._changed:
            self._delivery.credit += samples
            self._changed.notify_all()

    def _go_on(self) -> bool:
        # An engine that was told to stop stopped early: that is what `cancelled` reports.
        self._stopped = self._stopped or self._cancelled
        return not self._cancelled

    def _deliver(self) -> None:
        """Send what one call of the engine made, in one go; wait where the window is full."""
        while True:
            with self._changed:
                if self._cancelled and self._delivery.held:
                    self._stopped = True
                    return
                out = self._delivery.messages(self._now_ns())
            if out:
                self._tell(out)
            if not self._delivery.held:
                return
            began_ns = self._now_ns()
            with self._changed:
                self._changed.wait_for(lambda: self._cancelled or self._delivery.credit > 0)
            self._waited_ns += self._now_ns() - began_ns


class _Heard:
    """Keeps what an engine says, for nobody to hear."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, pcm: bytes) -> bool:
        """See `Output`."""
        self.parts.append(pcm)
        return True

    def words(self, words: list[Word]) -> None:
        """See `Output`."""

    def pause(self, seconds: float) -> bool:
        """See `Output`: nobody waits for it."""
        return seconds >= 0


class Threads:
    """Drives an `Engine`: one thread a request, at most `Capabilities.slots`.

    Args:
        engine: Speaks.
        voice: How.
        send: Takes whole messages, from any thread.

    """

    def __init__(self, engine: Engine, voice: Voice, send: Callable[[bytes], None]) -> None:
        self._engine = engine
        self._voice = voice
        self._send = send
        self._requests: dict[int, Request] = {}
        self._work: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._threads = 0

    def speak(self, request_id: int, speak: SpeakRequest) -> None:
        """Begin a request."""
        request = self._requests[request_id] = Request(self._send, request_id, speak, self._voice)
        if self._threads < min(self._voice.capabilities.slots, len(self._requests)):
            self._threads += 1
            threading.Thread(target=self._speak_forever, daemon=True).start()
        self._work.put(request)

    def cancel(self, request_id: int) -> None:
        """Stop a request; an unknown id means nothing."""
        if (known := self._requests.get(request_id)) is not None:
            known.cancel()

    def add_credit(self, request_id: int, samples: int) -> None:
        """Let a request send `samples` more; an unknown id means nothing."""
        if (known := self._requests.get(request_id)) is not None:
            known.add_credit(samples)

    def _speak_forever(self) -> None:
        while True:
            request = self._work.get()
            try:
                end = request.run(self._engine)
            except Exception as error:  # noqa: BLE001 - the service is told
                end = failed(request.id, error)
            # Out of the table before the end is told: the service may give the slot away at once.
            self._requests.pop(request.id, None)
            self._send(end)
            request.measure()
