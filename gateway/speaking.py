"""Texts without a conversation: `Speak` and `SpeakBatch`."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from google.protobuf.message import Message as ProtoMessage

from gateway.access.caller import CURRENT, Priority
from gateway.access.caller import Caller as Who
from gateway.admission.door import Place
from gateway.callers import LIMIT, Item, OutboxCaller
from gateway.choosing import Choice
from gateway.core import events as on
from gateway.driver import TurnDriver
from gateway.turns import TurnRequest, Turns, priority_of
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import (
    InvalidFieldError,
    MeshError,
    OverloadedError,
    RateLimitedError,
    TooManyTurnsError,
)
from voicemesh.runtime.sessions import Session
from voicemesh.runtime.status import RemoteError
from voicemesh.runtime.streams import Outbox

_MAX_TEXTS: Final = 1000
_AT_ONCE: Final = 4
"""Texts of a batch that are spoken at the same time."""
_PATIENCE_MS: Final = 2_000
"""How much later than that of a turn somebody listens to a text of a batch is due."""
_WARM_PATIENCE_MS: Final = 60_000
"""The same for a text that is warmed: behind everything else, and yet at some time."""
_PLACE_TRIES: Final = 60
_SPEECH_FIELD: Final = "speech"
_BATCH_EVENTS: Final = {
    "turn_started": "started",
    "frame": "frame",
    "turn_completed": "completed",
    "turn_failed": "failed",
}
"""Events of a turn that a batch tells, and their fields there."""


class Speaker:
    """Speaks texts, each as a turn of its own.

    Args:
        turns: Begins turns.
        session: Owns the tasks.
        tenant: Whose turns they are.
        timeout_s: What is left of the call's deadline; None where it has none.

    Attributes:
        outbox: The responses of the call.

    """

    def __init__(self, turns: Turns, session: Session, tenant: str, timeout_s: float | None) -> None:
        self.outbox: Outbox[Item] = Outbox(LIMIT)
        self._turns = turns
        self._session = session
        self._tenant = tenant
        self._who = CURRENT.get() or Who(tenant)
        self._timeout_s = timeout_s
        self._running: set[TurnDriver] = set()
        self._batch: asyncio.Task[None] | None = None

    async def speak(self, request: pb.SpeakRequest, received_ns: int) -> None:
        """Begin to speak one text; failure of the turn becomes that of the call.

        Raises:
            MeshError: The request is unusable, or refused.

        """

        def wrap(event: str, message: ProtoMessage) -> pb.SpeakResponse | None:
            if isinstance(message, pb.TurnFailed):
                self.outbox.close(RemoteError(message.status))
                return None
            return pb.SpeakResponse(**{event: message})  # type: ignore[arg-type] # events are named by their field

        turn_id = request.turn_id or uuid.uuid4().hex
        turn = TurnRequest(
            self._tenant,
            turn_id,
            "",
            received_ns,
            None,
            request.traceparent,
            keep_history=False,
        )
        try:
            self._check(request.text, "text")
            await self._turns.peers.known(self._timeout_s)
            priority = priority_of(request.priority, "priority")
            with self._turns.admit(self._who, priority, in_flight=True) as place:
                choice = await self._choose(request.speech, turn_id)
                driver = self._begin(turn, place, request.text, choice, request.speech, wrap)
        except MeshError as error:
            self._turns.refuse(turn.tenant, turn.turn_id, turn.session_id, turn.traceparent, error)
            raise
        self._session.spawn(self._close(driver), name="speak")

    def speak_batch(self, request: pb.SpeakBatchRequest) -> None:
        """Begin to speak many texts; each fails by itself.

        Raises:
            MeshError: The request is unusable.

        """
        if not 1 <= len(request.texts) <= _MAX_TEXTS:
            raise InvalidFieldError("texts", f"has {len(request.texts)} texts; 1 to {_MAX_TEXTS} are taken")
        if request.warm and request.speech.bypass_audio_cache:
            raise InvalidFieldError("speech.bypass_audio_cache", "must be false where `warm` is true")
        self._turns.choosing.plain(pb.Configure(speech=request.speech), _SPEECH_FIELD)
        indexes: dict[str, list[int]] = {}
        for index, text in enumerate(request.texts):
            indexes.setdefault(text, []).append(index)
        batch = self._run_batch(indexes, request.speech, warm=request.warm)
        self._batch = self._session.spawn(batch, name="batch")

    def abandon(self) -> None:
        """End everything at once: the caller is gone. Does not wait."""
        if self._batch is not None:
            self._batch.cancel()
        for driver in tuple(self._running):
            driver.abandon()
        self.outbox.abort()

    # ------------------------------------------------------------ turns

    def _begin(
        self,
        turn: TurnRequest,
        place: Place,
        text: str,
        choice: Choice,
        speech: pb.SpeechOptions,
        wrap: Callable[[str, ProtoMessage], Any],
    ) -> TurnDriver:
        caller = OutboxCaller(wrap, self.outbox)
        if not turn.warms:  # what is kept for others is what they will ask for
            choice, given_up = self._turns.dim(choice, pb.Configure(speech=speech), place, _SPEECH_FIELD)
            turn = replace(turn, given_up=given_up)
        driver = self._turns.begin(turn, place, choice, caller, self._session, None, self._timeout_s)
        place.spend(len(text))
        self._running.add(driver)
        driver.handle(on.TextArrived(text))
        driver.handle(on.TextEnded())
        return driver

    async def _close(self, driver: TurnDriver) -> None:
        try:
            await driver.finished.wait()
        finally:
            self._running.discard(driver)
            self.outbox.close()

    async def _run_batch(
        self, indexes: dict[str, list[int]], speech: pb.SpeechOptions, *, warm: bool
    ) -> None:
        # However small this gateway is, a batch leaves most of it to those who listen.
        most = max(1, self._turns.settings.gateway_max_turns // 4)
        places = asyncio.Semaphore(1 if warm else min(_AT_ONCE, most))

        async def one(text: str, positions: Sequence[int]) -> None:
            async with places:
                await self._batch_text(text, positions, speech, warm=warm)

        try:
            async with asyncio.TaskGroup() as group:
                for text, positions in indexes.items():
                    group.create_task(one(text, positions))
        finally:
            self.outbox.close()

    async def _batch_text(
        self, text: str, positions: Sequence[int], speech: pb.SpeechOptions, *, warm: bool
    ) -> None:
        def wrap(event: str, message: ProtoMessage) -> pb.SpeakBatchResponse | None:
            field = None if warm and event == "frame" else _BATCH_EVENTS.get(event)
            return pb.SpeakBatchResponse(text_indexes=positions, **{field: message}) if field else None  # type: ignore[arg-type] # as above

        turn_id = uuid.uuid4().hex
        try:
            self._check(text, f"texts[{positions[0]}]")
            choice = self._choose_warm(speech) if warm else await self._choose(speech, turn_id)
            driver = await self._placed(turn_id, text, choice, speech, wrap, warm=warm)
        except MeshError as error:
            failed = self._turns.refuse(self._tenant, turn_id, "", "", error)
            self.outbox.push((wrap("turn_failed", failed), None))
            return
        await driver.finished.wait()
        self._running.discard(driver)

    async def warm(self, text: str, speech: pb.SpeechOptions) -> pb.TurnReport:
        """Have a text spoken into the cache; return the account of it.

        Raises:
            MeshError: It cannot be spoken.

        """
        ended: list[ProtoMessage] = []

        def wrap(event: str, message: ProtoMessage) -> None:
            if event in ("turn_completed", "turn_failed"):
                ended.append(message)

        self._check(text, "text")
        choice = self._choose_warm(speech)
        driver = await self._placed(uuid.uuid4().hex, text, choice, speech, wrap, warm=True)
        try:
            await driver.finished.wait()
        finally:
            driver.abandon()
            self._running.discard(driver)
        (end,) = ended
        if isinstance(end, pb.TurnFailed):
            raise RemoteError(end.status)
        assert isinstance(end, pb.TurnCompleted)
        return end.report

    async def _placed(
        self,
        turn_id: str,
        text: str,
        choice: Choice,
        speech: pb.SpeechOptions,
        wrap: Callable[[str, ProtoMessage], Any],
        *,
        warm: bool,
    ) -> TurnDriver:
        """Begin a text of a batch; while there is no place for it, wait rather than refuse."""
        tries = 0
        while True:
            received_ns = self._turns.clock.now_ns()
            turn = TurnRequest(
                self._tenant,
                turn_id,
                "",
                received_ns,
                None,
                keep_history=False,
                patience_ms=_WARM_PATIENCE_MS if warm else _PATIENCE_MS,
                warms=warm,
            )
            try:
                with self._turns.admit(self._who, Priority.LOW, in_flight=not warm) as place:
                    return self._begin(turn, place, text, choice, speech, wrap)
            except (TooManyTurnsError, OverloadedError, RateLimitedError) as error:
                tries += 1
                if tries == _PLACE_TRIES:
                    raise
                await asyncio.sleep((error.retry_after_ms or 0) / 1000)

    def _check(self, text: str, field: str) -> None:
        limit = self._turns.settings.gateway_max_text_chars
        if not text.strip():
            raise InvalidFieldError(field, "is empty: it must say something")
        if len(text) > limit:
            raise InvalidFieldError(field, f"has {len(text)} characters; at most {limit} are taken")

    def _choose_warm(self, speech: pb.SpeechOptions) -> Choice:
        """Return how a text is warmed: as it is asked for, whatever a flag says, and as fast as it can be."""
        choice = self._turns.choosing.plain(pb.Configure(speech=speech), _SPEECH_FIELD)
        return replace(choice, speech=replace(choice.speech, max_lead_ms=0))

    async def _choose(self, speech: pb.SpeechOptions, turn_id: str) -> Choice:
        """Return how a text is spoken. There is no session: each is given a variant by itself."""
        return await self._turns.choosing.choose(
            pb.Configure(speech=speech), tenant=self._tenant, sticky=turn_id, words=True, field=_SPEECH_FIELD
        )
