"""The order of turns: one runs at a time, and the next one begins with the history that it left.

configure ─┬─ prompt, or a draft that is confirmed ─┐      interrupt, or the next prompt, ends the turn
           ├─ text … last ──────────────────────────┤      that runs; the next one begins when the end of
           └──────<─────────────────────────────────┘      that one is queued
"""

import asyncio
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from gateway import limits, translation
from gateway.access.caller import Caller as Who
from gateway.admission.door import Place
from gateway.choosing import Choice, check_attributes
from gateway.core import events as on
from gateway.core.values import Image, Message
from gateway.driver import Caller, TurnDriver
from gateway.looking import check_pictures
from gateway.turns import TurnRequest, Turns, priority_of
from voicemesh.gateway.v1 import gateway_pb2 as pb
from voicemesh.runtime.errors import InvalidFieldError, MeshError, OutOfOrderError, UnknownTurnError
from voicemesh.runtime.logs import get_logger
from voicemesh.runtime.sessions import Session

_log = get_logger(__name__)
_SPEECH_FIELD: Final = "configure.speech"


@dataclass(eq=False, slots=True)
class Member:
    """One stream that may begin turns. `caller` is told what concerns it alone, `who` is behind it."""

    caller: Caller
    who: Who
    dropping: str | None = None
    """Id of a turn of words whose rest is ignored."""
    said_id: str = ""
    """Id of the last turn of words that was complete."""


@dataclass(frozen=True, slots=True)
class _Draft:
    prompt: pb.Prompt
    driver: TurnDriver | None
    """None where it could not begin: it is tried again when it is confirmed."""

    def is_said_by(self, prompt: pb.Prompt) -> bool:
        """Return whether `prompt` says the same, under the same id or none."""
        same_id = prompt.turn_id in ("", self.prompt.turn_id)
        return same_id and _content(prompt) == _content(self.prompt)


def _content(prompt: pb.Prompt) -> tuple[str | Image, ...]:
    parts = translation.parts_from(prompt.parts)
    return tuple(part.strip() if isinstance(part, str) else part for part in parts)


