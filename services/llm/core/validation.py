"""What a request may be. Every refusal names its field and its limit."""

import math
from dataclasses import dataclass
from typing import Final

from services.llm.core.model import GenerationRequest, ImagePart, Message, Parameters, Part, Role, TextPart
from voicemesh.runtime.errors import InvalidFieldError

MAX_STOPS: Final = 4
MAX_NAME_CHARS: Final = 256
MAX_STOP_CHARS: Final = 256


@dataclass(frozen=True)
class Limits:
    """How large a request may be.

    message_chars: Code points of text over all messages.
    image_bytes: Bytes of one picture; of a `data:` address, its characters.
    """

    message_chars: int
    image_bytes: int


def check(request: GenerationRequest, limits: Limits) -> None:
    """Refuse a request that no provider should be asked.

    Raises:
        InvalidFieldError: Names the field as a path in GenerateRequest.

    """
    for name in ("turn_id", "model", "session_id", "tenant"):
        length = len(getattr(request, name))
        if length > MAX_NAME_CHARS:
            raise InvalidFieldError(f"start.{name}", f"has {length} characters; at most {MAX_NAME_CHARS}")
    _check_messages(request.messages, limits)
    if len(request.said) > limits.message_chars:
        raise InvalidFieldError(
            "start.said", f"has {len(request.said)} characters; at most {limits.message_chars}"
        )
    _check_parameters(request.parameters)


def _check_messages(messages: tuple[Message, ...], limits: Limits) -> None:
    if not messages:
        raise InvalidFieldError("start.messages", "must hold at least one message")
    for number, message in enumerate(messages):
        path = f"start.messages[{number}]"
        if message.role is None:
            raise InvalidFieldError(f"{path}.role", "must be ROLE_SYSTEM, ROLE_USER or ROLE_ASSISTANT")
        if not message.parts:
            raise InvalidFieldError(f"{path}.parts", "must hold at least one part")
        for part_number, part in enumerate(message.parts):
            _check_part(part, message.role, f"{path}.parts[{part_number}]", limits)
    last = messages[-1]
    path = f"start.messages[{len(messages) - 1}]"
    if last.role is not Role.USER:
        raise InvalidFieldError(f"{path}.role", "the last message must be ROLE_USER")
    if not last.text.strip() and not any(isinstance(part, ImagePart) for part in last.parts):
        raise InvalidFieldError(f"{path}.parts", "the last message is empty; it needs text or a picture")
    chars = sum(
        len(part.text) for message in messages for part in message.parts if isinstance(part, TextPart)
    )
    if chars > limits.message_chars:
        raise InvalidFieldError(
            "start.messages", f"hold {chars} characters of text; at most {limits.message_chars}"
        )


def _check_part(part: Part | None, role: Role, path: str, limits: Limits) -> None:
    if part is None:
        raise InvalidFieldError(path, "must be text or a picture")
    if isinstance(part, TextPart):
        return
    if role is not Role.USER:
        raise InvalidFieldError(f"{path}.image", "only a message of ROLE_USER may hold a picture")
    if part.url:
        if not part.url.startswith(("https://", "data:image/")):
            raise InvalidFieldError(f"{path}.image.url", "must begin with https:// or data:image/")
        size, unit, where = len(part.url), "characters", "url"
    else:
        if not part.data:
            raise InvalidFieldError(f"{path}.image", "must have data or a url")
        kind, slash, subtype = part.media_type.partition("/")
        if kind != "image" or not slash or not subtype.replace("+", "").replace("-", "").isalnum():
            raise InvalidFieldError(
                f"{path}.image.media_type", 'must be the media type of a picture, for example "image/png"'
            )
        size, unit, where = len(part.data), "bytes", "data"
    if size > limits.image_bytes:
        raise InvalidFieldError(
            f"{path}.image.{where}", f"has {size} {unit}; a picture may have {limits.image_bytes}"
        )


def _check_parameters(parameters: Parameters) -> None:
    path = "start.parameters"
    if parameters.max_tokens is not None and parameters.max_tokens < 1:
        raise InvalidFieldError(f"{path}.max_tokens", "must be at least 1")
    temperature = parameters.temperature
    if temperature is not None and not (math.isfinite(temperature) and 0 <= temperature <= 2):
        raise InvalidFieldError(f"{path}.temperature", f"is {temperature}; must be 0 to 2")
    top_p = parameters.top_p
    if top_p is not None and not (math.isfinite(top_p) and 0 < top_p <= 1):
        raise InvalidFieldError(f"{path}.top_p", f"is {top_p}; must be above 0 and at most 1")
    if len(parameters.stop) > MAX_STOPS:
        raise InvalidFieldError(f"{path}.stop", f"holds {len(parameters.stop)} texts; at most {MAX_STOPS}")
    for number, stop in enumerate(parameters.stop):
        if not 0 < len(stop) <= MAX_STOP_CHARS:
            raise InvalidFieldError(f"{path}.stop[{number}]", f"must have 1 to {MAX_STOP_CHARS} characters")
