"""How long the texts and lists of a request may be, where no setting says it and nothing else refuses more.

A message may have 4 MiB: two million parts of a prompt fit into it, or a language that is compared with every
voice. What is short by its nature is short here. A test walks every field of every request, and fails for one
that has a limit neither here nor elsewhere.
"""

from typing import Final

from google.protobuf.message import Message

from gateway.recorder import MAX_TURN_ID_CHARS
from voicemesh.runtime.errors import InvalidFieldError

_TRACEPARENT_CHARS: Final = 256
"""One of today's version has 55."""

CHARS: Final = {
    "voicemesh.gateway.v1.Prompt.turn_id": MAX_TURN_ID_CHARS,
    "voicemesh.gateway.v1.Prompt.traceparent": _TRACEPARENT_CHARS,
    "voicemesh.gateway.v1.TextInput.turn_id": MAX_TURN_ID_CHARS,
    "voicemesh.gateway.v1.TextInput.traceparent": _TRACEPARENT_CHARS,
    "voicemesh.gateway.v1.Interrupt.turn_id": MAX_TURN_ID_CHARS,
    "voicemesh.gateway.v1.Confirm.turn_id": MAX_TURN_ID_CHARS,
    "voicemesh.gateway.v1.Playback.turn_id": MAX_TURN_ID_CHARS,
    "voicemesh.gateway.v1.Configure.system_prompt_variant": 200,
    "voicemesh.gateway.v1.SpeakRequest.turn_id": MAX_TURN_ID_CHARS,
    "voicemesh.gateway.v1.SpeakRequest.traceparent": _TRACEPARENT_CHARS,
    "voicemesh.gateway.v1.ListVoicesRequest.language": 64,
    "voicemesh.gateway.v1.ExplainTurnRequest.turn_id": MAX_TURN_ID_CHARS,
    "voicemesh.common.v1.Image.media_type": 100,
    "voicemesh.common.v1.GenerationParameters.stop": 256,
}
"""Most characters of a text, or of each text of a list."""
COUNTS: Final = {
    "voicemesh.gateway.v1.Prompt.parts": 128,
    "voicemesh.gateway.v1.ListTurnsRequest.outcomes": 16,
}
"""Most members of a list."""


def check(message: Message, path: str = "") -> None:
    """Refuse a request with a text or a list that is too long; `path` is where it is in what was sent.

    Raises:
        InvalidFieldError: Names the field and the limit.

    """
    if wrong := _wrong(message):
        field, why = wrong
        raise InvalidFieldError(f"{path}.{field}" if path else field, why)


def check_text(turn_id: str, traceparent: str, path: str) -> None:
    """Refuse what `check` would of a message of words, for less: one comes for each token.

    Raises:
        InvalidFieldError: Names the field and the limit.

    """
    if len(turn_id) > MAX_TURN_ID_CHARS:
        raise InvalidFieldError(f"{path}.turn_id", _too_long(len(turn_id), MAX_TURN_ID_CHARS))
    if len(traceparent) > _TRACEPARENT_CHARS:
        raise InvalidFieldError(f"{path}.traceparent", _too_long(len(traceparent), _TRACEPARENT_CHARS))


def _wrong(message: Message) -> tuple[str, str] | None:
    for field, value in message.ListFields():
        name = field.full_name
        listed = field.is_repeated
        most = COUNTS.get(name)
        if most is not None and len(value) > most:
            return field.name, f"has {len(value)} members; at most {most} are taken"
        chars = CHARS.get(name)
        if chars is not None:
            for place, text in enumerate(value if listed else (value,)):
                if len(text) > chars:
                    where = f"{field.name}[{place}]" if listed else field.name
                    return where, _too_long(len(text), chars)
        elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
            for place, inner in enumerate(value if listed else (value,)):
                if wrong := _wrong(inner):
                    where = f"{field.name}[{place}]" if listed else field.name
                    return f"{where}.{wrong[0]}", wrong[1]
    return None


def _too_long(length: int, most: int) -> str:
    return f"has {length} characters; at most {most} are taken"
