"""Requests of an engine that advances many at once: one thread for all of them.

    socket thread   speak, cancel, add_credit ──> commands
    engine thread   commands ──> scheduler ──> one step of the engine ──> deliveries ──> messages ──┐
                       ^─────────────────────────────────────────────────────────────────────────────┘

What a command changes is seen between two steps. With nothing to run the thread sleeps until a command.
An utterance whose window is full is not run. One that resumes behind its first sample leaves out what its
listener has, as far as every sample behind that stays the same (`services.tts.edges`).

The first request of a variant waits until it is known how loud that variant is: the engine speaks a short
text for nobody, as one utterance among the others (`services.tts.loudness`).

Workers import this module: standard library only.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NoReturn

from services.tts import loudness
from services.tts.delivery import Delivery, Voice, failed
from services.tts.engines.base import CannotSpeakError, OutOfMemoryError, SteppedEngine, Utterance
from services.tts.scheduling import Batch, Pause, Scheduler, Work
from services.tts.together import Groups
from services.tts.wire import SpeakRequest, together_message

_FOR_NOBODY: Final = 1 << 31
"""Ids from here on are those of texts that are spoken to measure a variant. The service never gets so far."""
_NO_ROOM: Final = "it does not fit into the device's memory, even alone; send shorter chunks"


class _Speaking:
    """One request at work."""

    __slots__ = ("came_ns", "delivery", "ended", "utterance", "work")

    def __init__(self, delivery: Delivery, utterance: Utterance, came_ns: int) -> None:
        self.delivery = delivery
        self.came_ns = came_ns
        self.utterance = utterance
        self.work: Work | None = None
        self.ended = False
        """True once the engine has made everything."""


class Stepping:
    """Drives a `SteppedEngine`. `run` belongs to the engine's thread; the other calls to any other one.

    Args:
        engine: Speaks.
        voice: How.
        send: Takes whole messages.
        now_ns: A monotonic clock.

    """

    def __init__(
        self,
        engine: SteppedEngine,
        voice: Voice,
        send: Callable[[bytes], None],
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._engine = engine
        self._voice = voice
        self._send = send
        self._now_ns = now_ns
        self._scheduler = Scheduler(engine.batch_limit)
        self._news = threading.Condition()
        self._commands: deque[Callable[[], None]] = deque()
        self._speaking: dict[int, _Speaking] = {}
        self._waiting: deque[tuple[Delivery, int]] = deque()
        """Requests beyond the slots, in order."""
        self._unlevelled: dict[str, deque[tuple[Delivery, int]]] = {}
        """Requests of variants that are being measured, in order."""
        self._for_nobody = itertools.count(_FOR_NOBODY)
        self._by_work: dict[Work, _Speaking] = {}
        self._groups = Groups()
        self._out: list[bytes] = []

    # ---- commands, from another thread --------------------------------------------------------

    def speak(self, request_id: int, request: SpeakRequest) -> None:
        """Begin a request."""
        came_ns = self._now_ns()
        self._command(lambda: self._open(Delivery(request_id, request, self._voice), came_ns))

    def cancel(self, request_id: int) -> None:
        """Stop a request after the step that runs; an unknown id means nothing."""
        self._command(lambda: self._cancel(request_id))

    def add_credit(self, request_id: int, samples: int) -> None:
        """Let a request send `samples` more; an unknown id means nothing."""
        self._command(lambda: self._add_credit(request_id, samples))

    def figures(self) -> dict[str, Any]:
        """Return what the engine did so far, for heartbeats."""
        return self._scheduler.figures()._asdict()

    def _command(self, command: Callable[[], None]) -> None:
        with self._news:
            self._commands.append(command)
            self._news.notify()

    # ---- the engine's thread ------------------------------------------------------------------

    def prepare(self, progress: Callable[[int, int, str], None]) -> None:
        """Run every step with every size of batch once.

        `progress` hears how many are done, of how many, and what is next. A batch that does not fit into
        memory is not formed later either.

        Raises:
            OutOfMemoryError: A step does not fit even alone.
            Exception: The engine is broken.

        """
        sizes = [(step, size) for step in self._engine.steps() for size in self._scheduler.buckets(step)]
        for done, (step, size) in enumerate(sizes):
            progress(done, len(sizes), f"{step.stage} {step.size} x {size}")
            if size > self._scheduler.limit(step):
                continue
            try:
                self._engine.prepare(step, size)
            except OutOfMemoryError:
                if size == 1:
                    raise
                self._scheduler.lower(step, size)

    def run(self) -> NoReturn:
        """Serve for as long as the process lives."""
        while True:
            self.wait(self.advance())

    def wait(self, until_ns: int | None) -> None:
        """Sleep until a command, or a time; None for without end."""
        timeout_s = None if until_ns is None else (until_ns - self._now_ns()) / 1e9
        if timeout_s is None or timeout_s > 0:
            with self._news:
                self._news.wait_for(lambda: self._commands, timeout_s)

    def advance(self) -> int | None:
        """Do what was asked for, and one step; return when there is more to do (None: at a command)."""
        while self._commands:
            self._commands.popleft()()
        decided = self._scheduler.next(self._now_ns())
        if isinstance(decided, Batch):
            self._step(decided)
        self._flush()
        if decided is None:
            return None
        return decided.until_ns if isinstance(decided, Pause) else 0

    def _open(self, delivery: Delivery, came_ns: int) -> None:
        if len(self._speaking) >= self._engine.capabilities.slots:
            self._waiting.append((delivery, came_ns))
            return
        variant = delivery.request.variant
        if variant in self._unlevelled:
            self._unlevelled[variant].append((delivery, came_ns))
            return
        if self._voice.levels.wants(variant) and not delivery.request.warm_up:
            self._unlevelled[variant] = deque([(delivery, came_ns)])
            asked = SpeakRequest(loudness.TEXT, variant, warm_up=True, caller=delivery.request.caller)
            delivery = Delivery(next(self._for_nobody), asked, self._voice)
        try:
            utterance = self._engine.open(delivery.request)
        except Exception as error:  # noqa: BLE001 - the service is told
            self._fail(delivery, error)
            return
        speaking = self._speaking[delivery.id] = _Speaking(delivery, utterance, came_ns)
        self._take(speaking)

    def _cancel(self, request_id: int) -> None:
        speaking = self._speaking.get(request_id)
        if speaking is not None:
            self._end(speaking, cancelled=True)
        for queue in (self._waiting, *self._unlevelled.values()):
            for waiting in [waiting for waiting in queue if waiting[0].id == request_id]:
                queue.remove(waiting)
                self._out.append(waiting[0].done(0, cancelled=True))

    def _add_credit(self, request_id: int, samples: int) -> None:
        for queue in (self._waiting, *self._unlevelled.values()):
            for delivery, _ in queue:
                if delivery.id == request_id:
                    delivery.credit += samples
        speaking = self._speaking.get(request_id)
        if speaking is None:
            return
        speaking.delivery.credit += samples
        if speaking.work is None or not speaking.work.queued:
            self._deliver(speaking, came=True)

    def _step(self, batch: Batch) -> None:
        speaking = [self._by_work[work] for work in batch.works]
        began_ns = self._now_ns()
        try:
            self._engine.run([one.utterance for one in speaking])
        except OutOfMemoryError:
            alone = self._scheduler.did_not_fit(batch, self._now_ns())
            if alone is not None:
                self._fail(self._by_work[alone].delivery, CannotSpeakError(_NO_ROOM))
            return
        except Exception as error:  # noqa: BLE001 - the service is told
            self._scheduler.ran(batch, began_ns, self._now_ns())
            for one in speaking:
                self._fail(one.delivery, error)
            return
        ended_ns = self._now_ns()
        self._scheduler.ran(batch, began_ns, ended_ns)
        if len(speaking) > 1 and any(one.delivery.request.traced for one in speaking):
            ids = [one.delivery.id for one in speaking if one.delivery.id < _FOR_NOBODY]
            if len(ids) > 1:
                self._groups.ran(batch.step.stage, ids, began_ns, ended_ns)
        for one in speaking:
            self._take(one)

    def _take(self, speaking: _Speaking) -> None:
        """Take what a step made."""
        delivery, utterance = speaking.delivery, speaking.utterance
        try:
            pcm, words = utterance.take()
            delivery.words(words)
            delivery.push(pcm)
            if utterance.step is not None and delivery.leave_out(utterance):
                delivery.words(utterance.take()[1])
            if utterance.step is None:
                speaking.ended = delivery.finish()
                if speaking.ended:
                    delivery.measure()
                else:
                    speaking.utterance = self._engine.open(delivery.request)
        except Exception as error:  # noqa: BLE001 - the service is told
            self._fail(delivery, error)
            return
        self._deliver(speaking)

    def _deliver(self, speaking: _Speaking, *, came: bool = False) -> None:
        """Send what the window allows; then it is ready for its next step, held, or at its end."""
        delivery, work = speaking.delivery, speaking.work
        now_ns = self._now_ns()
        out, heard = delivery.messages(now_ns), delivery.id < _FOR_NOBODY
        if out and heard:
            self._out.append(out)
        if work is not None and delivery.first_sent_ns and heard:
            self._scheduler.made_audio(work, delivery.first_sent_ns + delivery.due_after_ns)
        if delivery.held or (delivery.credit <= 0 and not speaking.ended):
            return
        if speaking.ended:
            self._end(speaking, cancelled=False)
        else:
            self._ready(speaking, now_ns, came=came)

    def _ready(self, speaking: _Speaking, now_ns: int, *, came: bool) -> None:
        step, request = speaking.utterance.step, speaking.delivery.request
        assert step is not None
        if speaking.work is None:
            in_hand_ns = request.in_hand_ms * 1_000_000
            speaking.work = self._scheduler.add(request.caller, step, speaking.came_ns, in_hand_ns)
            self._by_work[speaking.work] = speaking
        else:
            self._scheduler.ready(speaking.work, step, now_ns, came=came)

    def _fail(self, delivery: Delivery, error: Exception) -> None:
        if delivery.id >= _FOR_NOBODY:
            self._levelled(delivery, None if isinstance(error, CannotSpeakError) else error)
            return
        self._forget(delivery.id)
        self._out.append(failed(delivery.id, error))

    def _end(self, speaking: _Speaking, *, cancelled: bool) -> None:
        if speaking.delivery.id >= _FOR_NOBODY:
            self._levelled(speaking.delivery, None)
            return
        self._forget(speaking.delivery.id)
        engine_ns = speaking.work.engine_ns if speaking.work is not None else 0
        self._out.append(speaking.delivery.done(engine_ns, cancelled=cancelled))

    def _levelled(self, delivery: Delivery, error: Exception | None) -> None:
        """Go on with the requests of a variant; one that cannot say the text stays as loud as it is."""
        variant = delivery.request.variant
        waiting = self._unlevelled.pop(variant)
        if error is None:
            self._voice.levels.measure(variant, b"")  # where it was measured that changes nothing
            self._waiting.extendleft(reversed(waiting))
        self._forget(delivery.id)
        if error is not None:
            for asked, _ in waiting:
                self._fail(asked, error)

    def _forget(self, request_id: int) -> None:
        speaking = self._speaking.pop(request_id, None)
        self._out += map(together_message, self._groups.ended(request_id, self._now_ns()))
        if speaking is not None and speaking.work is not None:
            self._scheduler.drop(speaking.work, self._now_ns())
            del self._by_work[speaking.work]
        while self._waiting and len(self._speaking) < self._engine.capabilities.slots:
            self._open(*self._waiting.popleft())

    def _flush(self) -> None:
        """Send what one step made, in one go."""
        if self._out:
            self._send(b"".join(self._out))
            self._out.clear()