class Floor:
    """Takes what members say, in the order in which it comes.

    Args:
        turns: Begins turns.
        tenant: Whose turns they are.
        configure: What holds for all turns.
        caller: Is told every turn.
        session: Owns the tasks.
        remaining_s: Returns what is left of the caller's deadline; None where it has none.

    Raises:
        InvalidFieldError: `configure` is unusable.
        UnknownVoiceError: There is no such voice.
        ServiceUnavailableError: It is not known yet what can speak.

    """

    def __init__(
        self,
        turns: Turns,
        tenant: str,
        configure: pb.Configure,
        caller: Caller,
        session: Session,
        remaining_s: Callable[[], float | None],
    ) -> None:
        self.configure = configure
        self.tenant = tenant
        self.session_id = configure.session_id or uuid.uuid4().hex
        self._turns = turns
        check_attributes(configure.attributes)
        self.speech = turns.choosing.plain(configure, _SPEECH_FIELD).speech
        self._caller = caller
        self._session = session
        self._remaining_s = remaining_s
        self._known_session = bool(configure.session_id)
        self._standby = turns.standby(session, remaining_s)
        self.priority = priority_of(configure.priority, "configure.priority")
        if not turns.door.pressed:
            self._standby.prepare_first()
        self._turn: TurnDriver | None = None
        self._leader: Member | None = None
        self._draft: _Draft | None = None
        self._words_open = False
        self._words_length = 0
        self._place: Place | None = None
        """That of the turn that began last."""
        self._history: tuple[Message, ...] = ()
        # Only one member at a time ends a turn and begins the next; both may wait in between.
        self._taking = asyncio.Lock()

    # ------------------------------------------------------------ messages

    async def take(self, member: Member, request: pb.ConverseRequest, received_ns: int) -> None:
        """Take a message of a member that has been configured.

        Raises:
            OutOfOrderError: It must not come now.
            InvalidFieldError: It is none that is known.

        """
        match request.WhichOneof("event"):
            case "prompt":
                async with self._taking:
                    await self._prompt(member, request.prompt, received_ns)
            case "draft":
                async with self._taking:
                    await self._take_draft(member, request.draft, received_ns)
            case "confirm":
                async with self._taking:
                    await self._confirm(member, request.confirm, received_ns)
            case "text":
                async with self._taking:
                    await self._words(member, request.text, received_ns)
            case "interrupt":
                self._interrupt(request.interrupt)
            case "playback":
                if self._leader is member and self._is_present(request.playback.turn_id):
                    self._tell(on.PlaybackReported(request.playback.played_ms))
            case None:
                raise InvalidFieldError("event", "is not set, or is one that this gateway does not know")

    def _interrupt(self, interrupt: pb.Interrupt) -> None:
        if self._is_present(interrupt.turn_id):
            self._words_open = False
            if self._draft is not None:
                self._discard()
                return
            if self._turn is not None:
                self._turns.barged_in(self._turn)
            self._tell(on.Interrupted(interrupt.played_ms if interrupt.HasField("played_ms") else None))

    async def _prompt(self, member: Member, prompt: pb.Prompt, received_ns: int) -> None:
        if self._draft is not None and self._draft.is_said_by(prompt) and self._release(member, received_ns):
            return
        await self._end_present()
        try:
            message = self._checked(prompt)
            await self._begin(member, prompt.turn_id, received_ns, message, prompt.traceparent)
        except MeshError as error:
            self._refuse(member, prompt.turn_id, error, prompt.traceparent)

    async def _words(self, member: Member, text: pb.TextInput, received_ns: int) -> None:
        if member.dropping == text.turn_id:
            # The rest of a turn that was refused or failed: it was answered already.
            if text.last:
                member.dropping = None
            return
        member.dropping = None
        if not (self._words_open and self._leader is member and self._is_running(text.turn_id)):
            if text.turn_id and text.turn_id == member.said_id:
                raise OutOfOrderError("`text` came behind the `last` of its turn", field="text.turn_id")
            if (
                self._words_open
                and text.turn_id
                and self._leader is member
                and self._is_present(text.turn_id)
            ):
                # It has failed meanwhile.
                self._words_open = False
                self._drop_rest(member, text)
                return
            await self._end_present()
            try:
                await self._begin(member, text.turn_id, received_ns, None, text.traceparent)
            except MeshError as error:
                self._refuse(member, text.turn_id, error, text.traceparent)
                self._drop_rest(member, text)
                return
            self._words_open = True
            self._words_length = 0
        self._add_words(member, text)

    def _add_words(self, member: Member, text: pb.TextInput) -> None:
        self._words_length += len(text.text)
        if self._place is not None:
            self._place.spend(len(text.text))
        limit = self._turns.settings.gateway_max_text_chars
        if self._words_length > limit:
            self._words_open = False
            error = InvalidFieldError("text.text", f"a turn takes at most {limit} characters")
            self._tell(on.TextFailed(error))
            self._drop_rest(member, text)
            return
        if text.text:
            self._tell(on.TextArrived(text.text))
        if text.flush:
            self._tell(on.TextFlushed())
        if text.last:
            member.said_id = text.turn_id
            self._end_words()

    @staticmethod
    def _drop_rest(member: Member, text: pb.TextInput) -> None:
        member.dropping = None if text.last else text.turn_id

    # ------------------------------------------------------------ drafts

    async def _take_draft(self, member: Member, prompt: pb.Prompt, received_ns: int) -> None:
        """Begin a draft. Whatever is wrong with it is told when it is confirmed."""
        draft = self._draft
        if draft is not None and draft.is_said_by(prompt) and draft.driver and not draft.driver.ended:
            return  # the same again
        await self._end_present()
        if not prompt.turn_id:
            prompt.turn_id = uuid.uuid4().hex
        driver = None
        try:
            message = self._checked(prompt)
            driver = await self._begin(
                member, prompt.turn_id, received_ns, message, prompt.traceparent, draft=True
            )
        except MeshError as error:
            _log.info("draft refused", turn_id=prompt.turn_id, reason=error.reason)
        self._draft = _Draft(prompt, driver)

    async def _confirm(self, member: Member, confirm: pb.Confirm, received_ns: int) -> None:
        draft = self._draft
        if draft is None or confirm.turn_id not in ("", draft.prompt.turn_id):
            confirmed = self._turn is not None and self._turn.spec.draft and self._is_present(confirm.turn_id)
            if not confirmed:
                gone = "there is no such draft: it was replaced, or never sent"
                self._refuse(member, confirm.turn_id, UnknownTurnError(gone, field="confirm.turn_id"))
            return
        if not self._release(member, received_ns):
            await self._prompt(member, draft.prompt, received_ns)

    def _release(self, member: Member, received_ns: int) -> bool:
        """Confirm the draft; return False where nothing is left of it."""
        draft, self._draft = self._draft, None
        if draft is None or draft.driver is None or draft.driver.ended:
            return False
        self._leader = member
        self._known_session = True
        draft.driver.confirm(received_ns)
        return True

    # ------------------------------------------------------------ turns

    async def _begin(
        self,
        member: Member,
        turn_id: str,
        received_ns: int,
        prompt: Message | None,
        traceparent: str,
        *,
        draft: bool = False,
    ) -> TurnDriver:
        with self._turns.admit(member.who, self.priority, draft=draft) as place:
            choice = await self._choose(words=prompt is None)
            choice, given_up = self._turns.dim(choice, self.configure, place, _SPEECH_FIELD)
            request = TurnRequest(
                self.tenant,
                turn_id,
                self.session_id,
                received_ns,
                prompt,
                traceparent,
                remembered=self._history,
                new_session=not self._known_session,
                draft=draft,
                turn_id_field="text.turn_id" if prompt is None else "prompt.turn_id",
                given_up=given_up,
            )
            self.speech = choice.speech
            self._turn = self._turns.begin(
                request, place, choice, self._caller, self._session, self._standby, self._remaining_s()
            )
        if prompt is not None:
            place.spend(len(prompt.text))
        self._place = place
        self._leader = member
        self._known_session = self._known_session or not draft
        return self._turn

    async def _choose(self, *, words: bool) -> Choice:
        """Return how the next turn is made: a voice or a flag may be another since the last one."""
        choice = await self._turns.choosing.choose(
            self.configure, tenant=self.tenant, sticky=self.session_id, words=words, field=_SPEECH_FIELD
        )
        if not self.configure.channel:
            return choice
        # Each member of a channel says for itself whether it wants words.
        return replace(choice, speech=replace(choice.speech, word_timings=True))

    async def _end_present(self) -> None:
        """Interrupt the present turn, if one runs, and wait for its end: the next one needs its history."""
        self._words_open = False
        self._discard()
        if self._turn is None:
            return
        if not self._turn.finished.is_set():
            self._turns.barged_in(self._turn)
            self._turn.handle(on.Interrupted())
            await self._turn.finished.wait()
        while not self._turn.settled.is_set():
            await self._turn.settled.wait()
        self._history = self._turn.history
        self._turn = None

    def _end_words(self) -> None:
        self._words_open = False
        self._tell(on.TextEnded())

    def _is_present(self, turn_id: str) -> bool:
        return self._turn is not None and turn_id in ("", self._turn.spec.turn_id)

    def _is_running(self, turn_id: str) -> bool:
        return self._turn is not None and self._is_present(turn_id) and not self._turn.finished.is_set()

    def _tell(self, event: on.Event) -> None:
        if self._turn is not None:
            self._turn.handle(event)

    def _refuse(self, member: Member, turn_id: str, error: MeshError, traceparent: str = "") -> None:
        """Tell a member of a turn that could not begin."""
        failed = self._turns.refuse(self.tenant, turn_id, self.session_id, traceparent, error)
        member.caller.send("turn_failed", failed)

    # ------------------------------------------------------------ the end

    async def finish(self) -> None:
        """Wait until the present turn has ended; a draft is discarded."""
        self._discard()
        if self._turn is not None:
            await self._turn.finished.wait()

    def half_closed(self, member: Member) -> None:
        """Note that a member will say nothing more: its words end, its draft is discarded."""
        if self._leader is member:
            self._discard()
            if self._words_open:
                self._end_words()

    def close(self) -> None:
        """Begin no more turns."""
        self._standby.close()

    def abandon(self) -> None:
        """End everything at once: nobody listens. Does not wait."""
        self.close()
        if self._turn is not None:
            self._turn.abandon()

    def _discard(self) -> None:
        draft, self._draft = self._draft, None
        if draft is not None and draft.driver is not None:
            draft.driver.handle(on.Discarded())
            self._turn = None  # it was none

    def _checked(self, prompt: pb.Prompt) -> Message:
        """Check a prompt and turn it into a message.

        Raises:
            InvalidFieldError: It has no text, or is over a limit.

        """
        settings = self._turns.settings
        limits.check(prompt, "prompt")
        message = Message("user", translation.parts_from(prompt.parts))
        if not message.text.strip():
            raise InvalidFieldError("prompt.parts", "has no text: at least one part must say something")
        if len(message.text) > settings.gateway_max_prompt_chars:
            raise InvalidFieldError(
                "prompt.parts",
                f"has {len(message.text)} characters; at most {settings.gateway_max_prompt_chars} are taken",
            )
        check_pictures(message.parts, settings.gateway_max_images, settings.gateway_max_image_bytes)
        return message
